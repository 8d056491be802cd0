"""The network of an experiment: built anew, or loaded as it was trained."""

from __future__ import annotations

import dataclasses

import numpy as np
from absl import logging

from harmonic_tf.anchors import best_iou
from harmonic_tf.backend import keras, layers_in, plain
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.inspection.fit import AnchorFit, anchor_flags
from harmonic_tf.data.inspection.survey import objects_of
from harmonic_tf.evaluation import Calibration
from harmonic_tf.models import (
    CATALOG,
    DetectionDecoder,
    JointDetector,
    build_backbone,
    load_detector,
)
from harmonic_tf.training.settings import DecoderSettings, ModelSettings

_MATCHED = 0.9  # share of the objects below which anchors do not fit well


@plain
def build_model(settings: ModelSettings, num_classes: int, image_size: int | None) -> JointDetector:
    """Builds the network, untrained but for the backbone's weights where given.

    Args:
        settings: the network's choices.
        num_classes: number of classes.
        image_size: side of the square input, pixels; None leaves it open.

    Returns:
        The model, with boxes as xyxy.
    """
    entry = CATALOG[settings.name]
    backbone = build_backbone(
        settings.backbone or entry.backbone,
        image_size,
        settings.backbone_weights,
        narrow=entry.normalizes,
    )
    if settings.freeze_batch_norm:
        for layer in layers_in(backbone):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    choices = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    del choices["backbone"]
    return entry.build(backbone, num_classes, build_decoder(settings.decoder), **choices)


def with_fitting_anchors(
    settings: ModelSettings, train: DetectionData, image_size: int
) -> ModelSettings:
    """The network's choices with anchors that fit the data, where they are to be fitted.

    Says how many of the objects the anchors match, and warns where they are few.

    Args:
        settings: the network's choices.
        train: what it is trained on.
        image_size: side of the square input, pixels.
    """
    if not CATALOG[settings.name].has_anchors:
        return settings
    objects = objects_of(train.annotations, image_size)
    grid, threshold = settings.anchors, settings.positive_iou
    if settings.fit_anchors:
        fit = AnchorFit.measure(grid, objects, image_size, threshold)
        grid, overlaps = fit.suggested, fit.suggested_overlaps
    else:
        overlaps = best_iou(grid, objects.seen, image_size, image_size)
    matched = float(np.mean(overlaps >= threshold))
    logging.info("Anchors match %.1f %% of the objects: %s", 100 * matched, anchor_flags(grid))
    if matched < _MATCHED:
        logging.warning(
            "Anchors overlap only %.0f %% of the objects by %g or more; the others are learned by "
            "their best anchor alone. A larger --image_size, more --anchor_scales or a lower "
            "--positive_iou matches more.",
            100 * matched,
            threshold,
        )
    return dataclasses.replace(settings, anchors=grid, fit_anchors=False)


def build_decoder(settings: DecoderSettings) -> DetectionDecoder:
    """Builds the layer that turns dense predictions into detections."""
    return DetectionDecoder(**dataclasses.asdict(settings))


def load_model(
    path: str,
    decoder: DecoderSettings | None = None,
    calibration: Calibration | None = None,
) -> JointDetector:
    """Loads a trained model for detection, in the precision now in force.

    Args:
        path: a `.keras` checkpoint.
        decoder: thresholds to use in place of the saved ones.
        calibration: what its scores are to be read as, such as `RunDirectory.calibration()` of a
            run's `best`; None leaves it to what is saved in the file, which in a run is nothing.

    Returns:
        The model, not compiled.

    Raises:
        ModelFileError: the file is damaged, or holds no detector; see `load_detector`.
        OSError: it cannot be read.
    """
    model = load_detector(path)
    saved = model.prediction_decoder
    table = getattr(saved, "calibration", None) if calibration is None else calibration.table
    if decoder is not None or calibration is not None:
        chosen = saved if decoder is None else build_decoder(decoder)
        model.prediction_decoder = chosen.calibrated_by(table)
    return model

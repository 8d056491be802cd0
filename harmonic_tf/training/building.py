"""The network of an experiment: built anew, or loaded as it was trained."""

from __future__ import annotations

import dataclasses

from harmonic_tf.backend import keras, plain
from harmonic_tf.models import CATALOG, DetectionDecoder, JointDetector, build_backbone
from harmonic_tf.training.settings import DecoderSettings, ModelSettings


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
        settings.backbone or entry.backbone, image_size, settings.backbone_weights
    )
    if settings.freeze_batch_norm:
        for layer in backbone.submodules:  # `layers` does not show those inside of blocks
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    choices = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    del choices["backbone"]
    return entry.build(backbone, num_classes, build_decoder(settings.decoder), **choices)


def build_decoder(settings: DecoderSettings) -> DetectionDecoder:
    """Builds the layer that turns dense predictions into detections."""
    return DetectionDecoder(**dataclasses.asdict(settings))


@plain
def load_model(path: str, decoder: DecoderSettings | None = None) -> JointDetector:
    """Loads a trained model for detection, in the precision now in force.

    Args:
        path: a `.keras` checkpoint.
        decoder: thresholds to use in place of the saved ones.

    Returns:
        The model, not compiled.
    """
    model = keras.models.load_model(path, compile=False)
    if decoder is not None:
        model.prediction_decoder = build_decoder(decoder)
    return model

"""The wiring: data, model and loss of an experiment, from the first check to the last report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging

from harmonic_tf.backend import keras, tf
from harmonic_tf.data import checks, sources
from harmonic_tf.data.example import DetectionData, Problem
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.images.decoding import picture
from harmonic_tf.data.scenes import rendering
from harmonic_tf.evaluation import (
    Detections,
    GroundTruth,
    evaluate,
    lrp_optimal_thresholds,
    read_detections,
    write_detections,
    write_metrics,
    write_reports,
)
from harmonic_tf.models import (
    FPN_DEPTHS,
    DetectionDecoder,
    HarmonicRetinaNet,
    HarmonicYOLOV8Detector,
    JointDetector,
    build_backbone,
)
from harmonic_tf.training.inference import (
    Found,
    before_and_after_function,
    detect,
    detect_before_and_after,
    ground_truth_of,
    prediction_function,
)
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import (
    DataSettings,
    DecoderSettings,
    ModelSettings,
    SceneSettings,
)


@dataclasses.dataclass(frozen=True)
class Splits:
    """The parts of a data set that a run needs; `val` is None where nothing is chosen by it."""

    train: DetectionData
    val: DetectionData | None
    test: DetectionData

    @property
    def skipped(self) -> list[Problem]:
        """What was left out of any of them."""
        splits = (split for split in (self.train, self.val, self.test) if split is not None)
        return [problem for split in splits for problem in split.skipped]


def render_scenes(dataset: str, settings: SceneSettings) -> None:
    """Renders the splits of a `scenes:PATH` data set that are not there yet.

    Args:
        dataset: `"KIND:PATH"`, or several, joined by commas; other kinds are left alone.
        settings: pictures per split, size and seed.

    Raises:
        DataError: when the folder holds scenes of other settings or cannot be written.
    """
    for part in sources.parts(dataset):
        kind, _, path = part.partition(":")
        if kind != "scenes":
            continue
        for offset, (split, count) in enumerate(settings.counts.items()):
            size = (settings.size, settings.size)
            rendering.render(f"{path}/{split}", count, settings.seed + offset, size)


def load_split(
    settings: DataSettings, split: str, class_names: Sequence[str] | None
) -> DetectionData:
    """Reads and checks one split, pictures included.

    Args:
        settings: what to read.
        split: which part of it.
        class_names: index by name; None takes the classes that the data names.

    Returns:
        The split, with what was skipped listed in it.

    Raises:
        DataError: for the first thing that is wrong, unless skipping is asked for; or for more
            that is wrong than may be skipped.
    """
    data = sources.load(settings.dataset, split, class_names, settings.on_bad_example)
    data = check_pictures(data, settings.on_bad_example, settings.max_pixels)
    checks.check_bad_fraction(data, settings.max_bad_fraction)
    objects = sum(len(annotation.boxes) for annotation in data.annotations)
    logging.info(
        "%s: %d pictures, %d objects, %d classes, %d bad examples skipped.",
        data.name,
        len(data.annotations),
        objects,
        len(data.class_names),
        len(data.skipped),
    )
    for cause, count in checks.count_by_cause(data.skipped).items():
        first = next(problem for problem in data.skipped if problem.problem == cause)
        logging.warning("Skipped %d: %s. The first: %s", count, cause, first)
    return data


def load_splits(settings: DataSettings) -> Splits:
    """Reads and checks everything a run needs, before anything is trained.

    Args:
        settings: what to read.

    Returns:
        The splits; all have the classes of the first.

    Raises:
        DataError: for the first thing that is wrong, unless skipping is asked for.
    """
    render_scenes(settings.dataset, settings.scenes)
    train = load_split(settings, settings.train_split, settings.class_names)
    names = train.class_names
    val = load_split(settings, settings.val_split, names) if settings.val_split else None
    return Splits(train, val, load_split(settings, settings.test_split, names))


def build_model(settings: ModelSettings, num_classes: int, image_size: int | None) -> JointDetector:
    """Builds the network, untrained but for the backbone's weights where given.

    Args:
        settings: the network's choices.
        num_classes: number of classes.
        image_size: side of the square input, pixels; None leaves it open.

    Returns:
        The model, with boxes as xyxy.
    """
    own_backbone = settings.name if settings.name in FPN_DEPTHS else "resnet50"
    backbone = build_backbone(
        settings.backbone or own_backbone, image_size, settings.backbone_weights
    )
    if settings.freeze_batch_norm:
        for layer in backbone.submodules:  # `layers` does not show those inside of blocks
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    decoder = build_decoder(settings.decoder)
    if settings.name in FPN_DEPTHS:
        return HarmonicYOLOV8Detector(
            backbone,
            num_classes,
            bounding_box_format="xyxy",
            fpn_depth=FPN_DEPTHS[settings.name],
            prediction_decoder=decoder,
        )
    return HarmonicRetinaNet(
        backbone,
        num_classes,
        bounding_box_format="xyxy",
        anchors=settings.anchors,
        channels=settings.channels,
        head_depth=settings.head_depth,
        positive_iou=settings.positive_iou,
        negative_iou=settings.negative_iou,
        prediction_decoder=decoder,
    )


def build_decoder(settings: DecoderSettings) -> DetectionDecoder:
    """Builds the layer that turns dense predictions into detections."""
    return DetectionDecoder(**dataclasses.asdict(settings))


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


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A detector on the pictures of a split: what was to be found, what was, and how good that is.

    Args:
        data: the split.
        truth: its objects.
        found: the detections.
        candidates: what there was before NMS, where that is known.
        metrics: see `harmonic_tf.evaluation.evaluate`.
    """

    data: DetectionData
    truth: GroundTruth
    found: Detections
    candidates: Detections | None
    metrics: Mapping[str, Mapping]


def measure(
    model: JointDetector,
    data: DetectionData,
    image_size: int,
    batch_size: int,
    val: DetectionData | None = None,
) -> Measurement:
    """Measures a model on a split.

    Args:
        model: a trained model.
        data: the split.
        image_size: side of the model's input, pixels.
        batch_size: pictures per step.
        val: the validation split, by which the scores are chosen from which on detections count
            in the calibration errors; None, or the measured split, chooses by that itself.
    """
    start = time.perf_counter()
    thresholds = _operating_points(prediction_function(model), data, val, image_size, batch_size)
    predict = before_and_after_function(model)
    candidates, found = detect_before_and_after(predict, data, image_size, batch_size)
    logging.info("Detected in %.1f s.", time.perf_counter() - start)
    truth = ground_truth_of(data)
    nms_iou = model.prediction_decoder.iou_threshold
    metrics = evaluate(truth, found, thresholds, candidates, nms_iou)
    return Measurement(data, truth, found, candidates, metrics)


def measure_predictions(
    predict: Callable[[tf.Tensor], Found],
    data: DetectionData,
    image_size: int,
    batch_size: int,
    val: DetectionData | None = None,
) -> Measurement:
    """As `measure`, of anything that detects as a model does; what is before NMS is not known.

    Args:
        predict: see `harmonic_tf.training.inference.detect`.
        data: the split.
        image_size: side of the pictures that it takes, pixels.
        batch_size: pictures per step.
        val: see `measure`.
    """
    thresholds = _operating_points(predict, data, val, image_size, batch_size)
    found = detect(predict, data, image_size, batch_size)
    truth = ground_truth_of(data)
    return Measurement(data, truth, found, None, evaluate(truth, found, thresholds))


def _operating_points(
    predict: Callable[[tf.Tensor], Found],
    data: DetectionData,
    val: DetectionData | None,
    image_size: int,
    batch_size: int,
) -> np.ndarray | None:
    """The scores from which on detections count, by the validation split if it is another one."""
    if val is None or val.name == data.name:
        return None
    found = detect(predict, val, image_size, batch_size)
    return lrp_optimal_thresholds(ground_truth_of(val), found)


def measure_results(data: DetectionData, file: str) -> Measurement:
    """Measures what any detector found.

    Args:
        data: the split that it was run on.
        file: its detections as COCO results; category ids are those of the annotation file where
            that has some, else 1 for the first class, 2 for the second, and so on.

    Raises:
        ResultsError: when the file cannot be taken.
    """
    truth = ground_truth_of(data)
    found = read_detections(file, truth, data.category_ids, progress=True)
    return Measurement(data, truth, found, None, evaluate(truth, found))


def report(
    run: RunDirectory,
    measurement: Measurement,
    settings: Mapping[str, str],
    skipped: Sequence[str],
    sheet_pictures: int,
) -> None:
    """Writes what a person wants to see of a measured model into a folder.

    Args:
        run: folder to write `metrics.json`, `detections.json`, `report.md`, `report.html` and the
            pictures into.
        measurement: what `measure` gave.
        settings: what the model was made with, for the report.
        skipped: what was left out of the data because it was bad.
        sheet_pictures: pictures on the sheet of detections.
    """
    data, truth, found = measurement.data, measurement.truth, measurement.found
    write_detections(run.file("detections.json"), truth, found, data.category_ids)
    write_reports(
        run.path,
        f"Detections on {data.name}",
        measurement.metrics,
        truth,
        found,
        measurement.candidates,
        picture=lambda index: picture(data.annotations[index]),
        sheet_pictures=range(min(sheet_pictures, len(data.annotations))),
        settings=settings,
        skipped=skipped,
    )
    # Last, as its presence says that a run is finished.
    write_metrics(run.file("metrics.json"), measurement.metrics)

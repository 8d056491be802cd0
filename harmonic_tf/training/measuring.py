"""A trained detector on the pictures of a split: how good it is, and the report that says so."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images.decoding import picture
from harmonic_tf.evaluation import (
    Calibration,
    Detections,
    GroundTruth,
    evaluate,
    lrp_optimal_thresholds,
    read_detections,
    write_detections,
    write_metrics,
    write_reports,
)
from harmonic_tf.models import JointDetector
from harmonic_tf.training.inference import (
    Found,
    before_and_after_function,
    detect,
    detect_before_and_after,
    ground_truth_of,
)
from harmonic_tf.training.run_directory import RunDirectory


class Validated(NamedTuple):
    """What a detector found in a validation split, with its own scores.

    Args:
        name: of the split.
        truth: its objects.
        found: the detections.
    """

    name: str
    truth: GroundTruth
    found: Detections


def validated(
    predict: Callable[[tf.Tensor], Found],
    val: DetectionData | None,
    image_size: int,
    batch_size: int,
) -> Validated | None:
    """Detects on a validation split; None where there is none.

    Args:
        predict: see `harmonic_tf.training.inference.detect`.
        val: the split.
        image_size: side of the pictures that it takes, pixels.
        batch_size: pictures per step.
    """
    if val is None:
        return None
    return Validated(val.name, ground_truth_of(val), detect(predict, val, image_size, batch_size))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A detector on the pictures of a split: what was to be found, what was, and how good that is.

    Args:
        data: the split.
        truth: its objects.
        found: the detections.
        candidates: what there was before NMS, with raw scores, where that is known.
        metrics: see `harmonic_tf.evaluation.evaluate`; with a calibration also "calibrated_by": its
            method and the split that it was fitted on.
        raw: the detections with raw scores, where those of `found` are calibrated.
    """

    data: DetectionData
    truth: GroundTruth
    found: Detections
    candidates: Detections | None
    metrics: Mapping[str, Mapping]
    raw: Detections | None = None


def measure(
    model: JointDetector,
    data: DetectionData,
    image_size: int,
    batch_size: int,
    val: Validated | None = None,
    calibration: Calibration | None = None,
) -> Measurement:
    """Measures a model on a split.

    Args:
        model: a trained model.
        data: the split.
        image_size: side of the model's input, pixels.
        batch_size: pictures per step.
        val: what the model finds in the validation split, by which the scores are chosen from which
            on detections count in the calibration errors; None, or the measured split, chooses by
            that itself.
        calibration: what the model's scores are to be read as; None leaves them as they are.
    """
    start = time.perf_counter()
    predict = before_and_after_function(model)
    candidates, raw = detect_before_and_after(predict, data, image_size, batch_size)
    logging.info("Detected in %.1f s.", time.perf_counter() - start)
    truth, nms_iou = ground_truth_of(data), model.prediction_decoder.iou_threshold
    return _measured(data, truth, raw, candidates, nms_iou, val, calibration)


def measure_found(
    data: DetectionData,
    found: Detections,
    val: Validated | None = None,
    calibration: Calibration | None = None,
) -> Measurement:
    """As `measure`, of what was found already.

    Args:
        data: the split.
        found: what was found in it, with raw scores.
        val: see `measure`.
        calibration: see `measure`.
    """
    return _measured(data, ground_truth_of(data), found, None, None, val, calibration)


def _measured(
    data: DetectionData,
    truth: GroundTruth,
    raw: Detections,
    candidates: Detections | None,
    nms_iou: float | None,
    val: Validated | None,
    calibration: Calibration | None,
) -> Measurement:
    own = _operating_points(data, val)
    if calibration is None:
        metrics = evaluate(truth, raw, own, candidates, nms_iou)
        return Measurement(data, truth, raw, candidates, metrics)
    found, points = calibration(raw), _operating_points(data, val, calibration)
    metrics = {
        **evaluate(truth, found, points, candidates, nms_iou, raw, own),
        "calibrated_by": {"method": calibration.method, "fitted_on": calibration.fitted_on},
    }
    return Measurement(data, truth, found, candidates, metrics, raw)


def measure_predictions(
    predict: Callable[[tf.Tensor], Found],
    data: DetectionData,
    image_size: int,
    batch_size: int,
    val: Validated | None = None,
) -> Measurement:
    """As `measure`, of anything that detects as a model does; what is before NMS is not known.

    Args:
        predict: see `harmonic_tf.training.inference.detect`.
        data: the split.
        image_size: side of the pictures that it takes, pixels.
        batch_size: pictures per step.
        val: see `measure`.
    """
    found = detect(predict, data, image_size, batch_size)
    truth = ground_truth_of(data)
    return Measurement(
        data, truth, found, None, evaluate(truth, found, _operating_points(data, val))
    )


def _operating_points(
    data: DetectionData, val: Validated | None, calibration: Calibration | None = None
) -> np.ndarray | None:
    """The scores from which on detections count, by the validation split if it is another one."""
    if val is None or val.name == data.name:
        return None
    found = val.found if calibration is None else calibration(val.found)
    return lrp_optimal_thresholds(val.truth, found)


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
    data = measurement.data
    _write_detections(run.file("detections.json"), measurement)
    write_reports(
        run.path,
        f"Detections on {data.name}",
        measurement.metrics,
        measurement.truth,
        measurement.found,
        measurement.candidates,
        picture=lambda index: picture(data.annotations[index]),
        sheet_pictures=range(min(sheet_pictures, len(data.annotations))),
        settings=settings,
        skipped=skipped,
        raw=measurement.raw,
    )
    # Last, as its presence says that a run is finished.
    write_metrics(run.metrics_file, measurement.metrics)


def keep(folder: str, measurement: Measurement) -> None:
    """Writes what of a measured model is for machines alone.

    Args:
        folder: that takes `metrics.json` and `detections.json`; made if missing.
        measurement: what `measure` gave.
    """
    os.makedirs(folder, exist_ok=True)
    _write_detections(os.path.join(folder, "detections.json"), measurement)
    write_metrics(os.path.join(folder, "metrics.json"), measurement.metrics)


def _write_detections(path: str, measurement: Measurement) -> None:
    data = measurement.data
    write_detections(path, measurement.truth, measurement.found, data.category_ids)

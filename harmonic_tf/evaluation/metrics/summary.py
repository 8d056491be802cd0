"""All numbers of a set of detections, and the file that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.calibration import calibration, calibration_and_ap
from harmonic_tf.evaluation.metrics.coco import coco_evaluation
from harmonic_tf.evaluation.metrics.consistency import consistency
from harmonic_tf.evaluation.metrics.groups import by_group
from harmonic_tf.evaluation.metrics.ranking import ranking_cost
from harmonic_tf.evaluation.metrics.suppression import ranking_before_nms, suppression
from harmonic_tf.evaluation.metrics.voc import voc_map
from harmonic_tf.files import write_text


def evaluate(
    ground_truth: GroundTruth,
    detections: Detections,
    thresholds: np.ndarray | None = None,
    candidates: Detections | None = None,
    nms_iou: float | None = None,
    raw: Detections | None = None,
    raw_thresholds: np.ndarray | None = None,
) -> dict[str, dict]:
    """Measures detections in every way this package knows.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        thresholds: float [C], the scores from which on detections count in `calibration`, from
            `lrp_optimal_thresholds` of validation pictures; None takes those of these pictures.
        candidates: what was found before NMS, where that is known.
        nms_iou: overlap from which on NMS drops a candidate, in [0, 1]; to be given with them.
        raw: the detections as they were before their scores were calibrated, if they were.
        raw_thresholds: as `thresholds`, of the raw scores.

    Returns:
        {"coco": see `coco_metrics`, "coco_per_class": {class name: {"AP", "AP50", "AP75"}},
        "voc": see `voc_map`, "consistency": see `consistency`, "calibration": see `calibration`,
        "ranking": see `ranking_cost`, "groups": see `by_group`, "counts": {"pictures", "objects",
        "difficult", "crowd", "detections"}}; with candidates also "consistency_before_nms",
        "suppression": see `suppression`, and in "ranking" "before_nms": see `ranking_before_nms`;
        with raw detections "before_calibration": see `calibration_and_ap`.

    Raises:
        ValueError: see `checks.check`.
    """
    overall, per_class = coco_evaluation(ground_truth, detections)
    metrics = {
        "coco": overall,
        "coco_per_class": per_class,
        "voc": voc_map(ground_truth, detections),
        "consistency": consistency(ground_truth, detections),
        "calibration": calibration(ground_truth, detections, thresholds),
        "ranking": ranking_cost(ground_truth, detections),
        "groups": by_group(ground_truth, detections),
        "counts": {
            "pictures": len(ground_truth.image_ids),
            "objects": len(ground_truth.classes),
            "difficult": int(np.count_nonzero(ground_truth.difficult)),
            "crowd": int(np.count_nonzero(ground_truth.crowd)),
            "detections": len(detections.scores),
        },
    }
    if candidates is not None:
        metrics["consistency_before_nms"] = consistency(ground_truth, candidates)
        metrics["suppression"] = suppression(ground_truth, candidates, nms_iou)
        metrics["ranking"]["before_nms"] = ranking_before_nms(ground_truth, candidates, nms_iou)
    if raw is not None:
        metrics["before_calibration"] = calibration_and_ap(ground_truth, raw, raw_thresholds)
    return metrics


def write_metrics(path: str, metrics: Mapping) -> None:
    """Writes metrics as strict JSON, NaN as null, atomically.

    Args:
        path: file to write; its folder exists.
        metrics: nested mappings and sequences of numbers and texts.

    Raises:
        ValueError: a number is infinite.
        OSError: the folder is missing or cannot be written to.
    """
    text = json.dumps(_plain(metrics), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def _plain(value):
    """Mappings, sequences and NumPy numbers as JSON knows them; NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and math.isnan(value):
        return None
    return value

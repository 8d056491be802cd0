"""Does a detection's score say how well its box is placed?

A consistent detector gives high scores to well placed boxes and low scores to badly placed ones.

Source: Wang and Zhang, "Reconcile Prediction Consistency for Balanced Object Detection", ICCV
2021, https://arxiv.org/abs/2108.10809, which looks at score and IoU of the boxes left by NMS.
"""

from __future__ import annotations

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.matching import best_objects, pairwise_coverage

CONFIDENT = 0.5
"""From this score on a detection claims to be right."""

WELL_PLACED = 0.5
"""From this IoU on a box is right by the rule of PASCAL VOC and of COCO's AP50."""


def consistency(ground_truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """How scores and overlaps agree, over the detections of `scores_and_ious`.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, before or after NMS.

    Returns:
        See `agreement`.

    Raises:
        ValueError: see `checks.check`.
    """
    return agreement(*scores_and_ious(ground_truth, detections))


def agreement(scores: np.ndarray, ious: np.ndarray) -> dict[str, float]:
    """Five numbers on how scores and overlaps agree, and of how many.

    Args:
        scores: [K], in [0, 1].
        ious: [K], in [0, 1], of the same detections.

    Returns:
        mean_abs_gap: mean |score - IoU|, in [0, 1], smaller is better; NaN without detections.
        pearson: linear correlation of score and IoU, in [-1, 1], larger is better; NaN where
            either is constant.
        spearman: the same of their ranks (ties share their mean rank).
        confident_misplaced: share of the detections with score >= 0.5 that have IoU < 0.5, in
            [0, 1], smaller is better; NaN where no score is that high.
        unconfident_well_placed: share of the detections with IoU >= 0.5 that have score < 0.5, in
            [0, 1], smaller is better; NaN where no IoU is that high.
        detections: K.
    """
    confident, well_placed = scores >= CONFIDENT, ious >= WELL_PLACED
    return {
        "mean_abs_gap": _mean(np.abs(scores - ious)),
        "pearson": pearson(scores, ious),
        "spearman": pearson(average_ranks(scores), average_ranks(ious)),
        "confident_misplaced": _mean(~well_placed[confident]),
        "unconfident_well_placed": _mean(~confident[well_placed]),
        "detections": len(scores),
    }


def scores_and_ious(
    ground_truth: GroundTruth, detections: Detections
) -> tuple[np.ndarray, np.ndarray]:
    """Each detection's score beside its best IoU with an object of its class in its picture.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, before or after NMS.

    Returns:
        Scores and IoUs, float64 [K] each, K <= D, of the detections that count by `placement`, in
        the order of `detections`.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, detections)
    ious, counted = placement(ground_truth, detections)
    return detections.scores[counted].astype(np.float64), ious[counted]


def placement(ground_truth: GroundTruth, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """How well each detection lies: its best IoU with an object of its class in its picture.

    Difficult objects are objects like any other here: the question is where a box lies, not
    whether it had to be found. A crowd region says only that objects are somewhere in it, so it
    offers no IoU: a detection with at least half of its area inside one of its class, and without
    IoU 0.5 with any object, does not count.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, before or after NMS.

    Returns:
        IoUs, float64 [D], 0 where the picture has no object of the class; and which detections
        count, bool [D].
    """
    ious, _ = best_objects(ground_truth, detections, ~ground_truth.crowd)
    coverage, _ = best_objects(ground_truth, detections, ground_truth.crowd, pairwise_coverage)
    return ious, (coverage < WELL_PLACED) | (ious >= WELL_PLACED)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two samples.

    Args:
        x: [K].
        y: [K].

    Returns:
        In [-1, 1]; NaN where either is constant, up to differences whose squares are 0, or empty.
    """
    if any(len(values) == 0 or np.ptp(values) == 0 or np.std(values) == 0 for values in (x, y)):
        return float("nan")
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, where equal values share the mean of their ranks.

    Args:
        values: [K].

    Returns:
        float64 [K], in the order of `values`.
    """
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(counts)
    return (last_ranks - (counts - 1) / 2)[groups]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")

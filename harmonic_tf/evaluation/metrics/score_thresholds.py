"""Precision and recall as functions of the score from which on detections are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.coco_matching import match


class PrecisionRecall(NamedTuple):
    """What there is at each of T thresholds on scores, of all classes together.

    Args:
        precision: float64 [T], the share of the detections shown that find an object; NaN where
            none is shown.
        recall: float64 [T], the share of the objects that are found; NaN where there are none.
    """

    precision: np.ndarray
    recall: np.ndarray


def precision_recall_by_score(
    ground_truth: GroundTruth,
    detections: Detections,
    score_thresholds: Sequence[float],
    iou_threshold: float = 0.5,
) -> PrecisionRecall:
    """Precision and recall of the detections whose scores reach a threshold.

    Detections find objects as COCO has it, see `coco_matching.match`: each takes one that those
    with higher scores have left, so what is below a threshold changes nothing above it.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them.
        score_thresholds: T scores; detections of this score and above are shown.
        iou_threshold: the overlap from which on an object is found, in [0, 1].

    Returns:
        Both, at each threshold.

    Raises:
        ValueError: see `coco_matching.match`.
    """
    matches = match(ground_truth, detections, [iou_threshold])
    counts = matches.counted & ~matches.ignored[0]
    hits = counts & (matches.rows[0] >= 0)
    shown, found = (_reaching(detections.scores[rows], score_thresholds) for rows in (counts, hits))
    objects = np.full(len(shown), np.count_nonzero(matches.wanted))
    return PrecisionRecall(_share(found, shown), _share(found, objects))


def _reaching(scores: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """How many scores reach each threshold, int64 [T]."""
    ascending = np.sort(scores.astype(np.float64))
    return len(scores) - np.searchsorted(ascending, thresholds, side="left")


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)

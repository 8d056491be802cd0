"""COCO's average precision from matches, fast enough to be taken of thousands of resamples.

Source: `COCOeval.accumulate` of pycocotools, https://github.com/cocodataset/cocoapi.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.coco_matching import Matches

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads the precision off a curve."""


@dataclasses.dataclass(frozen=True)
class _Class:
    """What the average precision of one class is made of.

    Only M detections are looked at, those that find something at one threshold at least: recall
    and the best precision at a recall or more can change there alone.

    Args:
        objects: int64 [N], picture of each object that is asked for.
        alarms: int64 [A], picture of each detection that is a false positive unless it finds
            something, in descending score.
        found: int64 [M], picture of each detection that finds something, in descending score.
        alarms_before: int64 [M], how many of `alarms` come before it or are itself.
        hits: bool [T, M], it is a true positive.
        spared: bool [T, M], it is one of `alarms` and finds something.
    """

    objects: np.ndarray
    alarms: np.ndarray
    found: np.ndarray
    alarms_before: np.ndarray
    hits: np.ndarray
    spared: np.ndarray


class AveragePrecision:
    """Average precision as a function of how often each picture counts.

    What does not depend on that is worked out once.

    Args:
        ground_truth: P pictures, C classes.
        detections: what was found in them.
        matches: of these two, at T thresholds; see `coco_matching.match`.
    """

    def __init__(self, ground_truth: GroundTruth, detections: Detections, matches: Matches):
        self._pictures = len(ground_truth.image_ids)
        self._thresholds = len(matches.rows)
        finds = matches.rows >= 0
        finds_once = finds.any(axis=0)
        is_alarm = ~(matches.ignored & ~finds).any(axis=0)
        self._classes = []
        for k, rows in enumerate(_rows_by_class(ground_truth, detections, matches)):
            alarms = np.cumsum(is_alarm[rows])
            places = np.flatnonzero(finds_once[rows])
            found = rows[places]
            self._classes.append(
                _Class(
                    objects=ground_truth.image_index[matches.wanted & (ground_truth.classes == k)],
                    alarms=detections.image_index[rows[is_alarm[rows]]],
                    found=detections.image_index[found],
                    alarms_before=alarms[places],
                    hits=finds[:, found] & ~matches.ignored[:, found],
                    spared=finds[:, found] & is_alarm[found],
                )
            )

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """The average precision where each picture counts so often.

        Args:
            weights: int or float [P], from 0; 1 each by default. A picture of weight 2 counts as
                if it were there twice.

        Returns:
            float64 [T, C], in [0, 1]: the mean over `RECALLS` of the best precision at that
            recall or more; NaN for a class without objects that are asked for.
        """
        weights = np.ones(self._pictures) if weights is None else np.asarray(weights, np.float64)
        result = np.full((self._thresholds, len(self._classes)), np.nan)
        for k, own in enumerate(self._classes):
            total = weights[own.objects].sum()
            if total > 0:
                alarms = np.append(0, np.cumsum(weights[own.alarms]))[own.alarms_before]
                true = np.cumsum(weights[own.found] * own.hits, axis=1)
                false = alarms - np.cumsum(weights[own.found] * own.spared, axis=1)
                result[:, k] = _interpolated(true / total, _precision(true, false))
        return result


def average_precision(
    ground_truth: GroundTruth,
    detections: Detections,
    matches: Matches,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """COCO's average precision, 101 points, per threshold and class; see `AveragePrecision`.

    Args:
        ground_truth: P pictures, C classes.
        detections: what was found in them.
        matches: of these two, at T thresholds; see `coco_matching.match`.
        weights: [P], how often each picture counts; 1 each by default.

    Returns:
        float64 [T, C], in [0, 1]; NaN for a class without objects that are asked for. See
        `mean_average_precision`.
    """
    return AveragePrecision(ground_truth, detections, matches)(weights)


def mean_average_precision(precision: np.ndarray) -> float:
    """The mean over thresholds and classes that COCO reports.

    Args:
        precision: as of `average_precision`, or some of its rows or columns.

    Returns:
        In [0, 1], the mean of what is not NaN; NaN where nothing is.
    """
    known = precision[~np.isnan(precision)]
    return float(known.mean()) if known.size else float("nan")


def precision_recall(
    ground_truth: GroundTruth,
    detections: Detections,
    matches: Matches,
    threshold_index: int,
    class_index: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One class's precision against its recall, as the threshold on scores is lowered.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them.
        matches: of these two; see `coco_matching.match`.
        threshold_index: which of the IoU thresholds of `matches`.
        class_index: which class.

    Returns:
        Recall (ascending), precision, both float64 [K] in [0, 1], and score (descending), float64
        [K]: one entry for each detection that counts, ignored ones left out. All empty for a class
        without objects that are asked for.
    """
    total = np.count_nonzero(matches.wanted & (ground_truth.classes == class_index))
    rows = _rows_by_class(ground_truth, detections, matches)[class_index]
    rows = rows[~matches.ignored[threshold_index, rows]] if total else rows[:0]
    hits = matches.rows[threshold_index, rows] >= 0
    true, false = np.cumsum(hits), np.cumsum(~hits)
    return true / max(total, 1), _precision(true, false), detections.scores[rows].astype(np.float64)


def _rows_by_class(
    ground_truth: GroundTruth, detections: Detections, matches: Matches
) -> list[np.ndarray]:
    """`matches.order`, cut into its classes."""
    starts = np.arange(len(ground_truth.class_names))
    bounds = np.searchsorted(detections.classes[matches.order], [*starts, len(starts)])
    return [matches.order[start:end] for start, end in zip(bounds[:-1], bounds[1:])]


def _precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    return true / (true + false + np.spacing(1))  # 0 where there is neither, as in pycocotools


def _interpolated(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Mean over `RECALLS` of the best precision at that recall or more, [T] of [T, K]."""
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.append(best, np.zeros((len(best), 1)), axis=1)  # recalls that are never reached
    at = [np.searchsorted(row, RECALLS, side="left") for row in recall]
    return np.take_along_axis(best, np.array(at).reshape(len(best), -1), axis=1).mean(axis=1)

"""Does a score of 0.8 mean an overlap of 0.8? And how good is the detector where it is used?

Two errors and the operating point they are taken at, as Kuzucu et al. propose to judge detectors:
LaECE and LaACE, how far scores are from overlaps, and LRP, which counts false alarms, misses and
bad boxes together. All three pair detections with objects as COCO does, each object once, at IoU
threshold tau = 0: every overlap counts for what it is.

Source: Kuzucu, Oksuz, Sadeghi and Dokania, "On Calibration of Object Detectors: Pitfalls,
Evaluation and Baselines", ECCV 2024, https://arxiv.org/abs/2405.20459, and their tool,
https://github.com/fiveai/detection_calibration; LRP: Oksuz et al., "One Metric to Measure them
All", TPAMI 2022, https://arxiv.org/abs/2011.10772. `docs/evaluation.md` lists where their tool
counts otherwise.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import (
    average_precision,
    mean_average_precision,
)
from harmonic_tf.evaluation.metrics.coco_matching import match

BINS = 25
"""Of equal width, for LaECE; the paper's."""

# tau = 0, but boxes have to touch: the smallest IoU above 0.
_TOUCHING = float(np.finfo(np.float64).tiny)


def lrp_optimal_thresholds(ground_truth: GroundTruth, detections: Detections) -> np.ndarray:
    """For each class the score from which on detections should be shown: where LRP is least.

    Chosen on validation pictures, they are where a detector is used and measured on others.

    Args:
        ground_truth: annotated validation pictures.
        detections: what was found in them.

    Returns:
        float64 [C], the greatest such score of each class; NaN where there is none to choose,
        because no detection of the class touches an object.

    Raises:
        ValueError: see `checks.check`.
    """
    classes = paired_by_class(ground_truth, detections)
    return np.array([optimal_threshold(found) for found in classes])


def calibration(
    ground_truth: GroundTruth, detections: Detections, thresholds: np.ndarray | None = None
) -> dict[str, object]:
    """LaECE, LaACE and LRP, means over the classes that have objects to find.

    Of a class with TP true and FP false positives at or above its threshold and FN objects missed:

    - LaECE: in each of 25 bins of the score, |mean score - mean IoU| (IoU 0 for a false positive),
      weighted by the bin's share of the detections. LaACE: mean |score - IoU|, without bins.
    - LRP: (sum of 1 - IoU over the true positives + FP + FN) / (TP + FP + FN). Its parts: LRP_loc,
      mean 1 - IoU of the true positives; LRP_fp, FP / (TP + FP); LRP_fn, FN / (TP + FN).

    Detections that find a crowd region or a difficult object, and those beyond the 100 best of a
    class in a picture, do not count.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        thresholds: [C], the lowest score of each class that counts, those of
            `lrp_optimal_thresholds` on validation pictures; NaN keeps all of a class. None takes
            the ones that are best for these same detections, which flatters LRP.

    Returns:
        LaECE, LaACE, LRP, LRP_loc, LRP_fp, LRP_fn: in [0, 1], smaller is better. LRP is 1 for a
        class of which nothing is found. Each of the others is the mean over the classes for which
        it is defined, NaN where there is none.
        thresholds: {class name: threshold}, NaN where all detections count.
        thresholds_from: "other detections" or "the same detections".

    Raises:
        ValueError: the thresholds are not one for each class; or see `checks.check`.
    """
    classes = paired_by_class(ground_truth, detections)
    given = thresholds is not None
    if not given:
        thresholds = np.array([optimal_threshold(found) for found in classes])
    shown = _shown(classes, thresholds)
    errors = [_errors(found) for found in shown if found.objects]
    return {
        **{name: _mean([error[name] for error in errors]) for name in _ERRORS},
        "thresholds": {
            name: float(threshold) for name, threshold in zip(ground_truth.class_names, thresholds)
        },
        "thresholds_from": "other detections" if given else "the same detections",
    }


def calibration_and_ap(
    ground_truth: GroundTruth, detections: Detections, thresholds: np.ndarray | None = None
) -> dict[str, object]:
    """What a calibration changes, and what it must not: the errors, and average precision.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        thresholds: see `calibration`.

    Returns:
        As `calibration`, with COCO's "AP" and "AP50".

    Raises:
        ValueError: as `calibration`.
    """
    precision = average_precision(ground_truth, detections, match(ground_truth, detections))
    return {
        **calibration(ground_truth, detections, thresholds),
        "AP": mean_average_precision(precision),
        "AP50": mean_average_precision(precision[0]),
    }


def operating_point(
    ground_truth: GroundTruth, detections: Detections, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The scores and overlaps that LaECE compares, of all classes together.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        thresholds: [C], see `calibration`.

    Returns:
        Scores and IoUs, float64 [K] each: IoU with the object found, 0 for a false positive.

    Raises:
        ValueError: as `calibration`.
    """
    classes = _shown(paired_by_class(ground_truth, detections), thresholds)
    shown = [found for found in classes if found.objects]
    empty = np.zeros(0)
    return (
        np.concatenate([empty, *(found.scores for found in shown)]),
        np.concatenate([empty, *(found.ious for found in shown)]),
    )


def calibration_curve(
    scores: np.ndarray, ious: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score against mean overlap, bin by bin of the score: what a calibration diagram shows.

    Args:
        scores: [K], in [0, 1].
        ious: [K], in [0, 1], of the same detections.
        bins: of equal width. Each holds its upper bound and not its lower one; the first one both.

    Returns:
        Mean score and mean IoU of each bin, float64 [bins], NaN where it is empty; and how many
        detections it holds, int64 [bins].
    """
    inner_bounds = np.linspace(0, 1, bins + 1)[1:-1]
    bin_of = np.searchsorted(inner_bounds, scores, side="left")
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0
        mean_score, mean_iou = (
            np.bincount(bin_of, weights=values, minlength=bins) / counts
            for values in (scores, ious)
        )
    return mean_score, mean_iou, counts


@dataclasses.dataclass(frozen=True)
class PairedClass:
    """The detections of one class that count, in descending score, and its objects.

    Args:
        scores: float64 [K].
        ious: float64 [K], with the object found; 0 for a false positive.
        objects: how many there are to find.
    """

    scores: np.ndarray
    ious: np.ndarray
    objects: int

    @property
    def hits(self) -> np.ndarray:
        """Which are true positives, bool [K]."""
        return self.ious > 0

    def shown(self, threshold: float) -> PairedClass:
        """The class with the detections of at least this score alone; with all of them for NaN."""
        kept = ~(self.scores < threshold)
        return PairedClass(self.scores[kept], self.ious[kept], self.objects)


def paired_by_class(ground_truth: GroundTruth, detections: Detections) -> list[PairedClass]:
    """The pairs that `calibration` looks at, class by class.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.

    Raises:
        ValueError: see `checks.check`.
    """
    # Thresholds do not change who finds what: higher scores choose before lower ones.
    matches = match(ground_truth, detections, [_TOUCHING])
    rows = np.flatnonzero(matches.counted & ~matches.ignored[0])
    rows = rows[np.lexsort((-detections.scores[rows], detections.classes[rows]))]
    count = len(ground_truth.class_names)
    bounds = np.searchsorted(detections.classes[rows], np.arange(1, count))
    objects = np.bincount(ground_truth.classes[matches.wanted], minlength=count)
    return [
        PairedClass(detections.scores[own].astype(np.float64), matches.iou[0, own], int(number))
        for own, number in zip(np.split(rows, bounds), objects)
    ]


def _shown(classes: list[PairedClass], thresholds: np.ndarray) -> list[PairedClass]:
    """Leaves of each class the detections with at least its score; all of them for NaN."""
    if np.shape(thresholds) != (len(classes),):
        raise ValueError(
            f"calibration: thresholds = array of shape {np.shape(thresholds)}: ({len(classes)},) "
            "was expected. Give one for each class, in the order of class_names."
        )
    return [found.shown(threshold) for found, threshold in zip(classes, thresholds)]


def optimal_threshold(found: PairedClass) -> float:
    """The greatest score from which on LRP of a class is least; NaN where nothing is found."""
    if not found.hits.any():
        return float("nan")
    true = np.cumsum(found.hits)
    all_shown = np.arange(1, len(true) + 1)
    false, missed = all_shown - true, found.objects - true
    lrp = (true - np.cumsum(found.ious) + false + missed) / (all_shown + missed)
    ends = np.append(found.scores[1:] < found.scores[:-1], True)  # equal scores go together
    return float(found.scores[ends][np.argmin(lrp[ends])])


_ERRORS = ("LaECE", "LaACE", "LRP", "LRP_loc", "LRP_fp", "LRP_fn")


def _errors(found: PairedClass) -> dict[str, float]:
    """`_ERRORS` of a class that has objects; NaN where it has no detections to say."""
    true = int(found.hits.sum())
    false, missed = len(found.hits) - true, found.objects - true
    misplacement = true - found.ious.sum()
    mean_score, mean_iou, counts = calibration_curve(found.scores, found.ious)
    gaps = np.abs(mean_score - mean_iou)
    return {
        "LaECE": _ratio(np.nansum(counts * gaps), true + false),
        "LaACE": _ratio(np.abs(found.scores - found.ious).sum(), true + false),
        "LRP": (misplacement + false + missed) / (true + false + missed),
        "LRP_loc": _ratio(misplacement, true),
        "LRP_fp": _ratio(false, true + false),
        "LRP_fn": missed / found.objects,
    }


def _ratio(part: float, whole: int) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")

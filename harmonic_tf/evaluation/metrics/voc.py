"""PASCAL VOC mean average precision, as the VOC development kits compute it.

Source: Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, section
4.2, and the functions VOCevaldet and VOCap of the development kits of 2007 and 2012.
"""

from __future__ import annotations

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.matching import best_objects


def voc_map(
    ground_truth: GroundTruth, detections: Detections, iou_threshold: float = 0.5
) -> dict[str, object]:
    """VOC mean average precision by both of its rules.

    In descending score, each detection goes to the object of its class in its picture that it
    overlaps most. It is a true positive when that IoU reaches the threshold and no detection
    before it took the object, and a false positive otherwise. A detection that goes to a difficult
    object is neither, however many do. Recall counts the objects that are not difficult. Crowd
    regions, which VOC does not have, are treated as difficult objects.

    IoU is that of continuous coordinates: whoever reads VOC files turns their inclusive, 1-based
    pixels into xyxy, and the "+ 1" of the development kit is thereby already in the boxes.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them.
        iou_threshold: in (0, 1].

    Returns:
        {"VOC07": mean of the 11-point AP of VOC 2007 to 2009, "VOC10": mean of the all-point AP
        of VOC 2010 and later, "per_class": {class name: {"VOC07", "VOC10"}}}, all in [0, 1].
        Classes without (not difficult) objects are NaN and left out of the means.

    Raises:
        ValueError: the threshold is out of range; or see `checks.check`.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(
            f"voc_map: iou_threshold = {iou_threshold}: not in (0, 1]. Use 0.5, as VOC does."
        )
    check(ground_truth, detections)
    ignored = ground_truth.difficult | ground_truth.crowd
    iou, row = best_objects(ground_truth, detections, np.ones_like(ignored))
    to_ignored_object = np.append(ignored, False)[row]  # row -1, no object, picks the False
    by_score = np.argsort(-detections.scores, kind="stable")

    per_class = {}
    for k, name in enumerate(ground_truth.class_names):
        rows = by_score[detections.classes[by_score] == k]
        reached = iou[rows] >= iou_threshold
        neither = reached & to_ignored_object[rows]
        hits = true_positives(np.where(reached, row[rows], -1))[~neither]
        objects = int(np.count_nonzero((ground_truth.classes == k) & ~ignored))
        per_class[name] = {
            "VOC07": average_precision_11_point(hits, objects),
            "VOC10": average_precision_all_point(hits, objects),
        }
    return {
        "VOC07": _mean([values["VOC07"] for values in per_class.values()]),
        "VOC10": _mean([values["VOC10"] for values in per_class.values()]),
        "per_class": per_class,
    }


def true_positives(taken: np.ndarray) -> np.ndarray:
    """Marks the first detection that takes each object.

    Args:
        taken: int [D], in descending score: the object that each detection takes, -1 for none.

    Returns:
        bool [D].
    """
    objects, firsts = np.unique(taken, return_index=True)
    hits = np.zeros(len(taken), bool)
    hits[firsts[objects >= 0]] = True
    return hits


def average_precision_11_point(hits: np.ndarray, objects: int) -> float:
    """Mean over recalls 0, 0.1, ... 1 of the best precision at that recall or more (VOC 2007).

    Args:
        hits: bool [D], in descending score: is the detection a true positive.
        objects: how many there are to find.

    Returns:
        In [0, 1]; NaN without objects.
    """
    if objects == 0:
        return float("nan")
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    # found / objects >= k / 10, in integers: 3 of 10 objects do reach recall 0.3.
    best = [precision[10 * found >= k * objects].max(initial=0) for k in range(11)]
    return float(np.mean(best))


def average_precision_all_point(hits: np.ndarray, objects: int) -> float:
    """Area under the precision-recall curve, precision made non-increasing (VOC 2010 and later).

    Args:
        hits: bool [D], in descending score: is the detection a true positive.
        objects: how many there are to find.

    Returns:
        In [0, 1]; NaN without objects.
    """
    if objects == 0:
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / objects)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")

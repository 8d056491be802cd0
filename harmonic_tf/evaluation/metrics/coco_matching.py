"""Which detection finds which object, decided exactly as pycocotools decides it.

Source: `COCOeval.evaluateImg` of pycocotools, https://github.com/cocodataset/cocoapi.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.matching import (
    box_areas,
    candidate_pairs,
    object_areas,
    pair_overlaps,
    pairwise_coverage,
)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's AP is the mean over these."""

AREA_RANGES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e5**2)}
"""COCO's sizes of objects, pixels^2; an object right at a bound is of both sizes."""

MAX_DETECTIONS = 100
"""So many detections of a class in a picture count."""


@dataclasses.dataclass(frozen=True)
class Matches:
    """What became of D detections and N objects at T IoU thresholds.

    Args:
        rows: int64 [T, D], row of the object that a detection finds, -1 for none.
        ignored: bool [T, D], the detection counts neither for nor against: it finds an object that
            is not asked for, or nothing and is outside the range of areas.
        iou: float64 [T, D], overlap with the object found (with a crowd region or a difficult
            object, the share of the detection's own area); 0 for none.
        counted: bool [D], False for what is beyond the best detections of a class in a picture:
            it finds nothing and counts as if it were not there.
        wanted: bool [N], the objects that are asked for.
        order: int64 [K], the rows that count class by class, in descending score; of equal ones
            by picture id, then by row.
    """

    rows: np.ndarray
    ignored: np.ndarray
    iou: np.ndarray
    counted: np.ndarray
    wanted: np.ndarray
    order: np.ndarray


class Matcher:
    """Matches the same detections time and again, asking for other objects each time.

    Args:
        ground_truth: N objects.
        detections: D detections.
        max_detections: how many of a class in a picture count, those with the highest scores.

    Raises:
        ValueError: see `checks.check`.
    """

    def __init__(
        self,
        ground_truth: GroundTruth,
        detections: Detections,
        max_detections: int = MAX_DETECTIONS,
    ):
        check(ground_truth, detections)
        self._crowd = ground_truth.difficult | ground_truth.crowd
        self._object_areas = object_areas(ground_truth)
        self._detection_areas = box_areas(detections.boxes)
        order = _order(ground_truth, detections)
        self._ranks = _ranks(ground_truth, detections, order)
        self._counted = self._ranks < max_detections
        self._order = order[self._counted[order]]
        self._pairs = _pairs(ground_truth, detections, self._crowd, self._counted)

    def __call__(
        self,
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
        ignored: np.ndarray | None = None,
        area_range: tuple[float, float] | None = None,
    ) -> Matches:
        """The matches, as `match` gives them, with its arguments and its complaints."""
        thresholds = np.asarray(iou_thresholds, np.float64)
        if not np.all((thresholds >= 0) & (thresholds <= 1)):
            raise ValueError(
                f"match: iou_thresholds = {iou_thresholds}: not all in [0, 1]. Use 0.5 for 50%, "
                "say."
            )
        low, high = (0, math.inf) if area_range is None else area_range
        unwanted = self._crowd | _outside(self._object_areas, low, high)
        if ignored is not None:
            unwanted |= ignored

        thresholds = np.minimum(thresholds, 1 - 1e-10)[:, None]  # that IoU 1 be reached, as there
        of, to, overlaps = self._pairs
        reached = overlaps >= thresholds.min(initial=1)
        of, to, overlaps = of[reached], to[reached], overlaps[reached]
        # Rank by rank, the pairs of each detection with the one that it would rather have first.
        order = np.lexsort((-to, -overlaps, unwanted[to], of, self._ranks[of]))
        of, to, overlaps = of[order], to[order], overlaps[order]
        starts = np.flatnonzero(np.diff(self._ranks[of], prepend=-1))

        rows = np.full((len(thresholds), len(self._ranks)), -1, np.int64)
        iou = np.zeros(rows.shape)
        neither = np.tile(_outside(self._detection_areas, low, high), (len(rows), 1))
        taken = np.zeros((len(rows), len(unwanted)), bool)
        for start, end in zip(starts, np.append(starts[1:], len(of))):
            possible = (overlaps[start:end] >= thresholds) & ~taken[:, to[start:end]]
            at, pair = np.nonzero(possible)
            pair += start
            first = (np.diff(at, prepend=-1) != 0) | (np.diff(of[pair], prepend=-1) != 0)
            at, pair = at[first], pair[first]
            rows[at, of[pair]] = to[pair]
            iou[at, of[pair]] = overlaps[pair]
            neither[at, of[pair]] = unwanted[to[pair]]
            taken[at, to[pair]] = ~self._crowd[to[pair]]
        return Matches(rows, neither, iou, self._counted, ~unwanted, self._order)


def match(
    ground_truth: GroundTruth,
    detections: Detections,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    ignored: np.ndarray | None = None,
    area_range: tuple[float, float] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> Matches:
    """Gives each detection, in descending score, the free object that it overlaps most.

    At each threshold on its own, of the objects of its class in its picture that it overlaps by
    the threshold or more, a detection takes the one that it overlaps most, one that is asked for
    before any other, and of equal ones the later row. An object can be taken once; crowd regions
    and difficult objects can be taken again and again, and overlap with them is the share of the
    detection's own area. Of equal scores the earlier row comes first.

    At threshold 0 boxes need not touch: whatever is free is taken.

    Args:
        ground_truth: N objects.
        detections: D detections.
        iou_thresholds: T thresholds, in [0, 1].
        ignored: bool [N], objects that are not asked for, beside crowd regions and difficult ones.
        area_range: smallest and largest area of the objects that are asked for, pixels^2, both
            included; see `object_areas`. All by default.
        max_detections: how many of a class in a picture count, those with the highest scores.

    Returns:
        The matches.

    Raises:
        ValueError: a threshold is outside [0, 1]; or see `checks.check`.
    """
    return Matcher(ground_truth, detections, max_detections)(iou_thresholds, ignored, area_range)


def int_ids(image_ids: Sequence) -> list[int]:
    """The ids themselves where all are integers (pycocotools breaks ties by them), else 1..P."""
    if all(isinstance(image_id, numbers.Integral) for image_id in image_ids):
        return [int(image_id) for image_id in image_ids]
    return list(range(1, len(image_ids) + 1))


def _order(ground_truth: GroundTruth, detections: Detections) -> np.ndarray:
    """Rows class by class, in descending score; of equal ones by picture id, then by row."""
    ids = np.array(int_ids(ground_truth.image_ids), dtype=object)
    places = np.empty(len(ids), np.int64)
    places[np.argsort(ids, kind="stable")] = np.arange(len(ids))
    return np.lexsort((places[detections.image_index], -detections.scores, detections.classes))


def _ranks(ground_truth: GroundTruth, detections: Detections, order: np.ndarray) -> np.ndarray:
    """Place of each detection, from 0, among those of its class in its picture."""
    keys = detections.image_index * len(ground_truth.class_names) + detections.classes
    by_group = order[np.argsort(keys[order], kind="stable")]
    firsts = np.flatnonzero(np.diff(keys[by_group], prepend=-1))
    ranks = np.empty(len(keys), np.int64)
    ranks[by_group] = np.arange(len(keys)) - np.repeat(firsts, np.diff(firsts, append=len(keys)))
    return ranks


def _pairs(
    ground_truth: GroundTruth, detections: Detections, crowd: np.ndarray, counted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of detections that count, rows of objects, overlaps by COCO's rule: [K] each."""
    of, to = candidate_pairs(ground_truth, detections, np.ones_like(crowd))
    of, to = of[counted[of]], to[counted[of]]
    overlaps = pair_overlaps(ground_truth, detections, (of, to))
    in_crowd = np.flatnonzero(crowd[to])
    overlaps[in_crowd] = pair_overlaps(
        ground_truth, detections, (of[in_crowd], to[in_crowd]), pairwise_coverage
    )
    return of, to, overlaps


def _outside(areas: np.ndarray, low: float, high: float) -> np.ndarray:
    return (areas < low) | (areas > high)

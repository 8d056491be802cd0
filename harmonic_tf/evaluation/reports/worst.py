"""Picks the worst of what a detector does: the cases to look at first."""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.coco_matching import match
from harmonic_tf.evaluation.metrics.consistency import CONFIDENT, WELL_PLACED, placement
from harmonic_tf.evaluation.metrics.matching import best_objects, box_areas, pairwise_iou

BACKGROUND = 0.1
"""Below this IoU a box is not on the object at all: Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020, https://arxiv.org/abs/2008.08115."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that went wrong.

    Args:
        kind: see `worst_cases`.
        picture: position in `GroundTruth.image_ids`.
        detection: row of the detection, -1 where nothing was found.
        object: row of the object, -1 where there is none.
        iou: their overlap, in [0, 1]; 0 where either is missing.
    """

    kind: str
    picture: int
    detection: int
    object: int
    iou: float


def worst_cases(
    ground_truth: GroundTruth, detections: Detections, count: int = 6
) -> dict[str, list[Case]]:
    """The worst cases of each kind, the worst first, at most one of a kind in a picture.

    IoU is that of `consistency.placement`; what does not count there is no case here.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        count: at most so many of each kind.

    Returns:
        `false_positives`: IoU below 0.1, those with the highest scores. `missed`: objects, not
        difficult, no crowd, that no detection with a score of at least 0.5 finds at IoU 0.5, the
        largest ones, with the detection of their class that overlaps them most. `misplaced`:
        score at least 0.5, IoU from 0.1 to 0.5, those with the largest gap between the two.
        `unconfident`: the best placed of all detections on their object, IoU at least 0.5, but
        score below 0.5, those with the largest gap.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, detections)
    iou, counted = placement(ground_truth, detections)
    overlap, objects = best_objects(ground_truth, detections, ~ground_truth.crowd)
    objects = np.where(overlap > 0, objects, -1)
    scores = detections.scores.astype(np.float64)
    confident = scores >= CONFIDENT
    chosen = {
        "false_positives": (counted & (iou < BACKGROUND), scores),
        "misplaced": (
            counted & confident & (iou >= BACKGROUND) & (iou < WELL_PLACED),
            scores - iou,
        ),
        "unconfident": (
            _is_best_placed(iou, objects) & ~confident & (iou >= WELL_PLACED),
            iou - scores,
        ),
    }
    cases = {
        kind: [
            Case(
                kind, int(detections.image_index[row]), int(row), int(objects[row]), float(iou[row])
            )
            for row in _worst(wrong, badness, detections.image_index, count)
        ]
        for kind, (wrong, badness) in chosen.items()
    }
    missed = _missed(ground_truth, detections, confident)
    rows = _worst(missed, box_areas(ground_truth.boxes), ground_truth.image_index, count)
    return {**cases, "missed": [_missed_case(ground_truth, detections, int(row)) for row in rows]}


def _worst(wrong: np.ndarray, badness: np.ndarray, pictures: np.ndarray, count: int) -> np.ndarray:
    """Rows of the worst that are wrong, each the worst one of its picture."""
    rows = np.flatnonzero(wrong)
    rows = rows[np.argsort(-badness[rows], kind="stable")]
    _, firsts = np.unique(pictures[rows], return_index=True)
    return rows[np.sort(firsts)[:count]]


def _is_best_placed(iou: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Which detections overlap their object most of all; of equal ones the first."""
    order = np.lexsort((-iou, objects))
    _, firsts = np.unique(objects[order], return_index=True)
    best = np.zeros(len(iou), bool)
    best[order[firsts]] = True
    return best


def _missed(ground_truth: GroundTruth, detections: Detections, confident: np.ndarray) -> np.ndarray:
    """Which objects no confident detection finds, bool [N]."""
    matches = match(ground_truth, detections.take(confident), [WELL_PLACED])
    missed = matches.wanted.copy()
    rows = matches.rows[0]
    missed[rows[rows >= 0]] = False
    return missed


def _missed_case(ground_truth: GroundTruth, detections: Detections, row: int) -> Case:
    """An object with the detection of its class that overlaps it most, if any does."""
    picture = int(ground_truth.image_index[row])
    same = np.flatnonzero(
        (detections.image_index == picture) & (detections.classes == ground_truth.classes[row])
    )
    iou = pairwise_iou(ground_truth.boxes[row : row + 1], detections.boxes[same])[0]
    if not iou.any():
        return Case("missed", picture, -1, row, 0.0)
    return Case("missed", picture, int(same[iou.argmax()]), row, float(iou.max()))

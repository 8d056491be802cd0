"""Where detection is hard: precision and consistency for occluded, crowded, irregular objects."""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import (
    average_precision,
    mean_average_precision,
)
from harmonic_tf.evaluation.metrics.coco_matching import IOU_THRESHOLDS, Matcher
from harmonic_tf.evaluation.metrics.consistency import agreement, placement
from harmonic_tf.evaluation.metrics.matching import best_objects, pairwise_iou
from harmonic_tf.evaluation.metrics.ranking import costs, oracle_ranked

# Where one group ends and the next, which includes the edge, begins; and the groups' names.
_YES_OR_NO = ((0.5,), ("no", "yes"))
SPLITS = {
    "occlusion": ((0.5, 0.75, 1), ("0 to 0.5", "0.5 to 0.75", "0.75 to 1", "1")),
    "crowding": ((0.1, 0.3), ("0 to 0.1", "0.1 to 0.3", "0.3 to 1")),
    "irregularity": ((0.4, 0.5, 0.6), ("0 to 0.4", "0.4 to 0.5", "0.5 to 0.6", "0.6 to 1")),
    "truncated": _YES_OR_NO,
    "difficult": _YES_OR_NO,
}
"""Occlusion is the visible fraction, 1 where nothing hides the object. Crowding is the highest IoU
of its box with that of another object, of any class. Irregularity is the share of its box that an
object leaves empty: 0.21 for an ellipse, 0.5 for a triangle; of the objects of rendered scenes
blobs are below 0.4, rings and crosses about 0.5, boomerangs above 0.6."""

_AT_75 = np.isclose(IOU_THRESHOLDS, 0.75)
_AGREEMENT = ("mean_abs_gap", "pearson", "confident_misplaced", "unconfident_well_placed")


def by_group(
    ground_truth: GroundTruth, detections: Detections
) -> dict[str, list[dict[str, object]]]:
    """AP, what ranking costs of it, and consistency, of one kind of objects at a time.

    Only the objects of a group are asked for. All others are ignored: not finding them costs
    nothing, and a detection that finds one counts neither for nor against. A detection that finds
    nothing counts against every group, since nobody can say of what kind the object would have
    been: groups with few objects have lower AP for that, so compare a group with itself, under
    another loss, not with its neighbours. Difficult objects are asked for only where objects are
    split by just that, and are objects like all others there; crowd regions nowhere.

    The consistency of a group is that of the detections whose best object is in it.

    Args:
        ground_truth: the annotated pictures; `extras` says what its objects are like.
        detections: what was found in them, after NMS.

    Returns:
        For each of `SPLITS` by which the objects differ, one row for each group with objects:
        {"group": its name, "objects": how many, "AP", "AP75", "AP_oracle", "cost": see
        `ranking_cost`, "mean_abs_gap", "pearson", "confident_misplaced",
        "unconfident_well_placed": see `consistency.agreement`}. Objects of which a number is not
        known are in none of its groups.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, detections)
    tables = detections, oracle_ranked(ground_truth, detections)
    matchers = [Matcher(ground_truth, table) for table in tables]
    ious, counted = placement(ground_truth, detections)
    _, best = best_objects(ground_truth, detections, ~ground_truth.crowd)
    counted &= ious > 0

    result = {}
    for split, groups in _groups(ground_truth).items():
        own_matchers = matchers
        if split == "difficult":
            none = np.zeros_like(ground_truth.difficult)
            askable = dataclasses.replace(ground_truth, difficult=none)
            own_matchers = [Matcher(askable, table) for table in tables]
        result[split] = []
        for group, inside in groups.items():
            by_score, by_iou = (
                average_precision(ground_truth, table, matcher(ignored=~inside))
                for table, matcher in zip(tables, own_matchers)
            )
            of_group = counted & inside[best]
            agreed = agreement(detections.scores[of_group].astype(np.float64), ious[of_group])
            result[split].append(
                {
                    "group": group,
                    "objects": int(np.count_nonzero(inside)),
                    **costs(by_score, by_iou),
                    "AP75": mean_average_precision(by_score[_AT_75]),
                    **{name: agreed[name] for name in _AGREEMENT},
                }
            )
    return result


def _groups(ground_truth: GroundTruth) -> dict[str, dict[str, np.ndarray]]:
    """Which objects are in each group, bool [N], of the splits with more than one that has any."""
    numbers = {
        **ground_truth.extras,
        "crowding": _crowding(ground_truth),
        "difficult": ground_truth.difficult.astype(np.float64),
    }
    result = {}
    for split, (edges, names) in SPLITS.items():
        values = numbers.get(split, np.full(len(ground_truth.classes), np.nan))
        askable = ~np.isnan(values) & ~ground_truth.crowd
        if split != "difficult":
            askable &= ~ground_truth.difficult
        places = np.digitize(values, edges)
        members = {name: askable & (places == place) for place, name in enumerate(names)}
        members = {name: inside for name, inside in members.items() if inside.any()}
        if len(members) > 1:
            result[split] = members
    return result


def _crowding(ground_truth: GroundTruth) -> np.ndarray:
    """The highest IoU of each object with another one of its picture: [N], NaN of crowd regions."""
    crowding = np.full(len(ground_truth.classes), np.nan)
    objects = np.flatnonzero(~ground_truth.crowd)
    objects = objects[np.argsort(ground_truth.image_index[objects], kind="stable")]
    starts = np.flatnonzero(np.diff(ground_truth.image_index[objects])) + 1
    for of_picture in np.split(objects, starts):
        boxes = ground_truth.boxes[of_picture]
        overlaps = pairwise_iou(boxes, boxes) - 2 * np.eye(len(boxes))  # not with itself
        crowding[of_picture] = np.max(overlaps, axis=1, initial=0)
    return crowding

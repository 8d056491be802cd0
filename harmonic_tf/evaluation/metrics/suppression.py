"""What non-maximum suppression does to detections: does it keep the best placed box?

NMS takes the best-scored box of a cluster and drops the others. It cannot see which one lies best:
it trusts that the score says so. Where scores and overlaps disagree, the better box is lost.
"""

from __future__ import annotations

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import average_precision
from harmonic_tf.evaluation.metrics.coco_matching import match
from harmonic_tf.evaluation.metrics.consistency import placement
from harmonic_tf.evaluation.metrics.matching import pairwise_iou
from harmonic_tf.evaluation.metrics.ranking import costs, oracle_ranked

MAX_DETECTIONS = 100
"""So many detections of a picture are kept, as by `DetectionDecoder`."""


def suppress(
    detections: Detections, iou_threshold: float, max_detections: int = MAX_DETECTIONS
) -> np.ndarray:
    """Greedy non-maximum suppression, class by class in each picture.

    What `tf.image.combined_non_max_suppression` does: in falling score, a box is kept unless it
    overlaps a kept one of its class by more than the threshold; at most `max_detections` are kept
    of a class, and of all classes together those with the highest scores. Of equal scores the
    first row goes first.

    Args:
        detections: what was found, before NMS.
        iou_threshold: in [0, 1].
        max_detections: how many are kept per picture.

    Returns:
        int64 [D], for each row the kept row that decides about it: itself where it is kept, the
        one that suppresses it where it overlaps that too much, -1 where it, or what would
        suppress it, is beyond `max_detections`.
    """
    order = np.lexsort((-detections.scores, detections.classes, detections.image_index))
    boxes = detections.boxes[order]
    groups = np.stack([detections.image_index, detections.classes])[:, order]
    starts = np.any(groups[:, 1:] != groups[:, :-1], axis=0)
    groups = np.cumsum(np.concatenate([[0], starts])[: len(order)])

    decides = np.full(len(order), -1)
    left = np.arange(len(order))
    for _ in range(max_detections):  # one more kept box of every group that has boxes left
        if not len(left):
            break
        _, first, group = np.unique(groups[left], return_index=True, return_inverse=True)
        best = left[first][group]
        iou = pairwise_iou(boxes[left, None], boxes[best, None])[:, 0, 0]
        gone = (iou > iou_threshold) | (left == best)
        decides[left[gone]] = best[gone]
        left = left[~gone]

    by_row = np.full(len(order), -1)
    by_row[order] = np.append(order, -1)[decides]  # -1 picks the -1
    return _limited(detections, by_row, max_detections)


def _limited(detections: Detections, decides: np.ndarray, limit: int) -> np.ndarray:
    """Leaves only the `limit` best kept rows of each picture."""
    kept = np.flatnonzero(decides == np.arange(len(decides)))
    keys = (detections.classes, -detections.scores, detections.image_index)
    kept = kept[np.lexsort([key[kept] for key in keys])]
    images = detections.image_index[kept]
    rank = np.arange(len(kept)) - np.searchsorted(images, images)
    cut = np.zeros(len(decides) + 1, bool)
    cut[kept[rank >= limit]] = True
    return np.where(cut[decides], -1, decides)


def suppression(
    ground_truth: GroundTruth, candidates: Detections, iou_threshold: float
) -> dict[str, float]:
    """How often NMS drops a box that lies better than the one it keeps for it.

    A box lies as well as its best IoU with an object of its class says; detections on crowd
    regions alone do not count: see `consistency.placement`.

    Args:
        ground_truth: the annotated pictures.
        candidates: what was found in them, before NMS.
        iou_threshold: that of NMS, in [0, 1].

    Returns:
        suppressed: how many boxes NMS drops because they overlap a kept one.
        contested: how many kept boxes had such rivals.
        better_suppressed: share of the contested boxes whose best placed rival lies better than
            they do, in [0, 1], smaller is better; NaN where nothing is contested.
        iou_lost: how much better, mean difference in IoU over those, in (0, 1], smaller is better;
            NaN where there are none.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, candidates)
    decides = suppress(candidates, iou_threshold)
    ious, counted = placement(ground_truth, candidates)
    dropped = (decides >= 0) & (decides != np.arange(len(decides)))
    rivals = np.flatnonzero(dropped & counted & counted[decides])
    best_rival = np.full(len(decides), -1.0)
    np.maximum.at(best_rival, decides[rivals], ious[rivals])
    contested = best_rival >= 0
    lost = best_rival[contested] - ious[contested]
    return {
        "suppressed": int(np.count_nonzero(dropped)),
        "contested": len(lost),
        "better_suppressed": float(np.mean(lost > 0)) if len(lost) else float("nan"),
        "iou_lost": float(lost[lost > 0].mean()) if np.any(lost > 0) else float("nan"),
    }


def ranking_before_nms(
    ground_truth: GroundTruth, candidates: Detections, iou_threshold: float
) -> dict[str, float]:
    """What inconsistency costs where it begins: NMS decides by score, or by true overlap.

    Args:
        ground_truth: the annotated pictures.
        candidates: what was found in them, before NMS.
        iou_threshold: that of NMS, in [0, 1].

    Returns:
        AP: COCO's, of what NMS leaves of the candidates.
        AP_oracle: the same where every candidate's score is its best IoU with an object of its
            class, so that NMS keeps of every cluster the box that lies best.
        cost: AP_oracle - AP.
        All NaN without objects to ask for.

    Raises:
        ValueError: see `checks.check`.
    """
    precisions = []
    for ranked in (candidates, oracle_ranked(ground_truth, candidates)):
        decides = suppress(ranked, iou_threshold)
        kept = ranked.take(decides == np.arange(len(decides)))
        matches = match(ground_truth, kept)
        precisions.append(average_precision(ground_truth, kept, matches))
    return costs(*precisions)

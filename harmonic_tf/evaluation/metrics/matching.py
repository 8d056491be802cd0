"""How much boxes overlap, and which object each detection overlaps most. Plain NumPy."""

from __future__ import annotations

from typing import Callable

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth

# Keeps what one pair needs on its way, some 200 bytes, from being needed for all pairs at once.
_PAIRS_AT_ONCE = 1 << 18


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other one.

    Coordinates are continuous: a box from x1 to x2 is x2 - x1 wide.

    Args:
        boxes: [..., N, 4], xyxy.
        others: [..., M, 4], xyxy, same unit.

    Returns:
        float64 [..., N, M], in [0, 1]; 0 where neither box has an area.
    """
    shared = _intersections(boxes, others)
    union = box_areas(boxes)[..., :, None] + box_areas(others)[..., None, :] - shared
    return _ratio(shared, union)


def pairwise_coverage(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share of every box's own area that lies inside every region.

    How COCO measures overlap with a crowd region, which holds many objects.

    Args:
        boxes: [..., N, 4], xyxy.
        regions: [..., M, 4], xyxy, same unit.

    Returns:
        float64 [..., N, M], in [0, 1]; 0 for a box without area.
    """
    shared = _intersections(boxes, regions)
    return _ratio(shared, np.broadcast_to(box_areas(boxes)[..., None], shared.shape))


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Areas of xyxy boxes, [..., 4]: float64 [...], 0 where a box ends before it begins."""
    boxes = boxes.astype(np.float64)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.maximum(width, 0) * np.maximum(height, 0)


def object_areas(ground_truth: GroundTruth) -> np.ndarray:
    """Areas of the objects themselves where `extras` knows them, of their boxes elsewhere.

    Returns:
        float64 [N], pixels^2. COCO sorts objects into small, medium and large ones by them.
    """
    areas = box_areas(ground_truth.boxes)
    own = ground_truth.extras.get("area")
    return areas if own is None else np.where(np.isnan(own), areas, own.astype(np.float64))


def candidate_pairs(
    ground_truth: GroundTruth, detections: Detections, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every detection together with every object of its class in its picture.

    Args:
        ground_truth: N objects.
        detections: D detections.
        candidates: bool [N], the objects that may be chosen.

    Returns:
        Rows of the detections, ascending, and rows of the objects, ascending for each detection:
        int64 [K] each.
    """
    class_count = len(ground_truth.class_names)
    object_rows = np.flatnonzero(candidates)
    keys = (ground_truth.image_index * class_count + ground_truth.classes)[object_rows]
    order = np.argsort(keys, kind="stable")
    object_rows, keys = object_rows[order], keys[order]

    detection_keys = detections.image_index * class_count + detections.classes
    firsts = np.searchsorted(keys, detection_keys, side="left")
    counts = np.searchsorted(keys, detection_keys, side="right") - firsts
    pair_starts = np.cumsum(counts) - counts
    positions = np.arange(counts.sum()) + np.repeat(firsts - pair_starts, counts)
    return np.repeat(np.arange(len(counts)), counts), object_rows[positions]


def pair_overlaps(
    ground_truth: GroundTruth,
    detections: Detections,
    pairs: tuple[np.ndarray, np.ndarray],
    overlap: Callable[[np.ndarray, np.ndarray], np.ndarray] = pairwise_iou,
) -> np.ndarray:
    """The overlap of each pair of a detection's row and an object's row: float64 [K]."""
    overlaps = np.empty(len(pairs[0]))
    for start in range(0, len(overlaps), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        boxes, others = detections.boxes[pairs[0][part]], ground_truth.boxes[pairs[1][part]]
        overlaps[part] = overlap(boxes[:, None], others[:, None])[:, 0, 0]
    return overlaps


def best_objects(
    ground_truth: GroundTruth,
    detections: Detections,
    candidates: np.ndarray,
    overlap: Callable[[np.ndarray, np.ndarray], np.ndarray] = pairwise_iou,
) -> tuple[np.ndarray, np.ndarray]:
    """For each detection, the object of its class in its picture that it overlaps most.

    One object may be the best of several detections.

    Args:
        ground_truth: N objects.
        detections: D detections.
        candidates: bool [N], the objects that may be chosen.
        overlap: pairwise measure of (detected boxes, object boxes).

    Returns:
        The largest overlap, float64 [D], 0 where the picture has no candidate of the class, and
        the row of the object in `ground_truth`, int64 [D], -1 there.
    """
    best_overlap = np.zeros(len(detections.scores))
    best_row = np.full(len(detections.scores), -1, np.int64)
    of, to = candidate_pairs(ground_truth, detections, candidates)
    overlaps = pair_overlaps(ground_truth, detections, (of, to), overlap)
    firsts = np.flatnonzero(np.diff(of, prepend=-1))
    largest = np.maximum.reduceat(overlaps, firsts) if len(firsts) else overlaps
    reached = np.flatnonzero(overlaps == np.repeat(largest, np.diff(firsts, append=len(of))))
    best = reached[np.diff(of[reached], prepend=-1) != 0]  # of equal ones, the earlier object
    best_overlap[of[best]] = overlaps[best]
    best_row[of[best]] = to[best]
    return best_overlap, best_row


def _intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    boxes = boxes.astype(np.float64)[..., :, None, :]
    others = others.astype(np.float64)[..., None, :, :]
    shared = 1.0
    for low, high in ((0, 2), (1, 3)):  # a box's first and last coordinate on each axis
        start = np.maximum(boxes[..., low], others[..., low])
        end = np.minimum(boxes[..., high], others[..., high])
        shared = shared * np.maximum(end - start, 0)
    return shared


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

"""How much boxes overlap, and which object each detection overlaps most. Plain NumPy."""

from __future__ import annotations

from typing import Callable

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other one.

    Coordinates are continuous: a box from x1 to x2 is x2 - x1 wide.

    Args:
        boxes: [N, 4], xyxy.
        others: [M, 4], xyxy, same unit.

    Returns:
        float64 [N, M], in [0, 1]; 0 where neither box has an area.
    """
    shared = _intersections(boxes, others)
    union = _areas(boxes)[:, None] + _areas(others) - shared
    return _ratio(shared, union)


def pairwise_coverage(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share of every box's own area that lies inside every region.

    How COCO measures overlap with a crowd region, which holds many objects.

    Args:
        boxes: [N, 4], xyxy.
        regions: [M, 4], xyxy, same unit.

    Returns:
        float64 [N, M], in [0, 1]; 0 for a box without area.
    """
    shared = _intersections(boxes, regions)
    return _ratio(shared, np.broadcast_to(_areas(boxes)[:, None], shared.shape))


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

    class_count = len(ground_truth.class_names)
    object_rows = np.flatnonzero(candidates)
    object_keys = (ground_truth.image_index * class_count + ground_truth.classes)[object_rows]
    object_order = np.argsort(object_keys, kind="stable")
    object_rows, object_keys = object_rows[object_order], object_keys[object_order]

    detection_keys = detections.image_index * class_count + detections.classes
    detection_rows = np.argsort(detection_keys, kind="stable")
    keys, starts = np.unique(detection_keys[detection_rows], return_index=True)
    firsts = np.searchsorted(object_keys, keys, side="left")
    lasts = np.searchsorted(object_keys, keys, side="right")
    for rows, first, last in zip(np.split(detection_rows, starts[1:]), firsts, lasts):
        if first == last:
            continue
        objects = object_rows[first:last]
        overlaps = overlap(detections.boxes[rows], ground_truth.boxes[objects])
        best_overlap[rows] = overlaps.max(axis=1)
        best_row[rows] = objects[overlaps.argmax(axis=1)]
    return best_overlap, best_row


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0), axis=-1)


def _intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    boxes, others = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]
    top_left = np.maximum(boxes[..., :2], others[..., :2])
    bottom_right = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.prod(np.maximum(bottom_right - top_left, 0), axis=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

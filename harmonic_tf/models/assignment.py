"""Which anchor learns which ground-truth box; and what boxes are by their own overlap."""

from __future__ import annotations

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND, IGNORED


def padded(boxes: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Ground truth with one column of padding more, so that none at all takes the same path.

    Args:
        boxes: [B, M, 4], xyxy, pixels. M may be 0.
        classes: [B, M], class index, -1 for padding.

    Returns:
        Boxes float32 [B, M + 1, 4] and classes int32 [B, M + 1]; and bool [B, M + 1], False for
        padding, which boxes without area are too.
    """
    boxes = tf.pad(tf.cast(boxes, tf.float32), [[0, 0], [0, 1], [0, 0]], constant_values=-1.0)
    classes = tf.pad(tf.cast(classes, tf.int32), [[0, 0], [0, 1]], constant_values=-1)
    return boxes, classes, (classes >= 0) & (box_ops.area(boxes) > 0.0)


def count_to_visit(real: tf.Tensor) -> tf.Tensor:
    """How many columns of bool [B, M] there are up to the last that is true anywhere."""
    position = tf.range(1, tf.shape(real)[1] + 1)
    return tf.reduce_max(tf.where(real, position, 0))


def assign_anchors(
    anchors: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Assigns ground truth to anchors by overlap, so that no ground-truth box goes without.

    An anchor is positive for the box it overlaps most when that IoU is at least `positive_iou`,
    background when it is below `negative_iou`, ignored between. In addition every box, in the
    order given, claims the free anchor it overlaps most, whatever the IoU. Boxes without area are
    treated as padding.

    Args:
        anchors: float32 [A, 4], xyxy, pixels.
        boxes: float32 [B, M, 4], xyxy, pixels; padding has class -1. M may be 0.
        classes: [B, M], class index, -1 for padding.
        positive_iou: in [0, 1].
        negative_iou: in [0, positive_iou].

    Returns:
        `classes` int32 [B, A]: class index, `BACKGROUND` or `IGNORED`; and `boxes` float32
        [B, A, 4], the assigned box of positives, the anchor itself elsewhere.

    Source: Lin et al., arXiv 1708.02002, section 4; the claim as in Liu et al., "SSD",
    arXiv 1512.02325, section 2.2.
    """
    anchors = tf.convert_to_tensor(anchors)
    boxes, classes, real = padded(boxes, classes)

    best_overlap, matched, owner = _visit_boxes(anchors, boxes, real)
    claimed = owner >= 0
    matched = tf.where(claimed, owner, matched)
    positive = claimed | (best_overlap >= positive_iou)
    assigned_boxes = tf.where(
        positive[:, :, None], tf.gather(boxes, matched, batch_dims=1), anchors[None]
    )
    return _labels(positive, classes, matched, best_overlap, negative_iou), assigned_boxes


def match_boxes(
    candidates: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Assigns to boxes, such as predicted ones, the ground truth they overlap most.

    As `assign_anchors`, but nothing is claimed: a box that overlaps no object by `positive_iou`
    is not positive.

    Args:
        candidates: float32 [B, A, 4], xyxy, pixels; no gradient flows through them.
        boxes: float32 [B, M, 4], xyxy, pixels; padding has class -1. M may be 0.
        classes: [B, M], class index, -1 for padding.
        positive_iou: in [0, 1].
        negative_iou: in [0, positive_iou].

    Returns:
        As `assign_anchors`.
    """
    candidates = tf.stop_gradient(candidates)
    boxes, classes, real = padded(boxes, classes)

    def visit(index, best, matched):
        overlap = _overlap(boxes, real, index, candidates)
        return index + 1, tf.maximum(best, overlap), tf.where(overlap > best, index, matched)

    nothing = tf.zeros_like(candidates[..., 0])
    start = (tf.constant(0), nothing - 1.0, tf.cast(nothing, tf.int32))
    count = count_to_visit(real)
    _, best, matched = tf.while_loop(lambda index, *_: index < count, visit, start)
    positive = best >= positive_iou
    assigned = tf.where(positive[:, :, None], tf.gather(boxes, matched, batch_dims=1), candidates)
    return _labels(positive, classes, matched, best, negative_iou), assigned


def label_boxes(
    candidates: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> tf.Tensor:
    """Labels boxes by the ground truth they overlap most: the classes of `match_boxes`.

    Args:
        candidates: as in `match_boxes`.
        boxes: likewise.
        classes: likewise.
        positive_iou: likewise.
        negative_iou: likewise.

    Returns:
        Int32 [B, A]: class index, `BACKGROUND` or `IGNORED`.

    Source: Kong et al., "Consistent Optimization for Single-Shot Object Detection",
    arXiv 1901.06563, for the labels of regressed anchors; the thresholds are those of anchors.
    """
    return match_boxes(candidates, boxes, classes, positive_iou, negative_iou)[0]


def _labels(positive, classes, matched, best_overlap, negative_iou: float) -> tf.Tensor:
    """Class of positives; elsewhere `BACKGROUND`, or `IGNORED` from the overlap given on."""
    state = tf.where(best_overlap < negative_iou, BACKGROUND, IGNORED)
    return tf.where(positive, tf.gather(classes, matched, batch_dims=1), state)


def _overlap(boxes: tf.Tensor, real: tf.Tensor, index: tf.Tensor, candidates: tf.Tensor):
    """IoU of one box of each picture with all candidates, [B, A]; -1 where it is padding."""
    overlap = box_ops.iou(boxes[:, index, None], candidates)
    return tf.where(real[:, index, None], overlap, -1.0)


def _visit_boxes(
    anchors: tf.Tensor, boxes: tf.Tensor, real: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Goes through the ground truth, box by box, and keeps what each anchor needs to know of it.

    So the overlaps of all boxes with all anchors, [B, M, A], are never in memory at once, and
    padding after the last real box costs nothing.

    Args:
        anchors: float32 [A, 4], xyxy, pixels.
        boxes: float32 [B, M, 4], xyxy, pixels.
        real: bool [B, M], False for padding.

    Returns:
        Of each anchor, [B, A]: the greatest overlap, float32, -1 without any real box; the first
        box that has it, int32; and the box that claims it, int32, -1 where none does. Every real
        box claims one anchor of its own: the one it overlaps most of those that are still free.
    """
    shape = [boxes.shape[0] or tf.shape(boxes)[0], anchors.shape[0]]

    def visit(index, best, matched, owner):
        overlap = _overlap(boxes, real, index, anchors[None])
        free = tf.where(owner < 0, overlap, -1.0)
        favourite = tf.one_hot(tf.argmax(free, axis=1), shape[1], on_value=True, off_value=False)
        return (
            index + 1,
            tf.maximum(best, overlap),
            tf.where(overlap > best, index, matched),
            tf.where(favourite & real[:, index, None], index, owner),
        )

    count = count_to_visit(real)
    start = (tf.constant(0), tf.fill(shape, -1.0), tf.zeros(shape, tf.int32), tf.fill(shape, -1))
    return tf.while_loop(lambda index, *_: index < count, visit, start)[1:]

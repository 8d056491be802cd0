"""Which anchor learns which ground-truth box."""

from __future__ import annotations

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND, IGNORED


def _claim_one_anchor_each(overlaps: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Gives every real ground-truth box one anchor of its own: the best that is still free.

    Args:
        overlaps: float32 [B, M, A], IoU of ground truth and anchors.
        real: bool [B, M], False for padding.

    Returns:
        Int32 [B, A], the claiming ground truth of each anchor, -1 where nobody claims it.
    """
    batch, _, anchors = overlaps.shape
    batch = batch or tf.shape(overlaps)[0]

    def claim(index, owner):
        free = tf.where(owner < 0, overlaps[:, index], -1.0)
        best = tf.one_hot(tf.argmax(free, axis=1), anchors, on_value=True, off_value=False)
        return index + 1, tf.where(best & real[:, index, None], index, owner)

    position = tf.range(1, tf.shape(real)[1] + 1)
    last = tf.reduce_max(tf.where(real, position, 0))
    _, owner = tf.while_loop(
        lambda index, _: index < last,
        claim,
        (tf.constant(0), tf.fill([batch, anchors], -1)),
    )
    return owner


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
    # One column of padding more, so that data without any box takes the same path.
    boxes = tf.pad(tf.cast(boxes, tf.float32), [[0, 0], [0, 1], [0, 0]], constant_values=-1.0)
    classes = tf.pad(tf.cast(classes, tf.int32), [[0, 0], [0, 1]], constant_values=-1)
    real = (classes >= 0) & (box_ops.area(boxes) > 0.0)

    overlaps = box_ops.pairwise_iou(boxes, anchors)  # [B, M, A]
    overlaps = tf.where(real[:, :, None], overlaps, -1.0)
    best_overlap = tf.reduce_max(overlaps, axis=1)
    matched = tf.argmax(overlaps, axis=1, output_type=tf.int32)

    owner = _claim_one_anchor_each(overlaps, real)
    claimed = owner >= 0
    matched = tf.where(claimed, owner, matched)
    positive = claimed | (best_overlap >= positive_iou)
    state = tf.where(best_overlap < negative_iou, BACKGROUND, IGNORED)
    assigned_classes = tf.where(positive, tf.gather(classes, matched, batch_dims=1), state)
    assigned_boxes = tf.where(
        positive[:, :, None], tf.gather(boxes, matched, batch_dims=1), anchors[None]
    )
    return assigned_classes, assigned_boxes

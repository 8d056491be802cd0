"""Which grid cell learns which ground-truth box, by how well the network does there already."""

from __future__ import annotations

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND
from harmonic_tf.models.assignment import count_to_visit, padded


def assign_cells(
    centers: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    predicted_boxes: tf.Tensor,
    scores: tf.Tensor,
    top_k: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Assigns ground truth to the cells whose score and box are best aligned with it.

    The alignment of a cell with a box is `score ** alpha * overlap ** beta`, with the predicted
    score of the box's class and the CIoU of the predicted box, negative ones taken as 0. Each box
    chooses, of the cells whose centre is inside of it, the `top_k` with the greatest alignment, if
    that is above 0. A cell chosen by several boxes learns the one it overlaps most, the first of
    several equal ones. Boxes without area, or of a class below 0, are treated as padding.

    Args:
        centers: float32 [A, 2], centres of the cells as x, y, pixels.
        boxes: float32 [B, M, 4], xyxy, pixels; padding has class -1. M may be 0.
        classes: [B, M], class index, -1 for padding.
        predicted_boxes: float32 [B, A, 4], xyxy, pixels.
        scores: float32 [B, A, C], in [0, 1].
        top_k: how many cells a box may choose, > 0.
        alpha: exponent of the score.
        beta: exponent of the overlap.

    Returns:
        `classes` int32 [B, A]: class index or `BACKGROUND`; `boxes` float32 [B, A, 4]: the
        assigned box, the predicted one where there is none; and `targets` float32 [B, A]: the
        score to learn, in [0, 1], 0 where no box is assigned. The best aligned cell of a box
        learns the greatest overlap of the box's cells, the others less in proportion to their
        alignment. No gradient flows through any of them.

    Source: Feng et al., "TOOD", arXiv 2108.07755, sections 3.2.1 and 3.2.2; exponents, CIoU and
    top 10 as YOLOv8 has them, https://github.com/ultralytics/ultralytics.
    """
    centers = tf.convert_to_tensor(centers)
    predicted_boxes, scores = tf.stop_gradient(predicted_boxes), tf.stop_gradient(scores)
    boxes, classes, real = padded(boxes, classes)

    shape = [boxes.shape[0] or tf.shape(boxes)[0], centers.shape[0]]

    # Box by box, so that what is known of each box and each cell is never in memory at once.
    def visit(index, owner, owner_overlap, owner_alignment):
        box = tf.where(real[:, index, None], boxes[:, index], 0.0)  # without area, nothing inside
        score = tf.gather(scores, tf.maximum(classes[:, index], 0), axis=-1, batch_dims=1)
        overlap = tf.maximum(box_ops.ciou(box[:, None], predicted_boxes), 0.0)
        alignment = tf.pow(score, alpha) * tf.pow(overlap, beta)
        alignment = tf.where(_inside(centers, box), alignment, 0.0)
        chosen = _is_among_greatest(alignment, top_k) & (alignment > 0.0)
        better = chosen & (overlap > owner_overlap)
        return (
            index + 1,
            tf.where(better, index, owner),
            tf.where(better, overlap, owner_overlap),
            tf.where(better, alignment, owner_alignment),
        )

    count = count_to_visit(real)
    start = (tf.constant(0), tf.fill(shape, -1), tf.zeros(shape), tf.zeros(shape))
    _, owner, overlap, alignment = tf.while_loop(lambda index, *_: index < count, visit, start)

    assigned = owner >= 0
    matched = tf.maximum(owner, 0)
    best_overlap = _greatest_of_owner(overlap, matched, tf.shape(boxes)[1])
    best_alignment = _greatest_of_owner(alignment, matched, tf.shape(boxes)[1])
    targets = tf.math.divide_no_nan(alignment, best_alignment) * best_overlap
    return (
        tf.where(assigned, tf.gather(classes, matched, batch_dims=1), BACKGROUND),
        tf.where(assigned[..., None], tf.gather(boxes, matched, batch_dims=1), predicted_boxes),
        tf.where(assigned, targets, 0.0),
    )


def _inside(centers: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Which centres [A, 2] are inside of one box of each picture, [B, 4]: bool [B, A]."""
    corners = boxes[:, None]
    return tf.reduce_all((centers > corners[..., :2]) & (centers < corners[..., 2:]), axis=-1)


def _is_among_greatest(values: tf.Tensor, count: int) -> tf.Tensor:
    """Which of the values [B, A] are among the `count` greatest of their row: bool [B, A]."""
    size = values.shape[1]
    greatest = tf.math.top_k(values, min(count, size)).indices
    return tf.reduce_any(greatest[:, :, None] == tf.range(size), axis=1)


def _greatest_of_owner(values: tf.Tensor, owner: tf.Tensor, boxes: int | tf.Tensor) -> tf.Tensor:
    """Of each cell, the greatest value among the cells of the same owner.

    Args:
        values: float32 [B, A], >= 0; 0 for cells without an owner.
        owner: int32 [B, A], index of the box, in [0, boxes).
        boxes: how many boxes a picture has.
    """
    pictures = tf.range(tf.shape(owner)[0])[:, None]
    segment = pictures * boxes + owner
    greatest = tf.math.unsorted_segment_max(
        tf.reshape(values, [-1]), tf.reshape(segment, [-1]), tf.shape(owner)[0] * boxes
    )
    return tf.gather(greatest, segment)

"""What the boxes around a kept one say about it: where it should lie, and how well it lies.

Suppression keeps one box of a cluster and drops the others, though these were predicted by other
samples of the same object: their mean lies better than any of them, and where they agree with the
kept box it overlaps its object more, whatever its score says.
"""

from __future__ import annotations

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf

# How fast a vote fades with the overlap: exp(-(1 - IoU)^2 / sigma); Softer-NMS takes 0.005 to 0.05.
SIGMA = 0.025
# From this overlap on a box counts as one of the same object, as COCO's lowest threshold has it.
SAME_OBJECT_IOU = 0.5


def vote(
    boxes: tf.Tensor, scores: tf.Tensor, voters: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Kept boxes moved to the mean of those around them, scored by how well these agree.

    With weights w of the voters and their overlaps u with a kept box of score s, the box becomes
    their mean with weights w exp(-(1 - u)^2 / 0.025), its score s sqrt(a) with the agreement
    a = sum(w u) / sum(w) over those with u > 0.5: between 0.7 s and s. Each kept box votes for
    itself, too, with w = s and u = 1: one that nobody is near to stays as it is.

    Args:
        boxes: float32 [B, D, 4], kept ones, xyxy, pixels.
        scores: float32 [B, D], theirs, in [0, 1].
        voters: float32 [B, K, 4], xyxy, pixels.
        weights: float32 [B, D or 1, K], >= 0: the voters' scores for the class of each kept box.

    Returns:
        Boxes float32 [B, D, 4] and scores float32 [B, D]; zeros where the score is 0.

    Source: Gidaris and Komodakis, "Object detection via a multi-region and semantic segmentation-
    aware CNN model", arXiv 1505.01749, section 5 (voting); He et al., "Softer-NMS", arXiv
    1809.08545, equation 6 with equal variances (the weights). The agreement is ours.
    """
    iou, own = box_ops.pairwise_iou(boxes, voters), scores[..., None]
    near = weights * tf.exp(-tf.square(1.0 - iou) / SIGMA)
    moved = tf.math.divide_no_nan(
        near @ voters + own * boxes, tf.reduce_sum(near, axis=-1, keepdims=True) + own
    )
    same = weights * tf.cast(iou > SAME_OBJECT_IOU, iou.dtype)
    agreement = tf.math.divide_no_nan(
        tf.reduce_sum(same * iou, axis=-1) + scores, tf.reduce_sum(same, axis=-1) + scores
    )
    return moved, scores * tf.sqrt(agreement)

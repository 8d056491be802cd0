"""Losses of the class scores, by the name that `HarmonicLoss` and its flag know them by."""

from __future__ import annotations

from typing import Callable, NamedTuple

from harmonic_tf.backend import tf
from harmonic_tf.losses import functional as F
from harmonic_tf.losses.fused import FocalWeights

# From the IoU of prediction and assigned object, the logit of the true class (float32 [...] each)
# and the constants of the loss to what the true class costs, float32 [...].
OverlapLoss = Callable[[tf.Tensor, tf.Tensor, FocalWeights], tf.Tensor]


class ClassificationLoss(NamedTuple):
    """One loss of the class scores.

    Args:
        weights: from `focal_alpha` and `focal_gamma` to what each class costs, see `fused`.
        soft: whether the true class may learn a score below 1.
        of_overlap: where the true class of a positive learns the IoU: what it costs, in place of
            what `weights` say of it. None where it learns 1, or what the assigner says.
        least: from a target between 0 and 1 to the loss that no score can avoid; None where
            that is 0.
        softmax: whether scores are a softmax over the classes and the background, which is last.
            Then `weights` are not read.
    """

    weights: Callable[[float, float], FocalWeights]
    soft: bool
    of_overlap: OverlapLoss | None = None
    least: Callable[[tf.Tensor], tf.Tensor] | None = None
    softmax: bool = False


CLASSIFICATION_LOSSES: dict[str, ClassificationLoss] = {
    "focal": ClassificationLoss(
        lambda alpha, gamma: FocalWeights(alpha, 1.0 - alpha, gamma), soft=False
    ),
    "cross_entropy": ClassificationLoss(
        lambda alpha, gamma: FocalWeights(1.0, 1.0, 0.0), soft=True, least=F.binary_entropy
    ),
    "qfl": ClassificationLoss(
        lambda alpha, gamma: FocalWeights(0.0, 1.0, gamma),
        soft=True,
        of_overlap=lambda iou, logit, weights: F.quality_focal_loss(
            iou[..., None], logit[..., None], weights.gamma
        ),
    ),
    "vfl": ClassificationLoss(
        lambda alpha, gamma: FocalWeights(0.0, 1.0 - alpha, gamma),
        soft=True,
        of_overlap=lambda iou, logit, weights: F.varifocal_loss(
            iou[..., None], logit[..., None], weights.other, weights.gamma
        ),
        least=lambda iou: iou * F.binary_entropy(iou),
    ),
    "softmax_cross_entropy": ClassificationLoss(
        lambda alpha, gamma: FocalWeights(1.0, 1.0, 0.0), soft=False, softmax=True
    ),
}

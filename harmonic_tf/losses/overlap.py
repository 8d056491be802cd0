"""Losses of the overlap of two boxes, by the name that `HarmonicLoss` and its flag know them by."""

from __future__ import annotations

from typing import Callable

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf
from harmonic_tf.losses import functional as F

# From true boxes, predicted boxes (float32 [..., 4], xyxy, pixels), their IoU (float32 [...]) and
# the exponent of the Harmonic IoU loss to the loss of each pair, float32 [...].
IouLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, float], tf.Tensor]

IOU_LOSSES: dict[str, IouLoss] = {
    "hiou": lambda truth, prediction, iou, gamma: F.harmonic_iou_loss(iou, gamma),
    "iou": lambda truth, prediction, iou, gamma: 1.0 - iou,
    "giou": lambda truth, prediction, iou, gamma: 1.0 - box_ops.giou(truth, prediction),
    "ciou": lambda truth, prediction, iou, gamma: 1.0 - box_ops.ciou(truth, prediction),
}

"""The losses: the paper's formulas and the Keras classes over them."""

from harmonic_tf.losses import functional
from harmonic_tf.losses.classification import CLASSIFICATION_LOSSES
from harmonic_tf.losses.harmonic_iou import HarmonicIoULoss
from harmonic_tf.losses.harmonic_loss import (
    BACKGROUND,
    COUPLINGS,
    IGNORED,
    RANGES,
    HarmonicLoss,
)
from harmonic_tf.losses.over_batch import BATCH_LOSSES
from harmonic_tf.losses.overlap import IOU_LOSSES
from harmonic_tf.losses.task_contrasting import TaskContrastingLoss

__all__ = [
    "BACKGROUND",
    "BATCH_LOSSES",
    "CLASSIFICATION_LOSSES",
    "COUPLINGS",
    "IGNORED",
    "IOU_LOSSES",
    "RANGES",
    "HarmonicIoULoss",
    "HarmonicLoss",
    "TaskContrastingLoss",
    "functional",
]

"""The losses: the paper's formulas and the Keras classes over them."""

from harmonic_tf.losses import functional
from harmonic_tf.losses.harmonic import (
    BACKGROUND,
    CLASSIFICATION_LOSSES,
    IGNORED,
    IOU_LOSSES,
    HarmonicIoULoss,
    HarmonicLoss,
    TaskContrastingLoss,
)

__all__ = [
    "BACKGROUND",
    "CLASSIFICATION_LOSSES",
    "IGNORED",
    "IOU_LOSSES",
    "HarmonicIoULoss",
    "HarmonicLoss",
    "TaskContrastingLoss",
    "functional",
]

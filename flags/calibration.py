"""Flags on what scores are to be read as."""

from __future__ import annotations

from absl import flags

from harmonic_tf.evaluation import CALIBRATION_METHODS
from harmonic_tf.training.calibrating import NONE

flags.DEFINE_enum(
    "calibration",
    CALIBRATION_METHODS[0],
    (*CALIBRATION_METHODS, NONE),
    "After training, turns scores into the IoU to expect, class by class, fitted on the validation "
    "split, where there is one: by isotonic or linear regression, Platt scaling, or a temperature. "
    "none leaves scores as they are. See docs/calibration.md.",
)

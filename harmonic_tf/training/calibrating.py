"""A run's scores, calibrated on its validation split, never on what is trained or reported."""

from __future__ import annotations

from absl import logging

from harmonic_tf.evaluation import Calibration, fit_calibration
from harmonic_tf.training.measuring import Validated
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DataSettings

NONE = "none"
"""In place of a method: scores stay as they are."""

_FEW = 20  # detections by which not much can be said of a class


def reason_against(settings: DataSettings) -> str | None:
    """Why scores cannot be calibrated on the validation split; None where they can.

    Args:
        settings: the data of the run.
    """
    val = settings.val_part
    if val is None:
        return (
            "there is no validation split, and scores are never calibrated on what is reported. "
            "Give --val_split or --val_fraction"
        )
    for flag, split in (("train", settings.train_split), ("test", settings.test_split)):
        if val == split:
            return f"--val_split={val} is the --{flag}_split too. Name another, or cut one off"
    return None


def calibrate(run: RunDirectory, val: Validated, method: str) -> Calibration | None:
    """Fits a calibration to what was found in the validation split, and keeps it in the run.

    An earlier one is replaced, or removed where there is none now.

    Args:
        run: the run, whose checkpoint `best` has found it.
        val: what was found, with raw scores.
        method: one of `harmonic_tf.evaluation.CALIBRATION_METHODS`.

    Returns:
        The calibration; None, and a warning, where nothing was found to fit it to.
    """
    calibration = fit_calibration(val.truth, val.found, method, val.name)
    run.write_calibration(calibration)
    if calibration is None:
        logging.warning(
            "%s: nothing was found there that scores could be calibrated by; they stay as they "
            "are. Train longer, or lower --score_threshold.",
            val.name,
        )
        return None
    few = [name for name, count in calibration.detections.items() if count < _FEW]
    if few:
        logging.info(
            "Calibrated nearly as all classes together are, by fewer than %d detections in %s: %s.",
            _FEW,
            val.name,
            ", ".join(few),
        )
    return calibration

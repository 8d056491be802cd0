"""The detectors of the page: trained runs and exported models, with what their scores mean."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.demo.validation import Validation, validation_of
from harmonic_tf.evaluation import Calibration, Detections
from harmonic_tf.export.runtimes import load_exported
from harmonic_tf.models import NMS_CHOICES, DetectionDecoder
from harmonic_tf.training.building import load_model
from harmonic_tf.training.inference import Found, detect_in, prediction_function
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DataSettings

AS_EXPORTED = "as exported"
"""The one NMS of an exported model."""

_RAW = "Not calibrated: a score sorts boxes, and says little about how well they sit."


@dataclasses.dataclass(frozen=True)
class Choice:
    """One NMS that a detector offers, and what comes with it.

    Args:
        predict: see `harmonic_tf.training.inference.detect`.
        meaning: what its scores mean, in a sentence.
        validation: how good it is on the validation split.
    """

    predict: Callable[[tf.Tensor], Found]
    meaning: str
    validation: Validation


@dataclasses.dataclass(frozen=True)
class Detector:
    """A detector, ready to be tried.

    Args:
        name: the folder that it was loaded from.
        class_names: name of each class.
        image_size: side of its square input, pixels.
        choices: what it offers by name of the NMS, its own first.
    """

    name: str
    class_names: Sequence[str]
    image_size: int
    choices: Mapping[str, Choice]

    def detect(self, image: np.ndarray, nms: str) -> Detections:
        """What is in a picture.

        Args:
            image: uint8 [H, W, 3].
            nms: one of `choices`.

        Returns:
            Detections in the picture's pixels, highest score first.
        """
        return detect_in(self.choices[nms].predict, image, self.image_size)


def detector_of_run(folder: str, data: DataSettings) -> Detector:
    """Loads the best checkpoint of a run, with every NMS there is for the same network.

    Scores are calibrated for the run's own NMS, where the run has a calibration.

    Args:
        folder: the run's.
        data: the run's, for the objects of its validation split.

    Raises:
        FileNotFoundError: there is no run in this folder, or it has no checkpoint.
        CalibrationError: its calibration is damaged.
    """
    run = RunDirectory(folder)
    settings, path = run.settings(), run.checkpoint("best")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path}: no such checkpoint, so the run has not come to one. Go on with it by "
            "`train --resume`, or name another --run."
        )
    calibration = run.calibration()
    set_precision(settings["precision"])
    model = load_model(path, calibration=calibration)
    own = model.prediction_decoder

    def choice(nms: str) -> Choice:
        if nms == own.nms:
            validation = validation_of(run, data, calibration)
            return Choice(prediction_function(model), _meaning(calibration), validation)
        other = {"nms": nms, "calibration": None}
        decoder = DetectionDecoder(**{**own.get_config(), **other})
        nothing = Validation(f"Validation was measured with {own.nms} NMS alone.")
        return Choice(prediction_function(model, decoder), _RAW, nothing)

    names = [own.nms, *(name for name in NMS_CHOICES if name != own.nms)]
    image_size = model.image_size or settings["image_size"]
    choices = {name: choice(name) for name in names}
    return Detector(folder, run.class_names(), image_size, choices)


def detector_of_export(folder: str) -> Detector:
    """Loads a version of an exported model; where NMS is left to others, with the usual one.

    Args:
        folder: as of `harmonic_tf.export.runtimes.load_exported`, whose errors it raises.
    """
    exported = load_exported(folder, DetectionDecoder())
    meaning = "As exported: calibrated where its run was, which the model does not say."
    nothing = Validation("An exported model keeps no validation. Try its run beside it.")
    choices = {AS_EXPORTED: Choice(exported.predict, meaning, nothing)}
    return Detector(folder, exported.class_names, exported.image_size, choices)


def _meaning(calibration: Calibration | None) -> str:
    if calibration is None:
        return _RAW
    by = f"{calibration.method}, fitted on {calibration.fitted_on}"
    return f"Calibrated: a score is the IoU to expect of a box with its object ({by})."

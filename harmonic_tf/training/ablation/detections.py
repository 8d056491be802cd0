"""What the detections of finished runs tell, beyond what each run has measured itself."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from harmonic_tf.data.example import DetectionData
from harmonic_tf.evaluation import Detections, fit_calibration, read_detections
from harmonic_tf.evaluation.statistics.bootstrap import bootstrap
from harmonic_tf.evaluation.statistics.comparison import METRICS, PictureWeighted
from harmonic_tf.files import replacing
from harmonic_tf.training.ablation.runs import Run
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.measuring import Validated, keep, measure_found
from harmonic_tf.training.settings import DataSettings
from harmonic_tf.training.splits import load_split

RESAMPLES = 1000
_METHOD = "isotonic"  # as `train` calibrates by default


class HeldOut:
    """The splits of an ablation that are not trained on, each read when it is first needed.

    Args:
        settings: the data.
    """

    def __init__(self, settings: DataSettings):
        self.settings = settings
        self._splits: dict[str, DetectionData] = {}

    def load(self, split: str, run: Run) -> DetectionData:
        """A split with the classes of a run, which are the same for all.

        Args:
            split: its name.
            run: a finished run.

        Raises:
            DataError: the data cannot be read.
        """
        if split not in self._splits:
            names = run.files.class_names()
            self._splits[split] = load_split(self.settings, split, names)
        return self._splits[split]


def complete(run: Run, calibrated: Run | None, held_out: HeldOut) -> None:
    """Measures what is missing of a finished run and its detections tell; nothing without these.

    On pictures drawn with replacement, the same for all runs, which is kept beside its metrics; and
    once more with calibrated scores, if asked for.

    Args:
        run: trained without a calibration.
        calibrated: whose folder takes what it comes to with calibrated scores; None does without.
        held_out: the splits.

    Raises:
        DataError: the data cannot be read.
        ResultsError: detections are damaged.
        OSError: a file is missing or cannot be written.
    """
    if calibrated is not None and not calibrated.finished and _has_detections(run):
        _calibrate(run, calibrated, held_out)
    test_split = held_out.settings.test_split
    for one in (run, calibrated):
        if one is None or os.path.isfile(one.draws_file) or not _has_detections(one):
            continue
        test = held_out.load(test_split, run)
        _draw(one, test)


def _has_detections(run: Run) -> bool:
    return os.path.isfile(run.files.file("detections.json"))


def _draw(run: Run, test: DetectionData) -> None:
    truth = ground_truth_of(test)
    measure = PictureWeighted(truth, _read(run.files.path, test))
    drawn = bootstrap(measure, len(truth.image_ids), RESAMPLES)
    with replacing(run.draws_file) as temporary:
        np.savez_compressed(temporary, **dict(zip(METRICS, drawn.T.astype(np.float32))))


def _calibrate(run: Run, calibrated: Run, held_out: HeldOut) -> None:
    """Nothing is written where there is nothing to calibrate by."""
    val_split = held_out.settings.val_part
    val_data = held_out.load(val_split, run)
    test = held_out.load(held_out.settings.test_split, run)
    found = _read(run.files.evaluation(val_split), val_data)
    val = Validated(val_data.name, ground_truth_of(val_data), found)
    calibration = fit_calibration(val.truth, found, _METHOD, val.name)
    if calibration is None:
        return
    on_test = measure_found(test, _read(run.files.path, test), val, calibration)
    on_val = measure_found(val_data, found, calibration=calibration)
    keep(calibrated.files.evaluation(val_split), on_val)
    metrics = _with_before_nms(on_test.metrics, run.metrics())
    keep(calibrated.folder, dataclasses.replace(on_test, metrics=metrics))


def _with_before_nms(calibrated: Mapping, raw: Mapping) -> dict:
    """Metrics with those of before NMS, which goes by raw scores, from before the calibration."""
    ranking = {"before_nms": raw["ranking"]["before_nms"], **calibrated["ranking"]}
    names = ("consistency_before_nms", "suppression")
    return {**calibrated, "ranking": ranking, **{name: raw[name] for name in names}}


def _read(folder: str, data: DetectionData) -> Detections:
    path = os.path.join(folder, "detections.json")
    return read_detections(path, ground_truth_of(data), data.category_ids)

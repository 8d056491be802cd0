"""Precision and recall on a run's validation split, by what it left of its detections."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from harmonic_tf.data.example import DataError, DetectionData
from harmonic_tf.evaluation import (
    Calibration,
    Detections,
    PrecisionRecall,
    ResultsError,
    precision_recall_by_score,
    read_detections,
)
from harmonic_tf.files import explained
from harmonic_tf.shell import command
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DataSettings, SettingsError
from harmonic_tf.training.splits import load_split

THRESHOLDS = np.linspace(0, 1, 101)
"""The scores from which on detections can be shown."""


class Validation(NamedTuple):
    """How good a detector is on its validation split.

    Args:
        note: what the numbers are of, or why there are none.
        curve: precision and recall at `THRESHOLDS`; None where they are not known.
    """

    note: str
    curve: PrecisionRecall | None = None


def validation_of(
    run: RunDirectory, data: DataSettings, calibration: Calibration | None
) -> Validation:
    """What is known of the best checkpoint of a run, with the run's NMS.

    Args:
        run: the run.
        data: its data settings.
        calibration: what scores are read as on the page; None leaves them raw.
    """
    split = data.val_part
    if split is None:
        return Validation("The run has no validation split.")
    again = f"To have it: {command('evaluate', f'--run={run.path}', f'--split={split}')}"
    # What training measures on the split that it reports lies in the run itself.
    folder = run.path if split == data.test_split else run.evaluation(split)
    file = os.path.join(folder, "detections.json")
    if not os.path.isfile(file):
        return Validation(f"The run keeps no detections of {split}. {again}")
    try:
        objects = load_split(data, split, run.class_names())
        found = read_detections(file, ground_truth_of(objects), objects.category_ids)
        metrics = RunDirectory(folder).read_json("metrics.json", dict)
        found = _with_scores_of(found, metrics, calibration)
    except OSError as error:
        return Validation(f"Not known: {explained(error)}")
    except (DataError, ResultsError, SettingsError) as error:
        return Validation(f"Not known: {error}")
    if found is None:
        return Validation(f"{split} was measured with scores of another calibration. {again}")
    curve = precision_recall_by_score(ground_truth_of(objects), found, THRESHOLDS)
    return Validation(_counted(objects), curve)


def _with_scores_of(
    found: Detections, metrics: Mapping, calibration: Calibration | None
) -> Detections | None:
    """Detections with scores as they are shown; None where those cannot be had from theirs."""
    measured_by, shown_by = metrics.get("calibrated_by"), None
    if calibration is not None:
        shown_by = {"method": calibration.method, "fitted_on": calibration.fitted_on}
    if measured_by == shown_by:
        return found
    return None if measured_by else calibration(found)


def _counted(data: DetectionData) -> str:
    count = sum(len(annotation.boxes) for annotation in data.annotations)
    pictures = len(data.annotations)
    return f"Of {count:,} objects in {pictures:,} pictures of {data.name}, found from IoU 0.5 on."

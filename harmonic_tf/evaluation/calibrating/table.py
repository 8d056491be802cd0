"""What the scores of a detector are to be read as: a table of calibrated scores for each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from harmonic_tf.evaluation.detections import Detections
from harmonic_tf.tables import number, text_table

KNOTS = np.linspace(0, 1, 101)
"""The raw scores at which calibrated ones are tabulated; between them lie straight lines."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The IoU to expect of a detection by its class and its score, as it was fitted.

    Args:
        method: how, see `fitting.CALIBRATION_METHODS`.
        class_names: the C classes' names.
        table: float64 [C, K + 1], the calibrated score of each class at raw scores 0, 1 / K, ...,
            1: in [0, 1] and strictly rising, so that the order within a class is that of the raw
            scores. Between them lie straight lines.
        fitted_on: name of the validation split.
        detections: how many of each class it was fitted by, by class name: those from the class's
            LRP-optimal threshold on.
        before: LaECE, LaACE, LRP, AP and AP50 of the raw scores on that split.
        after: the same of the calibrated ones, on the very detections that they were fitted by.
    """

    method: str
    class_names: Sequence[str]
    table: np.ndarray
    fitted_on: str
    detections: Mapping[str, int]
    before: Mapping[str, float]
    after: Mapping[str, float]

    def __call__(self, detections: Detections) -> Detections:
        """The same detections in the same order, with calibrated scores.

        Args:
            detections: with the raw scores of the detector that this was fitted to.
        """
        return with_scores_by(self.table, detections)

    def summary(self) -> str:
        """What it changes on the pictures that it was fitted on, as a table for the terminal."""
        return text_table(
            [self.fitted_on, "raw scores", self.method],
            [[name, number(self.before[name]), number(self.after[name])] for name in self.before],
        )


def with_scores_by(table: np.ndarray, detections: Detections) -> Detections:
    """Looks scores up in a table.

    Args:
        table: float64 [C, K + 1], see `Calibration`.
        detections: with raw scores.

    Returns:
        The same rows with calibrated scores, float32.
    """
    knots = np.linspace(0, 1, table.shape[1])
    scores = np.zeros(len(detections.scores), np.float32)
    for k, row in enumerate(table):
        own = detections.classes == k
        scores[own] = np.interp(detections.scores[own], knots, row)
    return dataclasses.replace(detections, scores=scores)

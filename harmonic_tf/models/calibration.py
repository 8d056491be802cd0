"""Calibrated scores, looked up in a table within a graph, of operations that every runtime has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harmonic_tf.backend import tf


def checked_table(table: Sequence[Sequence[float]]) -> np.ndarray:
    """A table of calibrated scores, if it is one.

    Args:
        table: [C, K + 1], the calibrated score of each class at raw scores 0, 1 / K, ..., 1.

    Returns:
        The same as float64.

    Raises:
        ValueError: it is not of two dimensions, with two columns at least, or holds anything but
            numbers in [0, 1] that rise strictly in each row.
    """
    try:
        checked = np.array(table, np.float64)
    except (TypeError, ValueError):
        checked = np.zeros(())
    if checked.ndim != 2 or checked.shape[1] < 2:
        raise ValueError(
            f"calibration = {_shortened(table)} is not a list of one row a class, each of as many "
            "scores, 2 at least. Give the table of a `Calibration`."
        )
    for k, row in enumerate(checked):
        if not np.all((row >= 0) & (row <= 1)) or not np.all(np.diff(row) > 0):
            raise ValueError(
                f"calibration: row {k} = {_shortened(table[k])} does not rise strictly within "
                "[0, 1]. Give the table of a `Calibration`."
            )
    return checked


def calibrated(scores: tf.Tensor, classes: tf.Tensor, table: np.ndarray) -> tf.Tensor:
    """What raw scores are to be read as.

    Args:
        scores: float32 [...], raw scores in [0, 1].
        classes: int32, 0 <= class < C; of a shape that broadcasts to that of the scores.
        table: float64 [C, K + 1], see `checked_table`. Between its columns lie straight lines.

    Returns:
        float32 [...], the calibrated scores.
    """
    last = table.shape[1] - 1
    place = scores * float(last)
    lower = tf.minimum(tf.floor(place), float(last - 1))
    index = classes * (last + 1) + tf.cast(lower, tf.int32)
    flat = table.ravel()
    rises = np.append(np.diff(flat), 0.0)  # from one class to the next none is asked for
    start, rise = (tf.gather(tf.constant(column, tf.float32), index) for column in (flat, rises))
    return start + (place - lower) * rise


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

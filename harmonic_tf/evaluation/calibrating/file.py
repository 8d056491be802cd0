"""The file that keeps a calibration, and what is held against it when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harmonic_tf.evaluation.calibrating.fitting import CALIBRATION_METHODS
from harmonic_tf.evaluation.calibrating.table import Calibration
from harmonic_tf.evaluation.metrics.summary import write_metrics


class CalibrationError(ValueError):
    """A file that holds no calibration of this detector; names file, field, value and remedy."""


def write_calibration(path: str, calibration: Calibration) -> None:
    """Writes a calibration as JSON, atomically.

    Args:
        path: file to write; its folder exists.
        calibration: what to write.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    fields = vars(calibration)
    write_metrics(path, {**fields, "table": calibration.table.tolist()})


def read_calibration(path: str, class_names: Sequence[str]) -> Calibration:
    """Reads what `write_calibration` wrote.

    Args:
        path: file to read.
        class_names: the classes that the detector knows, in order.

    Raises:
        CalibrationError: the file is no JSON object, a field is missing, the method is unknown, the
            classes are others, or the table is not one row of rising numbers in [0, 1] a class.
        OSError: the file cannot be read.
    """
    fields = _fields(path)
    method, names, rows = fields["method"], fields["class_names"], fields["table"]
    if method not in CALIBRATION_METHODS:
        _refuse(path, "method", method, f"is none of {', '.join(CALIBRATION_METHODS)}")
    if names != list(class_names):
        _refuse(path, "class_names", names, f"are not the detector's, {list(class_names)}")
    if not isinstance(rows, list) or len(rows) != len(names):
        _refuse(path, "table", rows, f"is not a list of {len(names)} rows, one a class")
    for name, row in zip(names, rows):
        _check_row(path, f"table, row of {name!r}", row, len(rows[0]))
    if not isinstance(fields["fitted_on"], str):
        _refuse(path, "fitted_on", fields["fitted_on"], "is not a text")
    for field in ("detections", "before", "after"):
        numbers = fields[field]
        if not isinstance(numbers, Mapping) or not all(map(_is_number_or_none, numbers.values())):
            _refuse(path, field, numbers, "is not an object of numbers")
        fields[field] = {name: math.nan if n is None else n for name, n in numbers.items()}
    return Calibration(**{**fields, "table": np.array(rows, np.float64)})


def _fields(path: str) -> dict[str, Any]:
    """The fields of a calibration, all of them and no others."""
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{path}: is not JSON ({error}). {_REMEDY}") from None
    if not isinstance(content, dict):
        raise CalibrationError(f"{path}: is not a JSON object. {_REMEDY}")
    fields = Calibration.__dataclass_fields__
    missing = [name for name in fields if name not in content]
    if missing:
        raise CalibrationError(f"{path}: {missing[0]} is missing. {_REMEDY}")
    return {name: content[name] for name in fields}


def _check_row(path: str, field: str, row: Any, length: int) -> None:
    if not isinstance(row, list) or len(row) != length or length < 2:
        _refuse(path, field, row, "is not a list of at least 2 numbers, as long as the others")
    for number in row:
        if not _is_number(number) or not 0 <= number <= 1:
            _refuse(path, field, number, "is not a number in [0, 1]")
    for lower, upper in zip(row, row[1:]):
        if not lower < upper:
            _refuse(path, field, [lower, upper], "does not rise")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


_REMEDY = "Fit it anew by `harmonic-tf calibrate --run=RUN`, or remove the file to have raw scores."


def _refuse(path: str, field: str, value: Any, what: str) -> None:
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    raise CalibrationError(f"{path}: {field} = {shown} {what}. {_REMEDY}")

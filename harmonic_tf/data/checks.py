"""What every source holds its data to, and what becomes of what does not pass.

A check raises `DataError`. Inside `with collecting(problems):` the error ends the block, that is,
drops the box or the picture that the block reads; `finish` then raises or reports what came
together.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import math
import numbers
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from harmonic_tf.data.example import DataError, DetectionData, ImageId, Problem
from harmonic_tf.files import replacing

TOLERANCE = 1.0
"""Pixels by which a box may stick out of its picture: rounding of annotation tools, clipped."""

ON_BAD_EXAMPLE = ("error", "skip")
"""What can be done about problems."""

OBJECT, PICTURE = "object", "picture"
"""Parts of the data that a problem can cost: a `Problem`'s `part`."""

MAX_BAD_FRACTION = 0.1
"""Most of the pictures, or of the objects, that may be left out, where not set: with more, the
choice of data is more likely to be wrong than the data."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,100}")
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_VALUE_LENGTH = 160  # characters of a bad value that a message shows


def refuse(file: str, field: str, value: Any, problem: str, remedy: str) -> NoReturn:
    """Raises the `DataError` of one `Problem`; a long value is cut to a readable length."""
    text = str(value)
    text = text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."
    raise DataError(Problem(file, field, text, problem, remedy))


@contextlib.contextmanager
def collecting(problems: list[Problem], part: str = OBJECT) -> Iterator[None]:
    """A `DataError` inside ends the block and is kept in `problems`, as one that costs `part`."""
    try:
        yield
    except DataError as error:
        problems.append(dataclasses.replace(error.problem, part=part))


def finish(
    data: DetectionData, file: str, problems: Sequence[Problem], on_bad_example: str
) -> DetectionData:
    """Raises the first of the problems, or reports them as skipped.

    Args:
        data: what passed the checks.
        file: what was read, for the message about an empty data set.
        problems: what did not pass.
        on_bad_example: one of `ON_BAD_EXAMPLE`.

    Returns:
        The data with the problems added to `skipped`.

    Raises:
        DataError: there are problems and `on_bad_example` is "error", or no object is left, or
            `on_bad_example` is neither "error" nor "skip".
    """
    if on_bad_example not in ON_BAD_EXAMPLE:
        remedy = f"Use one of {', '.join(ON_BAD_EXAMPLE)}"
        refuse(file, "on_bad_example", on_bad_example, "no such choice", remedy)
    if problems and on_bad_example == "error":
        first = problems[0]
        alike = sum(other.problem == first.problem for other in problems) - 1
        others = len(problems) - 1 - alike
        remedy = f"{first.remedy}, or leave it out with on_bad_example=skip"
        if len(problems) > 1:
            remedy += f" ({alike} more like it, {others} of other kinds)"
        raise DataError(dataclasses.replace(first, remedy=remedy))
    pictures, objects = len(data.annotations), sum(len(a.boxes) for a in data.annotations)
    if not objects:
        refuse(
            file,
            "data set",
            f"{pictures} pictures, {objects} objects, {len(problems)} bad ones left out",
            "is empty",
            f"Look at the first of the bad ones: {problems[0]}" if problems else "Add annotations",
        )
    return dataclasses.replace(data, skipped=(*data.skipped, *problems))


def count_by_cause(problems: Iterable[Problem]) -> dict[str, int]:
    """How often each problem occurs, the most frequent one first."""
    return dict(collections.Counter(problem.problem for problem in problems).most_common())


def check_bad_fraction(data: DetectionData, max_bad_fraction: float = MAX_BAD_FRACTION) -> None:
    """Makes sure that what was skipped is a small part of the data.

    The bad fraction is that of the pictures or that of the objects, whichever is greater. Objects
    of a skipped picture count with neither.

    Args:
        data: with what was skipped listed in it.
        max_bad_fraction: most that may be skipped, in [0, 1].

    Raises:
        DataError: more of the pictures or of the objects was skipped; says how many for what cause.
    """
    found = {PICTURE: len(data.annotations), OBJECT: sum(len(a.boxes) for a in data.annotations)}
    for part, kept in found.items():
        bad = [problem for problem in data.skipped if problem.part == part]
        if len(bad) > max_bad_fraction * (kept + len(bad)):
            causes = "; ".join(f"{count} x {cause}" for cause, count in count_by_cause(bad).items())
            refuse(
                data.name,
                f"bad {part}s",
                f"{len(bad)} of {kept + len(bad)} ({causes})",
                f"more than max_bad_fraction = {max_bad_fraction:g} of all are bad",
                f"Mend them, or raise max_bad_fraction. The first: {bad[0]}",
            )


def write_skipped(path: str, problems: Iterable[Problem]) -> None:
    """Lists what was left out as a CSV file, one row a problem, whole or not at all.

    Args:
        path: file to write; its folder exists.
        problems: what was left out and why.

    Raises:
        OSError: the file cannot be written.
    """
    columns = {"left out": "part", "cause": "problem"}
    columns.update({name: name for name in ("file", "field", "value", "remedy")})
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(p, field) for field in columns.values()] for p in problems)


def class_indices(class_names: Sequence[str], file: str, field: str) -> dict[str, int]:
    """The index of each class by its name; the names must be there and differ."""
    counts = collections.Counter(class_names)
    if not counts:
        refuse(file, field, list(class_names), "no classes", "Name at least one class")
    for name, count in counts.items():
        if count > 1 or not name:
            refuse(file, field, repr(name), "is empty or not unique", "Name each class once")
    return {name: index for index, name in enumerate(class_names)}


def safe_join(folder: str, name: Any, file: str, field: str) -> str:
    """The path of `name` below `folder`, whatever the name's author had in mind.

    Raises:
        DataError: the name is not text, absolute, or leads out of the folder.
    """
    path = pathlib.PureWindowsPath(name) if isinstance(name, str) else None  # knows / and \\
    if path is None or not path.parts or path.anchor or ".." in path.parts or "\0" in name:
        refuse(
            file,
            field,
            repr(name),
            "is not a file name below the data set's folder",
            "Write a relative name without '..'",
        )
    return os.path.join(folder, name)


def number(value: Any, file: str, field: str) -> float:
    """A finite number, or text that writes one; True and False are none."""
    result = math.nan
    if isinstance(value, (numbers.Real, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            result = float(value) if "_" not in str(value) else math.nan
    if not math.isfinite(result):
        refuse(file, field, _as_written(value), "is not a finite number", "Write a number")
    return result


def whole(value: Any, file: str, field: str) -> int:
    """A whole number: 3, 3.0, or text that writes one; however large it is."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    text = value.strip() if isinstance(value, str) else ""
    if _WHOLE.fullmatch(text):
        return int(text)
    result = number(value, file, field)
    if not result.is_integer():
        refuse(file, field, _as_written(value), "is not a whole number", "Write a whole number")
    return int(result)


def _as_written(value: Any) -> str:
    """A value as it stands in a file: NumPy's numbers would name their type."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def identifier(value: Any, file: str, field: str) -> ImageId:
    """An id: a whole number wherever it can be read as one in one way only, else text.

    Text that writes a number in another way than that number is written, such as `"007"`, is an id
    of its own.
    """
    if isinstance(value, str):
        text = value.strip()
        plain = text.removesuffix(".0")
        if _WHOLE.fullmatch(plain) and plain == str(int(plain)):
            return int(plain)
        if text:
            return text
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        return whole(value, file, field)
    refuse(file, field, _as_written(value), "is not an id", "Write a whole number or text")


def flag(value: Any, file: str, field: str) -> bool:
    """Yes or no: True, 1 or 1.0; False, 0 or 0.0; or text that writes one of them."""
    text = str(value).strip().lower() if isinstance(value, (bool, numbers.Real, str)) else ""
    if text not in _FLAGS:
        refuse(file, field, _as_written(value), "is neither 0 nor 1", "Write 0 or 1")
    return _FLAGS[text]


def side(value: Any, file: str, field: str) -> int:
    """A picture's width or height: a whole number of pixels, at least 1."""
    result = number(value, file, field)
    if result < 1 or result != int(result):
        refuse(file, field, value, "is not a side of a picture", "Write its pixels")
    return int(result)


def check_area(width: float, height: float, file: str, field: str, value: Any) -> None:
    """Refuses a box whose sides, as written, are not both positive."""
    if width <= 0 or height <= 0:
        refuse(file, field, value, "box has no area", "Draw the box again or delete it")


def clipped_box(
    xyxy: Sequence[float], width: int, height: int, file: str, field: str, value: Any
) -> np.ndarray:
    """A box within its picture.

    Args:
        xyxy: left, top, right, bottom; pixels, finite.
        width: of the picture, pixels.
        height: of the picture, pixels.
        file: where the box stands, for messages.
        field: where in the file.
        value: how the box is written there.

    Returns:
        float32 [4], xyxy, clipped to the picture, area > 0.

    Raises:
        DataError: the box sticks out by more than `TOLERANCE`, or nothing of it is inside.
    """
    x1, y1, x2, y2 = xyxy
    out = max(-x1, -y1, x2 - width, y2 - height)
    box = np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)
    if out > TOLERANCE or box[2] <= box[0] or box[3] <= box[1]:
        refuse(
            file,
            field,
            f"{value} in a picture of {width} x {height} pixels",
            "box is not inside its picture",
            "Correct the box or the picture's size",
        )
    return box

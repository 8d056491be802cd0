"""One row of a COCO file's `annotations`: ids, flags, box and mask, checked."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as masks

from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError, ImageId

EXTRAS = ("area", "occlusion", "irregularity")
"""Further numbers of an object that are kept where the file has them; see `_read_extras`."""

_POINT_NUMBERS = 2
_LEAST_POLYGON_NUMBERS = 6


class Object(NamedTuple):
    """One object of a picture.

    Args:
        box: float32 [4], xyxy in pixels.
        class_index: of its class.
        crowd: whether it is a crowd region.
        extras: numbers in the order of `EXTRAS`, NaN where the row does not say.
    """

    box: np.ndarray
    class_index: int
    crowd: bool
    extras: Sequence[float]


def get(row: Any, key: str, file: str, field: str) -> Any:
    """The row's value of that key, which must be there."""
    if not isinstance(row, dict) or key not in row:
        checks.refuse(file, f"{field}.{key}", "missing", "is required", f"Give it {key!r}")
    return row[key]


def whole_number(value: Any) -> int | None:
    """The whole number that 7, 7.0, `"7"` or `"7.0"` stands for; None for anything else."""
    with contextlib.suppress(DataError):
        return checks.whole(value, "", "")
    return None


def image_id(row: Any, key: str, file: str, field: str) -> tuple[ImageId, ImageId]:
    """An image's id as it is known outside of the file, and as it is compared: 7 is `"7"`."""
    value = get(row, key, file, field)
    compared = checks.identifier(value, file, f"{field}.{key}")
    return (value if isinstance(value, str) else compared), compared


def read_object(
    row: Mapping[str, Any],
    file: str,
    field: str,
    size: tuple[int, int],
    category_names: Mapping[int, str],
    indices: Mapping[str, int],
    notes: collections.Counter[str],
) -> Object:
    """Reads one row of `annotations`.

    Args:
        row: of the file.
        file: where it stands.
        field: where in the file.
        size: width and height of its picture, pixels.
        category_names: name by category id.
        indices: class index by name.
        notes: counts what is read otherwise than it is written.

    Raises:
        DataError: something of it is wrong.
    """
    category = get(row, "category_id", file, field)
    name = category_names.get(whole_number(category))
    if name is None:
        problem, remedy = "no such id in categories", "Correct the id or add the category"
        checks.refuse(file, f"{field}.category_id", repr(category), problem, remedy)
    if name not in indices:
        problem, remedy = "class is not in the list", f"Use one of {', '.join(indices)}"
        checks.refuse(file, f"{field}.category_id", f"{category} ({name})", problem, remedy)
    crowd = row.get("iscrowd")
    crowd = crowd is not None and checks.flag(crowd, file, f"{field}.iscrowd")
    (x, y, w, h), where, from_mask = _corner_and_sides(row, file, field, size)
    value = row[where]
    checks.check_area(w, h, file, f"{field}.{where}", value)
    box = checks.clipped_box((x, y, x + w, y + h), *size, file, f"{field}.{where}", value)
    extras = _read_extras(row, file, field, w * h)
    if from_mask:
        notes["box is the tight one of its mask"] += 1
    return Object(box, indices[name], crowd, extras)


def _corner_and_sides(
    row: Mapping[str, Any], file: str, field: str, size: tuple[int, int]
) -> tuple[tuple[float, ...], str, bool]:
    """x, y, width and height of an object, the key that says them, and whether it is a mask's."""
    bbox = row.get("bbox")
    no_box = bbox is None or bbox == [] or bbox == [0, 0, 0, 0]
    if no_box and row.get("segmentation"):
        where = "segmentation"
        return _box_of_mask(row[where], file, f"{field}.{where}", size), where, True
    get(row, "bbox", file, field)
    field = f"{field}.bbox"
    if not isinstance(bbox, list) or len(bbox) != 4:
        problem, remedy = "is not a list of four numbers", "Write x, y, width, height"
        checks.refuse(file, field, repr(bbox), problem, remedy)
    return tuple(checks.number(value, file, field) for value in bbox), "bbox", False


def _box_of_mask(
    mask: Any, file: str, field: str, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """x, y, width and height of the tight box of polygons or of run lengths."""
    if isinstance(mask, dict):
        return _box_of_runs(mask, file, field, size)
    polygons = mask if isinstance(mask, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]  # one polygon alone, as the VGG annotator writes it
    for polygon in polygons:
        count = len(polygon) if isinstance(polygon, list) else 0
        if count < _LEAST_POLYGON_NUMBERS or count % _POINT_NUMBERS:
            polygons = []
    if not polygons:
        problem, remedy = "is no mask", "Write polygons, each x1, y1, x2, y2, x3, y3, ..."
        checks.refuse(file, field, repr(mask), problem, f"{remedy} or run lengths, or a bbox")
    numbers = [checks.number(value, file, field) for polygon in polygons for value in polygon]
    points = np.reshape(numbers, [-1, _POINT_NUMBERS])
    corner = points.min(axis=0)
    return (*corner.tolist(), *(points.max(axis=0) - corner).tolist())


def _box_of_runs(
    mask: Mapping[str, Any], file: str, field: str, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The same of run lengths: a list of numbers, or COCO's text of them."""
    width, height = size
    sides = mask.get("size")
    if not isinstance(sides, list) or [whole_number(side) for side in sides] != [height, width]:
        problem, remedy = "is not the picture's height and width", f"Write {[height, width]}"
        checks.refuse(file, f"{field}.size", sides, problem, remedy)
    runs, field = mask.get("counts"), f"{field}.counts"
    if isinstance(runs, list):
        numbers = [whole_number(run) for run in runs]
        if None in numbers or min(numbers, default=0) < 0 or sum(numbers) != width * height:
            problem, remedy = "are not run lengths of its size", "Write the mask again"
            checks.refuse(file, field, runs, problem, remedy)
        encoded = masks.frPyObjects({"size": [height, width], "counts": numbers}, height, width)
    elif isinstance(runs, str) and runs.isascii():
        encoded = {"size": [height, width], "counts": runs}
    else:
        problem, remedy = "is neither a list nor text", "Write the mask again"
        checks.refuse(file, field, repr(runs), problem, remedy)
    return tuple(masks.toBbox(encoded).tolist())


def _read_extras(
    row: Mapping[str, Any], file: str, field: str, box_area: float
) -> tuple[float, ...]:
    """`EXTRAS` of one row, NaN where it does not say.

    `area` is that of the mask where the row has one (a `segmentation`, of polygons or run
    lengths), and then says how irregular the object is, unless the row itself does.
    """
    values = {
        key: math.nan if row.get(key) is None else checks.number(row[key], file, f"{field}.{key}")
        for key in EXTRAS
    }
    if values["area"] < 0:
        problem, remedy = "is negative", "Write the mask's pixels or leave it out"
        checks.refuse(file, f"{field}.area", row["area"], problem, remedy)
    has_mask = row.get("segmentation") and not math.isnan(values["area"])
    if has_mask and math.isnan(values["irregularity"]):
        # A mask of whole pixels may stick out of a box of fractions of them.
        values["irregularity"] = max(1.0 - values["area"] / box_area, 0.0)
    return tuple(values.values())

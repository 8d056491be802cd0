"""Detections as COCO results: the JSON that every detector and every COCO server understands.

A list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}, boxes in pixels of
the source picture.

Source: https://cocodataset.org/#format-results
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from absl import logging
from tqdm import tqdm

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.files import replacing
from harmonic_tf.tables import share

FIELDS = ("image_id", "category_id", "bbox", "score")

# So that x + width still is a float32.
_MAX_COORDINATE = float(np.finfo(np.float32).max) / 2
_VALUE_LENGTH = 160  # characters of a bad value that a message shows
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # an id that is text and means a number
_SHOWN_CATEGORIES = 20  # in a message

# From which share of the boxes on they are likely meant otherwise. Of boxes that are corners about
# three in four end beyond the picture, when taken for a corner and sides.
_NEARLY_ALL, _MANY = 0.9, 0.25
_MARGIN = 1.1  # times as far as the objects go: detectors draw a little beyond them


class ResultsError(ValueError):
    """A file of detections that cannot be taken; names file, row, field, value and remedy."""


def write_detections(
    path: str,
    ground_truth: GroundTruth,
    detections: Detections,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Writes detections as COCO results, one row a line, atomically.

    Args:
        path: file to write; its folder exists.
        ground_truth: whose `image_ids` the detections point to.
        detections: what to write, in this order. `read_detections` gives them back as they are
            where the boxes' corners are in order.
        category_ids: what the file calls the C classes; None numbers them from 1.

    Raises:
        ValueError: there are not C different category ids; or see `checks.check`.
        OSError: the folder is missing or cannot be written to.
    """
    check(ground_truth, detections)
    categories = _category_ids(ground_truth, category_ids)
    images = [_plain(image_id) for image_id in ground_truth.image_ids]
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    columns = zip(
        detections.image_index.tolist(),
        detections.classes.tolist(),
        boxes.tolist(),
        detections.scores.tolist(),
    )
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for number, (image, k, box, score) in enumerate(columns):
            row = dict(zip(FIELDS, (images[image], categories[k], box, score)))
            file.write(",\n" if number else "\n")
            file.write(json.dumps(row, separators=(",", ":"), ensure_ascii=False))
        file.write("\n]\n")


def read_detections(
    path: str,
    ground_truth: GroundTruth,
    category_ids: Sequence[int] | None = None,
    progress: bool = False,
) -> Detections:
    """Reads COCO results of any detector.

    An id is known as a number and as text, a number may be text. A warning is logged where nearly
    all boxes look like fractions or like corners, which no single row can show.

    Args:
        path: file to read; an empty list is fine.
        ground_truth: the pictures and classes that the rows speak of.
        category_ids: what the file calls the C classes; None numbers them from 1.
        progress: whether to show a progress bar.

    Returns:
        The rows in their order.

    Raises:
        ResultsError: the file is not such a list, or a row is wrong: a field is missing, the
            picture or the category unknown, the box not four finite numbers, its width or height
            negative, the score not in [0, 1].
        ValueError: there are not C different category ids.
        OSError: the file cannot be read.
    """
    image_indices = _by_any_name(ground_truth.image_ids)
    classes = _by_any_name(_category_ids(ground_truth, category_ids))
    rows = _rows(path)
    table = np.empty((len(rows), 7))
    for number, row in enumerate(tqdm(rows, desc="Reading", unit="row", disable=not progress)):
        table[number] = _numbers(row, image_indices, classes, f"{path}: row {number}")
    mistake = _likely_mistake(table[:, 2:6], ground_truth)
    if mistake:
        logging.warning("%s: %s", path, mistake)
    x, y, width, height = table[:, 2:6].T
    return Detections(
        image_index=table[:, 0].astype(np.int64),
        boxes=np.stack([x, y, x + width, y + height], axis=-1).astype(np.float32),
        scores=table[:, 6].astype(np.float32),
        classes=table[:, 1].astype(np.int64),
    )


def _rows(path: str) -> list:
    with open(path, encoding="utf-8") as file:
        try:
            rows = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ResultsError(
                f"{path}: is not JSON ({error}). Give the results file of a detector, a list of "
                f"{{{', '.join(FIELDS)}}}."
            ) from None
    if not isinstance(rows, list):
        _refuse(
            path,
            rows,
            "is not a list of detections",
            "Give a results file, not annotations: a list of rows with " + ", ".join(FIELDS),
        )
    return rows


def _numbers(row: Any, image_indices: dict, classes: dict, where: str) -> tuple[float, ...]:
    """Picture, class, x, y, width, height, score; or a `ResultsError`."""
    if not isinstance(row, dict):
        _refuse(where, row, "is not an object", "Write {" + ", ".join(FIELDS) + "}")
    for field in FIELDS:
        if field not in row:
            _refuse(f"{where}, {field}", row, "is missing", "Every row needs " + ", ".join(FIELDS))
    image, category, box, score = (row[field] for field in FIELDS)
    if not _is_name(image) or image not in image_indices:
        example = next(iter(image_indices), None)
        _refuse(
            f"{where}, image_id",
            image,
            "is no picture of the data set",
            f"Give the detections of this split; its image ids look like {example!r}",
        )
    if not _is_name(category) or category not in classes:
        known = list(dict.fromkeys(map(str, classes)))
        more = len(known) - _SHOWN_CATEGORIES
        _refuse(
            f"{where}, category_id",
            category,
            "is no category of the data set",
            f"Use one of {', '.join(known[:_SHOWN_CATEGORIES])}"
            + (f" and {more} more" if more > 0 else ""),
        )
    box = [_number(value) for value in box] if isinstance(box, list) else box
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_coordinate, box))):
        _refuse(
            f"{where}, bbox",
            box,
            "is not a box",
            "Write four finite numbers, [x, y, width, height] in pixels",
        )
    if box[2] < 0 or box[3] < 0:
        _refuse(
            f"{where}, bbox",
            box,
            "has a negative width or height",
            "Write [x, y, width, height], not two corners out of order",
        )
    score = _number(score)
    if not (_is_number(score) and 0 <= score <= 1):
        _refuse(f"{where}, score", score, "is not in [0, 1]", "Write a probability, not a logit")
    return (image_indices[image], classes[category], *box, score)


def _category_ids(ground_truth: GroundTruth, category_ids: Sequence[int] | None) -> list[int]:
    count = len(ground_truth.class_names)
    if category_ids is None:
        return list(range(1, count + 1))
    ids = [_plain(category_id) for category_id in category_ids]
    if len(ids) != count or len(set(ids)) != count:
        raise ValueError(
            f"category_ids = {_shortened(ids)}: {count} different ones were expected, one for "
            "each class. Give those of the annotation file in the order of the class names."
        )
    return ids


def _likely_mistake(xywh: np.ndarray, ground_truth: GroundTruth) -> str | None:
    """What nearly all boxes, [D, 4], seem to be instead of a corner and sides in pixels.

    Ground truth does not know how large its pictures are, but how far their objects go.
    """
    corner, sides = xywh[:, :2], xywh[:, 2:]
    if not len(xywh) or not len(ground_truth.boxes):
        return None
    small = (sides <= 1).all(axis=1)
    reach = _MARGIN * ground_truth.boxes[:, 2:].max(axis=0)
    outside = (corner + sides > reach).any(axis=1)
    inside = ((sides >= corner) & (sides <= reach)).all(axis=1)  # if they were corners
    wanted = "Write [x, y, width, height] in pixels of the pictures as they are annotated"
    if small.mean() >= _NEARLY_ALL:
        said, guess = f"{_share_of(small)} are no larger than a pixel", "fractions of the picture"
    elif outside.mean() >= _MANY and inside.mean() >= _NEARLY_ALL:
        said, guess = f"{_share_of(outside)} end beyond all objects", "corners, [x1, y1, x2, y2]"
    elif outside.mean() >= _NEARLY_ALL:
        said, guess = f"{_share_of(outside)} end beyond all objects", "pixels of another size"
    else:
        return None
    return f"{said} of the data set. Likely the numbers are {guess}. {wanted}."


def _share_of(flags: np.ndarray) -> str:
    count = np.count_nonzero(flags)
    return f"{count} of {len(flags)} boxes ({share(count, len(flags))})"


def _by_any_name(ids: Sequence[Any]) -> dict[Any, int]:
    """The position of each id, also by the same number as text, or by the text as a number."""
    positions = {value: i for i, value in enumerate(ids)}
    for i, value in enumerate(ids):
        if not isinstance(value, str):
            positions.setdefault(str(value), i)
        elif _NUMBER.fullmatch(value):
            positions.setdefault(int(value), i)
    return positions


def _number(value: Any) -> Any:
    """A number that is text as a number; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_coordinate(value: Any) -> bool:
    return _is_number(value) and abs(value) <= _MAX_COORDINATE  # which NaN is not


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else value


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."


def _refuse(where: str, value: Any, problem: str, remedy: str) -> NoReturn:
    raise ResultsError(f"{where} = {_shortened(repr(value))}: {problem}. {remedy}.")

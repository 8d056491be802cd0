"""Reads COCO instances: one JSON file and a folder of pictures."""

from __future__ import annotations

import collections
import glob
import itertools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, ImageId, Problem
from harmonic_tf.data.scenes.rendering import ANNOTATION_FILE

EXTRAS = ("area", "occlusion", "irregularity")
"""Further numbers of an object that are kept where the file has them; see `_read_extras`."""

_INSTANCES = re.compile(r"instances_(.+)\.json")


def read_coco(
    annotation_file: str,
    image_folder: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "coco",
) -> DetectionData:
    """Reads a COCO instances file and checks it; pictures are looked for, not opened.

    Args:
        annotation_file: JSON with `images`, `annotations` and `categories`.
        image_folder: what the images' `file_name` is relative to.
        class_names: which category names count as which class; by default all categories of the
            file in ascending order of their ids.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, or the
            picture with all its boxes, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The data set, pictures in the file's order; `extras` has `EXTRAS`, NaN where not given.

    Raises:
        DataError: the file or the folder cannot be used as a whole, nothing is left, or there is
            a problem and `on_bad_example` is "error".

    Source: the format, https://cocodataset.org/#format-data.
    """
    document = _read_document(annotation_file)
    if not os.path.isdir(image_folder):
        checks.refuse(
            annotation_file, "image folder", image_folder, "is missing", "Put the pictures there"
        )
    category_names = _category_names(document["categories"], annotation_file)
    if class_names is None:
        class_names = [category_names[key] for key in sorted(category_names)]
    indices = checks.class_indices(class_names, annotation_file, "class names")

    problems: list[Problem] = []
    pictures = _read_pictures(document["images"], annotation_file, image_folder, problems)
    objects: dict[ImageId, list[tuple]] = collections.defaultdict(list)
    rows = tqdm(document["annotations"], desc=f"Reading {name}", unit="object", delay=1)
    for index, row in enumerate(rows):
        with checks.collecting(problems):
            field = f"annotations[{index}]"
            image_id = _image_id(row, "image_id", annotation_file, field)
            if image_id not in pictures:
                problem, remedy = "no such id in images", "Correct the id or delete the annotation"
                checks.refuse(annotation_file, f"{field}.image_id", repr(image_id), problem, remedy)
            if pictures[image_id] is not None:
                item = _read_object(
                    row, annotation_file, field, pictures[image_id], category_names, indices
                )
                objects[image_id].append(item)
    annotations = [
        _annotation(image_id, *picture, objects[image_id])
        for image_id, picture in pictures.items()
        if picture is not None
    ]
    category_ids = _ids_of(class_names, category_names)
    data = DetectionData(name, tuple(class_names), annotations, category_ids=category_ids)
    return checks.finish(data, annotation_file, problems, on_bad_example)


def _ids_of(class_names: Sequence[str], category_names: Mapping[int, str]) -> list[int]:
    """The category id of each class; classes that the file does not name take numbers of none."""
    ids = {name: key for key, name in category_names.items()}
    free = itertools.count(max(category_names, default=0) + 1)
    return [ids[name] if name in ids else next(free) for name in class_names]


def _read_document(file: str) -> dict[str, list]:
    """The parsed file, with its three lists."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            document = json.load(opened)
    except OSError as error:
        checks.refuse(file, "file", error.strerror, "cannot be read", "Check the path")
    except (ValueError, RecursionError) as error:
        checks.refuse(file, "file", error, "does not parse as JSON", "Write the file again")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            checks.refuse(
                file, key, "missing", "not a COCO instances file", f"Give the file a list {key!r}"
            )
    return document


def _category_names(categories: Sequence[Any], file: str) -> dict[int, str]:
    """The name of each category by its id."""
    names: dict[int, str] = {}
    for index, row in enumerate(categories):
        field = f"categories[{index}]"
        key, name = _get(row, "id", file, field), _get(row, "name", file, field)
        if not isinstance(key, int) or not isinstance(name, str) or key in names:
            checks.refuse(
                file, field, row, "not a category of its own", "Give it a new whole id and a name"
            )
        names[key] = name
    return names


def _read_pictures(
    images: Sequence[Any], file: str, folder: str, problems: list[Problem]
) -> dict[ImageId, tuple[str, int, int] | None]:
    """Path, width and height of each picture by its id; None for one that is left out."""
    ids = collections.Counter(
        row["id"]
        for row in images
        if isinstance(row, dict) and isinstance(row.get("id"), (int, str))
    )
    pictures: dict[ImageId, tuple[str, int, int] | None] = {}
    for index, row in enumerate(images):
        with checks.collecting(problems, checks.PICTURE):
            field = f"images[{index}]"
            image_id = _image_id(row, "id", file, field)
            pictures[image_id] = None
            if ids[image_id] > 1:
                checks.refuse(
                    file, f"{field}.id", repr(image_id), "id is not unique", "Give each its own id"
                )
            width = checks.side(_get(row, "width", file, field), file, f"{field}.width")
            height = checks.side(_get(row, "height", file, field), file, f"{field}.height")
            field = f"{field}.file_name"
            path = checks.safe_join(folder, row.get("file_name"), file, field)
            pictures[image_id] = checks.find_picture([path], file, field), width, height
    return pictures


def _read_object(
    row: Mapping[str, Any],
    file: str,
    field: str,
    picture: tuple[str, int, int],
    category_names: Mapping[int, str],
    indices: Mapping[str, int],
) -> tuple:
    """Box, class index, crowd flag and extras of one row of `annotations`."""
    category = _get(row, "category_id", file, field)
    name = category_names.get(category) if isinstance(category, int) else None
    if name is None:
        problem, remedy = "no such id in categories", "Correct the id or add the category"
        checks.refuse(file, f"{field}.category_id", repr(category), problem, remedy)
    if name not in indices:
        problem, remedy = "class is not in the list", f"Use one of {', '.join(indices)}"
        checks.refuse(file, f"{field}.category_id", f"{category} ({name})", problem, remedy)
    bbox = _get(row, "bbox", file, field)
    field_box = f"{field}.bbox"
    _, width, height = picture
    if not isinstance(bbox, list) or len(bbox) != 4:
        problem, remedy = "is not a list of four numbers", "Write x, y, width, height"
        checks.refuse(file, field_box, repr(bbox), problem, remedy)
    x, y, w, h = (checks.number(value, file, field_box) for value in bbox)
    checks.check_area(w, h, file, field_box, bbox)
    box = checks.clipped_box((x, y, x + w, y + h), width, height, file, field_box, bbox)
    extras = _read_extras(row, file, field, w * h)
    return (box, indices[name], bool(row.get("iscrowd")), *extras)


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


def _annotation(
    image_id: ImageId, path: str, width: int, height: int, objects: Sequence[tuple]
) -> Annotation:
    """One picture's objects as arrays."""
    boxes, classes, crowd, *extras = zip(*objects) if objects else [()] * (3 + len(EXTRAS))
    return Annotation(
        image_path=path,
        image_id=image_id,
        width=width,
        height=height,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        difficult=np.zeros(len(objects), bool),
        crowd=np.array(crowd, bool),
        extras={key: np.array(values, np.float32) for key, values in zip(EXTRAS, extras)},
    )


def _get(row: Any, key: str, file: str, field: str) -> Any:
    """The row's value of that key, which must be there."""
    if not isinstance(row, dict) or key not in row:
        checks.refuse(file, f"{field}.{key}", "missing", "is required", f"Give it {key!r}")
    return row[key]


def _image_id(row: Any, key: str, file: str, field: str) -> ImageId:
    """An image's id, a whole number or text."""
    value = _get(row, key, file, field)
    if not isinstance(value, (int, str)):
        problem, remedy = "is not an image id", "Write a whole number"
        checks.refuse(file, f"{field}.{key}", repr(value), problem, remedy)
    return value


def load_coco(
    path: str, split: str, class_names: Sequence[str] | None, on_bad_example: str, name: str
) -> DetectionData:
    """Finds the annotation file and the pictures of a split, and reads them: see `read_coco`.

    Args:
        path: an instances JSON with its pictures in `images/` beside it, or, without such a
            folder, right beside it (the split is then only a name); or a folder with
            `annotations/instances_SPLIT.json` and `SPLIT/`; or a folder with
            `SPLIT/annotations.json` and `SPLIT/images/`.
        split: which part of it.
        class_names: see `read_coco`.
        on_bad_example: see `read_coco`.
        name: what to call the data set.

    Raises:
        DataError: no such file is found, or see `read_coco`.
    """
    if os.path.isfile(path):
        beside = os.path.dirname(path)
        images = os.path.join(beside, "images")
        layouts = [(path, images if os.path.isdir(images) else beside)]
    else:
        layouts = [
            (
                os.path.join(path, "annotations", f"instances_{split}.json"),
                os.path.join(path, split),
            ),
            (
                os.path.join(path, split, ANNOTATION_FILE),
                os.path.join(path, split, "images"),
            ),
        ]
    for annotation_file, image_folder in layouts:
        if os.path.isfile(annotation_file):
            return read_coco(annotation_file, image_folder, class_names, on_bad_example, name)
    files = " nor ".join(os.path.relpath(file, path) for file, _ in layouts)
    checks.refuse(path, "split", split, f"holds neither {files}", "Check the path and the split")


def splits_of_coco(path: str) -> list[str]:
    """The splits that `load_coco` finds."""
    if os.path.isfile(path):
        name = os.path.basename(path)
        match = _INSTANCES.fullmatch(name)
        return [match[1] if match else os.path.splitext(name)[0]]
    files = glob.glob(os.path.join(glob.escape(path), "annotations", "instances_*.json"))
    matches = (_INSTANCES.fullmatch(os.path.basename(file)) for file in files)
    names = [match[1] for match in matches if match]
    return [n for n in names if os.path.isdir(os.path.join(path, n))] + splits_by_folder(path)


def splits_by_folder(path: str) -> list[str]:
    """The folders that hold an annotation file of their own."""
    files = glob.glob(os.path.join(glob.escape(path), "*", ANNOTATION_FILE))
    return [os.path.basename(os.path.dirname(file)) for file in files]

"""Reads COCO instances: a JSON file and a folder of pictures, as the tools that export them do."""

from __future__ import annotations

import collections
import glob
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DataError, DetectionData, Problem
from harmonic_tf.data.readers import coco_layouts
from harmonic_tf.data.readers.coco_objects import (
    EXTRAS,
    get,
    image_id,
    read_object,
    whole_number,
)
from harmonic_tf.data.readers.coco_pictures import Picture, read_pictures
from harmonic_tf.data.scenes.rendering import ANNOTATION_FILE


def load_coco(
    path: str, split: str, class_names: Sequence[str] | None, on_bad_example: str, name: str
) -> DetectionData:
    """Finds the annotation file and the pictures of a split, and reads them: see `read_coco`.

    Args:
        path: a folder that a tool left, with its annotations in `annotations/`, in a folder for
            each split, or right there, or one of these JSON files (the split is then only a name).
        split: which part of it, of `splits_of_coco`; `"all"` where it has no parts.
        class_names: see `read_coco`. By default, those of Roboflow's empty super-category aside: a
            category that is the `supercategory` of others, and of which no split has an object.
        on_bad_example: see `read_coco`.
        name: what to call the data set.

    Raises:
        DataError: no such file or none of its pictures is found, or see `read_coco`.
    """
    file = coco_layouts.annotation_file(path, split)
    document = _read_document(file)
    if os.path.isfile(path):
        files, (split,) = [file], coco_layouts.splits_of(path) or [split]
    else:
        files = list(coco_layouts.annotation_files(path).values())
    rows = document["images"]
    names = [row.get("file_name") for row in rows if isinstance(row, dict)]
    folder = coco_layouts.image_folder(file, split, names)
    others = [other for other in files if other != file]
    return _read(document, file, folder, class_names, on_bad_example, name, others)


def splits_of_coco(path: str) -> list[str]:
    """The splits that `load_coco` reads: see `coco_layouts.splits_of`."""
    return coco_layouts.splits_of(path)


def splits_by_folder(path: str) -> list[str]:
    """The folders that hold an annotation file of their own."""
    files = glob.glob(os.path.join(glob.escape(path), "*", ANNOTATION_FILE))
    return [os.path.basename(os.path.dirname(file)) for file in files]


def read_coco(
    annotation_file: str,
    image_folder: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "coco",
) -> DetectionData:
    """Reads a COCO instances file and checks it; pictures are looked for, not decoded.

    What other tools write otherwise is read where it is unambiguous, and counted in `notes`: ids,
    numbers and flags as text; a `file_name` with back-slashes, percent-encoded or with folders of
    another machine before it; no `width` and `height`, which then are the picture's own; no `bbox`
    but a `segmentation`, whose tight box is taken.

    Args:
        annotation_file: JSON with `images`, `annotations` and `categories`.
        image_folder: what the images' `file_name` is relative to.
        class_names: which category names count as which class; by default all categories of the
            file in ascending order of their ids, those aside that are the `supercategory` of others
            and have no object.
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
    return _read(document, annotation_file, image_folder, class_names, on_bad_example, name, [])


def _read(
    document: Mapping[str, list],
    file: str,
    folder: str,
    class_names: Sequence[str] | None,
    on_bad_example: str,
    name: str,
    other_files: Sequence[str],
) -> DetectionData:
    """Reads a parsed file: see `read_coco`. The other files are those of the other splits."""
    notes: collections.Counter[str] = collections.Counter()
    category_names = _category_names(document["categories"], file)
    if class_names is None:
        left_out = _empty_super_categories(document, category_names, other_files)
        for key in left_out:
            who = f"category {key} ({category_names[key]})"
            notes[f"{who} is the super-category of others and has no object: left out"] = 1
        kept = [key for key in sorted(category_names) if key not in left_out]
        category_names = {key: category_names[key] for key in kept}
        class_names = list(category_names.values())
    indices = checks.class_indices(class_names, file, "class names")

    problems: list[Problem] = []
    pictures = read_pictures(document["images"], file, folder, problems, notes)
    rows = tqdm(document["annotations"], desc=f"Reading {name}", unit="object", delay=1)
    for index, row in enumerate(rows):
        with checks.collecting(problems):
            field = f"annotations[{index}]"
            written, key = image_id(row, "image_id", file, field)
            if key not in pictures:
                problem, remedy = "no such id in images", "Correct the id or delete the annotation"
                checks.refuse(file, f"{field}.image_id", repr(written), problem, remedy)
            picture = pictures[key]
            if picture is not None:
                picture.objects.append(
                    read_object(row, file, field, picture.size, category_names, indices, notes)
                )
    _check_pixels(pictures.values(), file)
    data = DetectionData(
        name,
        tuple(class_names),
        [_annotation(picture) for picture in pictures.values() if picture is not None],
        category_ids=_ids_of(class_names, category_names),
        notes=dict(+notes),
    )
    return checks.finish(data, file, problems, on_bad_example)


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
        key, name = whole_number(get(row, "id", file, field)), get(row, "name", file, field)
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if key is None or not isinstance(name, str) or key in names:
            checks.refuse(
                file, field, row, "not a category of its own", "Give it a new whole id and a name"
            )
        names[key] = name
    return names


def _empty_super_categories(
    document: Mapping[str, list], names: Mapping[int, str], other_files: Sequence[str]
) -> set[int]:
    """The categories that others name as theirs, without an object in this file and the others.

    Roboflow writes one of id 0. As all files are looked at, all splits have the same classes.
    """
    pairs = [(row["name"], row.get("supercategory")) for row in document["categories"]]
    above = {str(name) for own, name in pairs if name not in (own, None, "", "none")}
    empty = {key for key, name in names.items() if name in above} - _used(document)
    for file in other_files if empty else ():
        try:
            other = _read_document(file)
            other_names = _category_names(other["categories"], file)
        except DataError:
            continue  # it is refused when it is read itself
        empty -= {key for key in _used(other) if other_names.get(key) == names.get(key)}
    return empty


def _used(document: Mapping[str, list]) -> set[int | None]:
    """The ids of the categories that have an object."""
    rows = document["annotations"]
    return {whole_number(row.get("category_id")) for row in rows if isinstance(row, dict)}


def _check_pixels(pictures: Iterable[Picture | None], file: str) -> None:
    """Refuses boxes all of which are in fractions of the picture, not in pixels."""
    boxes = [item.box for picture in pictures if picture for item in picture.objects]
    if boxes and np.max(boxes) <= 1:
        problem = "all boxes end within the first pixel: fractions of the picture's sides"
        checks.refuse(
            file, "bbox", f"{boxes[0].tolist()}, as corners", problem, "Write them in pixels"
        )


def _annotation(picture: Picture) -> Annotation:
    """One picture's objects as arrays."""
    objects = picture.objects
    extras = np.array([item.extras for item in objects], np.float32).reshape(-1, len(EXTRAS))
    return Annotation(
        image_path=picture.path,
        image_id=picture.image_id,
        width=picture.size[0],
        height=picture.size[1],
        boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        classes=np.array([item.class_index for item in objects], np.int32),
        difficult=np.zeros(len(objects), bool),
        crowd=np.array([item.crowd for item in objects], bool),
        extras=dict(zip(EXTRAS, extras.T.copy())),
    )

"""Reads data sets of the YOLO tools: `data.yaml`, and a text file of labels for each picture."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from absl import logging
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, Problem
from harmonic_tf.data.images.headers import read_header

DESCRIPTION = "data.yaml"

_SPLIT_KEY = re.compile(r"^(train|val|test)[ \t]*:[ \t]*([^#\s]|(#.*)?\n\s*-)", re.MULTILINE)

# Those that cannot be decoded are here too, so that they are reported and not passed over.
_SUFFIXES = (
    *(".avif", ".bmp", ".dng", ".gif", ".heic", ".jp2", ".jpeg", ".jpg", ".mpo", ".png"),
    *(".tif", ".tiff", ".webp"),
)
_BOX_NUMBERS = 4
_LEAST_POLYGON_NUMBERS = 6


def read_yolo(
    root: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "yolo",
) -> DetectionData:
    """Reads a split of YOLO data and checks it; of the pictures, only the headers.

    `data.yaml` names the classes (`names`, a list or a mapping by number), and for each split a
    folder of pictures, a list of folders, or a text file that lists pictures. Folders are relative
    to its `path`, or without that to the file's own folder. A picture's labels are in the file that
    its own path names once the last `images` folder in it is replaced by `labels`, and its suffix
    by `.txt`; without such a file it is a picture without objects.

    A label is a row `class x y width height`, centre and sides of a box as fractions of the
    picture's sides; or `class x1 y1 x2 y2 x3 y3 ...`, a polygon of 3 points or more, whose tight
    box is taken. Boxes are in the picture as a person sees it, turned by its EXIF orientation.

    Args:
        root: the folder that holds `data.yaml`, or such a file.
        split: `"train"`, `"val"`, `"test"` or what else the file names.
        class_names: index by name; by default those of the file, in ascending order of the number.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, or the
            picture with all its boxes, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The data set, pictures in the order of their paths or of the text file; ids are paths
        relative to the data set's folder.

    Raises:
        DataError: the file cannot be used, nothing is left, or there is a problem and
            `on_bad_example` is "error".

    Source: the format, https://docs.ultralytics.com/datasets/detect.
    """
    file = os.path.join(root, DESCRIPTION) if os.path.isdir(root) else root
    document = _read_document(file)
    names = _class_names(document, file)
    if class_names is None:
        class_names = [names[key] for key in sorted(names)]
    indices = checks.class_indices(class_names, file, "names")

    problems: list[Problem] = []
    annotations: dict[str, Annotation] = {}
    folder, paths = _picture_paths(document, split, file)
    unlabelled = 0
    for path in tqdm(paths, desc=f"Reading {name}", unit="picture", delay=1):
        with checks.collecting(problems, checks.PICTURE):
            image_id = os.path.relpath(path, folder).replace(os.sep, "/")
            if image_id in annotations:
                checks.refuse(file, split, path, "picture is not unique", "List each picture once")
            size = _size(path)
            labels = label_path(path)
            unlabelled += not os.path.exists(labels)
            boxes, classes = _read_labels(labels, size, names, indices, problems)
            annotations[image_id] = _annotation(path, image_id, size, boxes, classes)
    if unlabelled:
        logging.info("%s: %d pictures without a file of labels have no objects.", name, unlabelled)
    data = DetectionData(name, tuple(class_names), list(annotations.values()))
    return checks.finish(data, file, problems, on_bad_example)


def label_path(picture_path: str) -> str:
    """Where the labels of a picture are: beside it where no folder of its path is `images`."""
    images, labels = (f"{os.sep}{name}{os.sep}" for name in ("images", "labels"))
    stem = os.path.splitext(os.path.abspath(picture_path))[0]
    return labels.join(stem.rsplit(images, 1)) + ".txt"


def _read_document(file: str) -> Mapping[str, Any]:
    """The parsed `data.yaml`."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            document = yaml.safe_load(opened)
    except OSError as error:
        remedy = f"Name a folder with a {DESCRIPTION}, or such a file"
        checks.refuse(file, "file", error.strerror, "cannot be read", remedy)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        checks.refuse(file, "file", error, "does not parse as YAML", "Write the file again")
    if not isinstance(document, dict):
        problem, remedy = "is not a YOLO data set", "Give the file `names` and its splits"
        checks.refuse(file, "file", type(document).__name__, problem, remedy)
    if "kpt_shape" in document:
        problem, remedy = "labels of key points cannot be read", "Use labels of boxes or polygons"
        checks.refuse(file, "kpt_shape", "given", problem, remedy)
    return document


def _class_names(document: Mapping[str, Any], file: str) -> dict[int, str]:
    """The name of each class by its number."""
    names = document.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        problem, remedy = "no classes", "Name them, as a list or by number"
        checks.refuse(file, "names", type(names).__name__, problem, remedy)
    for key, name in names.items():
        if not _is_number(key) or not (_is_number(name) or isinstance(name, str)):
            # YAML takes a bare `no`, `on` or `1e5` for something else than text.
            value = f"{type(key).__name__}: {type(name).__name__}"
            problem, remedy = "is not a number and a name", "Put the name into quotes"
            checks.refuse(file, "names", value, problem, remedy)
    names = {key: str(name) for key, name in names.items()}
    checks.class_indices(list(names.values()), file, "names")
    return names


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _picture_paths(document: Mapping[str, Any], split: str, file: str) -> tuple[str, list[str]]:
    """The data set's folder and the pictures of a split."""
    entries = document.get(split)
    entries = [entries] if isinstance(entries, str) else entries
    if not entries or not isinstance(entries, list):
        splits = ", ".join(key for key in ("train", "val", "test") if document.get(key))
        remedy = f"Name one of {splits}" if splits else "Give the file its splits"
        checks.refuse(file, "split", split, "names no pictures", remedy)
    own = os.path.dirname(os.path.abspath(file))
    path = document.get("path")
    for key, value in (("path", path or ""), *((split, entry) for entry in entries)):
        if not isinstance(value, str):
            problem, remedy = "is not a path", "Write it as text"
            checks.refuse(file, key, type(value).__name__, problem, remedy)
    # A `path` that was right where the file was written is often wrong where it was copied to.
    folders = [own] if not path else [os.path.join(own, path), own]
    paths: list[str] = []
    for entry in entries:
        places = [os.path.join(folder, part) for folder in folders for part in _readings(entry)]
        place = next((os.path.normpath(place) for place in places if os.path.exists(place)), None)
        if place is None:
            problem, remedy = "is missing", f"Correct it, or `path`; looked for {', '.join(places)}"
            checks.refuse(file, split, entry, problem, remedy)
        paths += _listed(place) if os.path.isfile(place) else _found(place)
    folder = next(folder for folder in folders if os.path.isdir(folder))
    return os.path.normpath(folder), paths


def _readings(entry: str) -> list[str]:
    """An entry as it stands, and without the `../` that some exporters put before it."""
    return [entry, entry[len("../") :]] if entry.startswith("../") else [entry]


def _listed(file: str) -> Iterator[str]:
    """The pictures that a text file lists, relative to its folder."""
    for _, line in _lines(file):
        yield os.path.normpath(os.path.join(os.path.dirname(file), line))


def _found(folder: str) -> Iterator[str]:
    """The pictures below a folder, in the order of their paths."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)


def _lines(file: str) -> list[tuple[str, str]]:
    """The lines of a text file that are not empty, each after its place."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            lines = [line.strip() for line in opened]
    except (OSError, UnicodeDecodeError) as error:
        checks.refuse(file, "file", error, "cannot be read as text", "Write the file again")
    return [(f"line {number}", line) for number, line in enumerate(lines, start=1) if line]


def _size(path: str) -> tuple[int, int]:
    """Width and height of a picture as a person sees it, pixels."""
    try:
        with open(path, "rb") as picture:
            return read_header(picture, path).upright_size
    except OSError as error:
        remedy = "Restore the picture or drop its entry"
        checks.refuse(path, "file", error.strerror, "picture cannot be read", remedy)


def _read_labels(
    file: str,
    size: tuple[int, int],
    names: Mapping[int, str],
    indices: Mapping[str, int],
    problems: list[Problem],
) -> tuple[list[np.ndarray], list[int]]:
    """Boxes and class indices of a file of labels; bad rows go to the problems."""
    boxes: list[np.ndarray] = []
    classes: list[int] = []
    for field, line in _lines(file) if os.path.exists(file) else ():
        with checks.collecting(problems):
            number, *numbers = (checks.number(text, file, field) for text in line.split())
            if number not in names:
                problem, remedy = "no such class in names", "Correct the class or add its name"
                checks.refuse(file, field, line, problem, remedy)
            if names[number] not in indices:
                problem, remedy = "class is not in the list", f"Use one of {', '.join(indices)}"
                checks.refuse(file, field, f"{line} ({names[number]})", problem, remedy)
            boxes.append(_box(numbers, size, file, field, line))
            classes.append(indices[names[number]])
    return boxes, classes


def _box(
    numbers: Sequence[float], size: tuple[int, int], file: str, field: str, line: str
) -> np.ndarray:
    """The box of one row, float32 [4], xyxy in pixels."""
    if len(numbers) == _BOX_NUMBERS:
        centre, sides = np.split(np.array(numbers), 2)
        corners = np.stack([centre - sides / 2, centre + sides / 2])
    elif len(numbers) >= _LEAST_POLYGON_NUMBERS and len(numbers) % 2 == 0:
        points = np.reshape(numbers, [-1, 2])
        corners = np.stack([points.min(axis=0), points.max(axis=0)])
        sides = corners[1] - corners[0]
    else:
        problem, remedy = "is neither a box nor a polygon", "Write class, x, y, width, height"
        checks.refuse(file, field, line, problem, remedy)
    checks.check_area(*sides, file, field, line)
    return checks.clipped_box((corners * size).ravel(), *size, file, field, line)


def _annotation(
    path: str,
    image_id: str,
    size: tuple[int, int],
    boxes: Sequence[np.ndarray],
    classes: Sequence[int],
) -> Annotation:
    """One picture's objects as arrays."""
    width, height = size
    return Annotation(
        image_path=path,
        image_id=image_id,
        width=width,
        height=height,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        difficult=np.zeros(len(boxes), bool),
        crowd=np.zeros(len(boxes), bool),
    )


def splits_of_yolo(path: str) -> list[str]:
    """The splits that `read_yolo` takes."""
    file = os.path.join(path, DESCRIPTION) if os.path.isdir(path) else path
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as opened:
            text = opened.read()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        checks.refuse(file, "file", file, problem, "Name a data.yaml or its folder")
    return [match[1] for match in _SPLIT_KEY.finditer(text)]

"""Reads data sets of the YOLO tools: a text file of labels for each image."""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, Problem
from harmonic_tf.data.images.finding import SUFFIXES, Images
from harmonic_tf.data.readers import image_files, yolo_layouts, yolo_places
from harmonic_tf.data.readers.yolo_labels import LabelFinder, columns_of

_BOX_NUMBERS = 4
_LEAST_POLYGON_NUMBERS = 6

UNLABELLED_NOTE = "an image without a file of labels has no objects"
POLYGON_NOTE = "the tight box of a polygon is taken"
ORPHAN_NOTE = "a file of labels without an image is not read"


def read_yolo(
    root: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "yolo",
) -> DetectionData:
    """Reads a split of YOLO data and checks it; of the images, only the headers.

    `data.yaml` names the classes (`names`, a list or a mapping by number), and for each split a
    folder of images, a list of folders, or a text file that lists images. Folders are relative to
    its `path`, or, without that or where it leads nowhere, to the file's own folder. Without such a
    file the classes are the lines of `classes.txt` or `*.names`, and the splits those that folders
    or lists are named after. An image's labels are in the text file of its name in the folder that
    its own path names once the last `images` folder in it is replaced by `labels`; or beside it, or
    in a folder `labels` there; without one it is an image without objects.

    A label is a row `class x y width height`, centre and sides of a box as fractions of the
    image's sides; or `class x1 y1 x2 y2 x3 y3 ...`, a polygon of 3 points or more, whose tight
    box is taken. Boxes are in the image as a person sees it, turned by its EXIF orientation.

    Args:
        root: the folder of the data set, or the file that describes it.
        split: `"train"`, `"val"` (or `"valid"`), `"test"` or what else the file names; `"all"` of
            a folder without splits.
        class_names: index by name; by default those of the file, in ascending order of the number.
            Where nothing names the classes, these are theirs from 0 on.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, or the
            picture with all its boxes, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The data set, images in the order of their paths or of the text file; ids are paths
        relative to the data set's folder.

    Raises:
        DataError: the file cannot be used, nothing is left, or there is a problem and
            `on_bad_example` is "error".

    Source: the format, https://docs.ultralytics.com/datasets/detect.
    """
    description = yolo_layouts.describe(root)
    file = description.file
    names = yolo_layouts.class_names(description) or dict(enumerate(class_names or ()))
    notes: collections.Counter[str] = collections.Counter()
    folder, paths = yolo_layouts.find_images(description, split, notes)
    if not names:
        remedy = "Name them in `names` of a data.yaml, or in a classes.txt, one a line"
        checks.refuse(file, "names", "NoneType", "no classes", remedy)
    if class_names is None:
        class_names = [names[key] for key in sorted(names)]
    indices = checks.class_indices(class_names, file, "names")

    problems: list[Problem] = []
    annotations: dict[str, Annotation] = {}
    finder, images = LabelFinder(), Images()
    for path in tqdm(paths, desc=f"Reading {name}", unit="picture", delay=1):
        with checks.collecting(problems, checks.PICTURE):
            image_id = os.path.relpath(path, folder).replace(os.sep, "/")
            if image_id in annotations:
                checks.refuse(file, split, path, "picture is not unique", "List each picture once")
            if not os.path.isfile(path):
                images.find_alike(os.path.dirname(path), [path], file, split)  # says what is there
            size = image_files.upright_size(path)
            rows = _read_labels(finder.find(path), size, names, indices, problems, notes)
            annotations[image_id] = _annotation(path, image_id, size, *rows)
    if not problems and not any(len(a.boxes) for a in annotations.values()):
        _refuse_empty(description, split, paths, finder)
    notes[UNLABELLED_NOTE] += sum(finder.find(path) is None for path in paths)
    notes[ORPHAN_NOTE] += finder.orphans()
    for key in yolo_layouts.missing_splits(description):
        notes[f"of the split {key}, which {os.path.basename(file)} names, nothing is there"] += 1
    data = DetectionData(name, tuple(class_names), list(annotations.values()), notes=+notes)
    return checks.finish(data, file, problems, on_bad_example)


def splits_of_yolo(path: str) -> list[str]:
    """The splits that `read_yolo` takes; `["all"]` without any, `[]` without YOLO data."""
    if not os.path.exists(path):
        checks.refuse(path, "PATH", path, "cannot be read", "Name a folder or a data.yaml")
    if os.path.isfile(path) and not path.lower().endswith(yolo_layouts.SUFFIXES):
        return []
    description = yolo_layouts.describe(path)
    splits = yolo_layouts.splits(description)
    return splits if description.declared or _has_labels(description, splits) else []


def _has_labels(description: yolo_layouts.Description, splits: Sequence[str]) -> bool:
    """Whether an image of the splits has labels in YOLO's format."""
    finder = LabelFinder()
    return any(
        finder.find_rows(path)
        for split in splits
        for path in yolo_layouts.find_images(description, split, collections.Counter())[1]
    )


def _refuse_empty(
    description: yolo_layouts.Description, split: str, paths: Sequence[str], finder: LabelFinder
) -> NoReturn:
    """Says what was looked for, and what is there, where no object is found."""
    files = image_files.kinds_of_files(description.folder)
    if not paths:
        suffixes = ", ".join(SUFFIXES[:3])
        entry = description.document.get(split, split)
        remedy = f"Looked for {suffixes} and others; there are {files}"
        checks.refuse(description.file, split, entry, "holds no images", remedy)
    value = f"{len(paths)} images"
    labels = [path for path in map(finder.find, paths) if path]
    if labels:
        problem, remedy = "no image has an object", f"Add rows to the {len(labels)} files of labels"
        checks.refuse(description.file, split, f"{value}; {labels[0]} is empty", problem, remedy)
    stem = os.path.splitext(os.path.basename(paths[0]))[0]
    remedy = (
        f"Looked for {stem}.txt beside {os.path.basename(paths[0])}, and where a folder labels is "
        f"in place of images, beside it or in it; there are {files}"
    )
    checks.refuse(description.file, split, value, "no image has a file of labels", remedy)


def _read_labels(
    file: str | None,
    size: tuple[int, int],
    names: Mapping[int, str],
    indices: Mapping[str, int],
    problems: list[Problem],
    notes: collections.Counter[str],
) -> tuple[list[np.ndarray], list[int]]:
    """Boxes and class indices of a file of labels; bad rows go to the problems."""
    boxes: list[np.ndarray] = []
    classes: list[int] = []
    for place, line in enumerate(yolo_places.text_lines(file) if file else (), start=1):
        if not line:
            continue
        field = f"line {place}"
        with checks.collecting(problems):
            number, *numbers = (checks.number(text, file, field) for text in columns_of(line))
            if number not in names:
                problem, remedy = "no such class in names", "Correct the class or add its name"
                checks.refuse(file, field, line, problem, remedy)
            if names[number] not in indices:
                problem, remedy = "class is not in the list", f"Use one of {', '.join(indices)}"
                checks.refuse(file, field, f"{line} ({names[number]})", problem, remedy)
            boxes.append(_box(numbers, size, file, field, line))
            classes.append(indices[names[number]])
            notes[POLYGON_NOTE] += len(numbers) > _BOX_NUMBERS
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
    elif len(numbers) == _BOX_NUMBERS + 1:
        problem = "is a detection with a confidence, not a label"
        remedy = (
            "Name the folder of the labels, or, if they are to be learned from, drop the sixth "
            f"column: cut -d' ' -f1-5 {os.path.basename(file)}"
        )
        checks.refuse(file, field, line, problem, remedy)
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

"""Reads PASCAL VOC: one XML file a picture, splits as lists of ids."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import numpy as np
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, Problem

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_PER_CLASS_LINE = re.compile(r"\S.*\s(-1|0|1)")  # cat_train.txt: id, and is there a cat
_SPLIT_REMEDY = (
    "Name a list in ImageSets/Main, like trainval, or in a VOCdevkit with its year, like "
    "2007_trainval; join several by +"
)


class _Object(NamedTuple):
    """One object of an XML file; the box is float32 [4], xyxy."""

    name: str
    box: np.ndarray
    difficult: bool
    truncated: float


class _Picture(NamedTuple):
    """One XML file; sides in pixels."""

    path: str
    image_id: str
    width: int
    height: int
    objects: list[_Object]


def read_voc(
    root: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "voc",
) -> DetectionData:
    """Reads splits of VOC data and checks them; pictures are looked for, not opened.

    The picture is the one in `JPEGImages` that the XML's `<filename>` names, or else that bears the
    XML's own name with .jpg, .jpeg or .png; `<path>` is not used. VOC counts pixels from 1 and
    includes the last one, so xyxy = (xmin - 1, ymin - 1, xmax, ymax).

    Args:
        root: a VOC folder, which holds `ImageSets/Main`, `Annotations` and `JPEGImages`; or a
            VOCdevkit, which holds one such folder `VOC<year>` for each year.
        split: name of a list in `ImageSets/Main`, for example `"trainval"`; in a VOCdevkit with
            its year, `"2007_trainval"`. Several are joined by a plus sign:
            `"2007_trainval+2012_trainval"`.
        class_names: index by name; by default the names in the split, sorted.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, or the
            picture with all its boxes, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The data set, pictures in the order of the lists; `extras` has `truncated`: 1, 0, or NaN
        where not given.

    Raises:
        DataError: a list cannot be read, nothing is left, or there is a problem and
            `on_bad_example` is "error".

    Source: the format, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html.
    """
    if class_names is not None:
        checks.class_indices(class_names, root, "class names")
    problems: list[Problem] = []
    pictures: dict[str, _Picture] = {}
    entries = [entry for part in split.split("+") for entry in _read_list(root, part)]
    seen: set[str] = set()
    for folder, image_id, list_file, field in tqdm(
        entries, desc=f"Reading {name}", unit="picture", delay=1
    ):
        with checks.collecting(problems, checks.PICTURE):
            if image_id in seen:
                problem, remedy = "id is not unique", "List each picture once"
                checks.refuse(list_file, field, image_id, problem, remedy)
            seen.add(image_id)
            checks.safe_join(folder, image_id, list_file, field)
            pictures[image_id] = _read_picture(folder, image_id, class_names, problems)
    if class_names is None:
        class_names = sorted({item.name for p in pictures.values() for item in p.objects})
    annotations = [_annotation(picture, class_names) for picture in pictures.values()]
    data = DetectionData(name, tuple(class_names), annotations)
    return checks.finish(data, root, problems, on_bad_example)


def _read_list(root: str, split: str) -> list[tuple[str, str, str, str]]:
    """VOC folder, picture id, list file and line there of each picture of a split."""
    folder = root
    if not os.path.isdir(os.path.join(root, "ImageSets")):
        year, _, split = split.rpartition("_")
        folder = os.path.join(root, f"VOC{year}")
        if not os.path.isdir(folder):
            problem = f"holds neither ImageSets nor VOC{year}"
            checks.refuse(root, "split", split, problem, _SPLIT_REMEDY)
    file = os.path.join(folder, "ImageSets", "Main", f"{split}.txt")
    try:
        with open(file, encoding="utf-8-sig") as opened:
            lines = [line.strip() for line in opened]
    except (OSError, UnicodeDecodeError) as error:
        checks.refuse(file, "split", f"{split} ({error})", "cannot be read", _SPLIT_REMEDY)
    return [(folder, line, file, f"line {i}") for i, line in enumerate(lines, start=1) if line]


def _read_picture(
    folder: str,
    image_id: str,
    class_names: Sequence[str] | None,
    problems: list[Problem],
) -> _Picture:
    """Reads one XML file; bad objects go to the problems, a bad file raises DataError."""
    file = os.path.join(folder, "Annotations", f"{image_id}.xml")
    try:
        root = defusedxml.ElementTree.parse(file).getroot()
    except OSError as error:
        remedy = "Restore it or drop its id from the list"
        checks.refuse(file, "file", error.strerror, "annotation cannot be read", remedy)
    except (SyntaxError, ValueError, LookupError) as error:
        checks.refuse(file, "file", error, "does not parse as XML", "Write the file again")
    path = _picture_path(root, folder, image_id, file)
    width = checks.side(root.findtext("size/width"), file, "size/width")
    height = checks.side(root.findtext("size/height"), file, "size/height")
    objects: list[_Object] = []
    for index, element in enumerate(root.findall("object")):
        with checks.collecting(problems):
            item = _read_object(element, file, f"object[{index}]", width, height)
            if class_names is not None and item.name not in class_names:
                problem, remedy = "class is not in the list", f"Use one of {', '.join(class_names)}"
                checks.refuse(file, f"object[{index}]/name", item.name, problem, remedy)
            objects.append(item)
    return _Picture(path, image_id, width, height, objects)


def _picture_path(root: Element, folder: str, image_id: str, file: str) -> str:
    """Where the picture is."""
    pictures = os.path.join(folder, "JPEGImages")
    names = [image_id + suffix for suffix in _SUFFIXES]
    named = (root.findtext("filename") or "").strip()
    if named:
        checks.safe_join(pictures, named, file, "filename")
        names.insert(0, named)
    return checks.find_picture([os.path.join(pictures, n) for n in names], file, "filename")


def _read_object(element: Element, file: str, field: str, width: int, height: int) -> _Object:
    """Reads one `object` element."""
    name = (element.findtext("name") or "").strip()
    if not name:
        checks.refuse(file, f"{field}/name", "missing", "is required", "Name the object's class")
    field = f"{field}/bndbox"
    texts = {key: element.findtext(f"bndbox/{key}") for key in _CORNERS}
    xmin, ymin, xmax, ymax = (checks.number(texts[key], file, f"{field}/{key}") for key in _CORNERS)
    value = " ".join(f"{key}={text}" for key, text in texts.items())
    checks.check_area(xmax - xmin, ymax - ymin, file, field, value)
    box = checks.clipped_box((xmin - 1, ymin - 1, xmax, ymax), width, height, file, field, value)
    flags = {"0": 0.0, "1": 1.0}
    return _Object(
        name=name,
        box=box,
        difficult=element.findtext("difficult", "0").strip() == "1",
        truncated=flags.get(element.findtext("truncated", "").strip(), math.nan),
    )


def _annotation(picture: _Picture, class_names: Sequence[str]) -> Annotation:
    """One picture's objects as arrays."""
    objects = picture.objects
    return Annotation(
        image_path=picture.path,
        image_id=picture.image_id,
        width=picture.width,
        height=picture.height,
        boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        classes=np.array([class_names.index(item.name) for item in objects], np.int32),
        difficult=np.array([item.difficult for item in objects], bool),
        crowd=np.zeros(len(objects), bool),
        extras={"truncated": np.array([item.truncated for item in objects], np.float32)},
    )


def splits_of_voc(path: str) -> list[str]:
    """The splits that `read_voc` takes."""
    if os.path.isdir(os.path.join(path, "ImageSets")):
        return _voc_lists(path)
    return [
        f"{os.path.basename(folder)[len('VOC') :]}_{name}"
        for folder in glob.glob(os.path.join(glob.escape(path), "VOC*"))
        for name in _voc_lists(folder)
    ]


def _voc_lists(folder: str) -> list[str]:
    """The lists of a VOC folder that name pictures, not those that ask about one class."""
    names = []
    for file in glob.glob(os.path.join(glob.escape(folder), "ImageSets", "Main", "*.txt")):
        with open(file, encoding="utf-8-sig", errors="replace") as opened:
            first = next((line.strip() for line in opened if line.strip()), "")
        if first and not _PER_CLASS_LINE.fullmatch(first):
            names.append(os.path.splitext(os.path.basename(file))[0])
    return names

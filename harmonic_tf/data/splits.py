"""Which splits a data set has, for commands that go through all of them."""

from __future__ import annotations

import fnmatch
import glob
import os
import re

from harmonic_tf.data import checks
from harmonic_tf.data.scenes import rendering

_NEXT_PART = re.compile(r",(?=[a-z]+:)")
_USUAL_ORDER = ("train", "trainval", "val", "valid", "validation", "test")
_COCO_FILE = re.compile(r"instances_(.+)\.json")
_PER_CLASS_LINE = re.compile(r"\S.*\s(-1|0|1)")  # VOC's cat_train.txt: id, and is there a cat
_SHARDS = "{split}-*.tfrecord"  # in a folder
_YOLO_SPLIT = re.compile(r"^(train|val|test)[ \t]*:[ \t]*([^#\s]|(#.*)?\n\s*-)", re.MULTILINE)


def find_splits(spec: str) -> list[str]:
    """Names the splits of a data set, as `load` takes them.

    Args:
        spec: kind and path as `load` takes them, several joined by commas: then the splits that
            all of them have.

    Returns:
        At least one name, `train`, `val` and `test` first. They may share pictures: VOC's
        `trainval` is `train` and `val`.

    Raises:
        DataError: the spec cannot be read, or no split is found.
    """
    per_source = [_splits_of_one(part) for part in _NEXT_PART.split(spec)]
    common = [name for name in per_source[0] if all(name in names for names in per_source)]
    if not common:
        found = "; ".join(", ".join(names) or "none" for names in per_source)
        checks.refuse(spec, "splits", found, "no split is found", "Check the path, name a split")
    return sorted(set(common), key=_usual_place)


def _usual_place(split: str) -> tuple[str, int, str]:
    year, _, name = split.rpartition("_")  # 2007_train
    place = _USUAL_ORDER.index(name) if name in _USUAL_ORDER else len(_USUAL_ORDER)
    return year, place, split


def _splits_of_one(spec: str) -> list[str]:
    kind, _, path = spec.partition(":")
    if kind not in _FINDERS or not path:
        remedy = f"KIND is one of {', '.join(_FINDERS)}"
        checks.refuse("data set", "KIND:PATH", spec, "no such kind", remedy)
    return _FINDERS[kind](os.path.expanduser(path))


def _coco(path: str) -> list[str]:
    if os.path.isfile(path):
        name = os.path.basename(path)
        match = _COCO_FILE.fullmatch(name)
        return [match[1] if match else os.path.splitext(name)[0]]
    files = glob.glob(os.path.join(glob.escape(path), "annotations", "instances_*.json"))
    matches = (_COCO_FILE.fullmatch(os.path.basename(file)) for file in files)
    names = [match[1] for match in matches if match]
    return [n for n in names if os.path.isdir(os.path.join(path, n))] + _scenes(path)


def _scenes(path: str) -> list[str]:
    files = glob.glob(os.path.join(glob.escape(path), "*", rendering.ANNOTATION_FILE))
    return [os.path.basename(os.path.dirname(file)) for file in files]


def _voc(path: str) -> list[str]:
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


def _yolo(path: str) -> list[str]:
    file = os.path.join(path, "data.yaml") if os.path.isdir(path) else path
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as opened:
            text = opened.read()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        checks.refuse(file, "file", file, problem, "Name a data.yaml or its folder")
    return [match[1] for match in _YOLO_SPLIT.finditer(text)]


def _tfrecord(path: str) -> list[str]:
    pattern = os.path.join(glob.escape(path), _SHARDS) if os.path.isdir(path) else path
    if "{split}" not in pattern:  # the same files whatever the split
        return ["all"] if glob.glob(pattern) else []
    shard = re.compile(fnmatch.translate(pattern).replace(re.escape("{split}"), "(?P<split>.+?)"))
    files = glob.glob(pattern.replace("{split}", "*"))
    return [match["split"] for match in map(shard.fullmatch, files) if match]


def _tfds(path: str) -> list[str]:
    import tensorflow_datasets as tfds  # takes a second, and few use it

    try:
        return list(tfds.builder(path).info.splits)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        checks.refuse(f"tfds:{path}", "name", path, str(error), "Check the name and its version")


_FINDERS = {
    "coco": _coco,
    "scenes": _scenes,
    "tfds": _tfds,
    "tfrecord": _tfrecord,
    "voc": _voc,
    "yolo": _yolo,
}

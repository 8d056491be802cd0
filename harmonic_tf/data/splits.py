"""Which splits a data set has, by its kind."""

from __future__ import annotations

import glob
import os
import re

from harmonic_tf.data import checks, manifest
from harmonic_tf.data.sources import parts

_YOLO_SPLIT = re.compile(r"^(train|val|test)\s*:\s*[^\s#]", re.MULTILINE)


def find_splits(spec: str) -> list[str]:
    """Finds the splits of a data set, without reading them.

    Args:
        spec: as `harmonic_tf.data.sources.load` takes it; of joined sources, the splits are found
            that all have.

    Returns:
        Names of splits, sorted. COCO: instances files with their folders. VOC: the lists in
        `ImageSets/Main`, but for those of one class. YOLO: the keys of `data.yaml`. Scenes: the
        rendered folders. TFRecord: those in the manifest. TFDS: those of the builder.

    Raises:
        DataError: none is found.
    """
    found: list[set[str]] = []
    for part in parts(spec):
        kind, _, path = part.partition(":")
        find = _FINDERS.get(kind)
        found.append(set(find(os.path.expanduser(path)) if find and path else ()))
    splits = sorted(set.intersection(*found))
    if not splits:
        checks.refuse(spec, "splits", "none found", "what to read is unknown", "Name the splits")
    return splits


def _coco(path: str) -> list[str]:
    if os.path.isfile(path):
        return [_without_prefix(path)]
    files = glob.glob(os.path.join(glob.escape(path), "annotations", "instances_*.json"))
    splits = [_without_prefix(file) for file in files]
    return _scenes(path) + [s for s in splits if os.path.isdir(os.path.join(path, s))]


def _without_prefix(file: str) -> str:
    """`instances_val2017.json` -> `val2017`."""
    name = os.path.splitext(os.path.basename(file))[0]
    return name[len("instances_") :] if name.startswith("instances_") else name


def _scenes(path: str) -> list[str]:
    files = glob.glob(os.path.join(glob.escape(path), "*", "annotations.json"))
    return [os.path.basename(os.path.dirname(file)) for file in files]


def _voc(path: str) -> list[str]:
    lists = os.path.join("ImageSets", "Main", "*.txt")
    splits = _pictures_lists(os.path.join(glob.escape(path), lists))
    for folder in glob.glob(os.path.join(glob.escape(path), "VOC*")):
        year = os.path.basename(folder)[len("VOC") :]
        names = _pictures_lists(os.path.join(glob.escape(folder), lists))
        splits += [f"{year}_{name}" for name in names]
    return splits


def _pictures_lists(pattern: str) -> list[str]:
    """Lists with one id a line; those of one class have an id and a number."""
    names = []
    for file in glob.glob(pattern):
        with open(file, encoding="utf-8-sig", errors="replace") as opened:
            if len(opened.readline().split()) == 1:
                names.append(os.path.splitext(os.path.basename(file))[0])
    return names


def _yolo(path: str) -> list[str]:
    file = os.path.join(path, "data.yaml") if os.path.isdir(path) else path
    if not os.path.isfile(file):
        return []
    with open(file, encoding="utf-8", errors="replace") as opened:
        return _YOLO_SPLIT.findall(opened.read())


def _tfrecord(path: str) -> list[str]:
    described = manifest.read_manifest(path)
    return list(described.splits) if described else []


def _tfds(path: str) -> list[str]:
    import tensorflow_datasets as tfds

    return list(tfds.builder(path).info.splits)


_FINDERS = {
    "coco": _coco,
    "scenes": _scenes,
    "tfds": _tfds,
    "tfrecord": _tfrecord,
    "voc": _voc,
    "yolo": _yolo,
}

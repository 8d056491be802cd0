"""Finds out of which kind a data set is that is named by its path alone."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping

from harmonic_tf.data import checks
from harmonic_tf.data.example import Problem
from harmonic_tf.data.kinds import KINDS
from harmonic_tf.data.readers.tfrecord import SPLIT_PLACE
from harmonic_tf.data.unrecognized import contents, nearest

_OF_ENDING = {
    ".json": "coco",
    ".yaml": "yolo",
    ".yml": "yolo",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".record": "tfrecord",
}
_LOOKED_INTO = 50  # folders of a folder that is no data set itself


def recognize(path: str) -> str:
    """Names the kind of a data set.

    A file is what its ending says, a pattern names TFRecord files. A folder is of the one kind
    whose splits are found in it. XML files beside a classes.txt are VOC, as labelImg leaves both;
    with a data.yaml too they are of two kinds.

    Args:
        path: a file, a folder or a pattern.

    Returns:
        One of `KINDS` that has `layouts`.

    Raises:
        DataError: there is nothing, nothing of any kind, or something of several.
    """
    if os.path.isdir(path):
        return _kind_of_folder(path)
    if os.path.exists(path):
        return _kind_of_file(path)
    if glob.has_magic(path) or SPLIT_PLACE in path:
        return "tfrecord"
    remedy = "Check the path; a name of tensorflow-datasets is written tfds:NAME"
    checks.refuse(path, "PATH", path, "is missing", remedy)


def found_kinds(folder: str) -> dict[str, list[str]]:
    """The kinds that a folder holds data of, with their splits in no order."""
    found = {name: _splits(name, folder) for name, kind in KINDS.items() if kind.layouts}
    if found["voc"] and not glob.glob(os.path.join(glob.escape(folder), "*.y*ml")):
        found["yolo"] = []
    return {name: splits for name, splits in found.items() if splits}


def _splits(name: str, folder: str) -> list[str]:
    problems: list[Problem] = []
    with checks.collecting(problems):  # what cannot be read is not of this kind
        return KINDS[name].splits(folder)
    return []


def _kind_of_file(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    if ending in _OF_ENDING:
        return _OF_ENDING[ending]
    endings = ", ".join(f"{ending} is {kind}" for ending, kind in _OF_ENDING.items())
    remedy = f"Name the data set's folder, unpacked, or write KIND:PATH ({endings})"
    checks.refuse(path, "PATH", ending or path, "is no file that names a data set", remedy)


def _kind_of_folder(path: str) -> str:
    found = found_kinds(path)
    if len(found) == 1:
        return next(iter(found))
    if found:
        value = "; ".join(f"{name} ({_listed(splits)})" for name, splits in found.items())
        remedy = f"Say which: {' or '.join(f'{name}:{path}' for name in found)}"
        checks.refuse(path, "kind", value, "several kinds of data are there", remedy)
    looked_for = "; ".join(
        f"{name}: {kind.layouts}" for name, kind in KINDS.items() if kind.layouts
    )
    remedy = f"{_elsewhere(path) or nearest(path)}. Looked for {looked_for}"
    checks.refuse(path, "kind", contents(path), "no known layout of a data set", remedy)


def _elsewhere(path: str) -> str:
    """Says where around a folder data is, if there is any."""
    path = os.path.abspath(path)
    inside = sorted(entry.path for entry in os.scandir(path) if entry.is_dir())[:_LOOKED_INTO]
    found = {folder: found_kinds(folder) for folder in [*inside, os.path.dirname(path)]}
    named = [f"{folder} ({_kinds(kinds)})" for folder, kinds in found.items() if kinds]
    if not named:
        return ""
    more = ", or several joined by commas" if len(named) > 1 else ""
    return f"Name {', '.join(named)}{more}"


def _kinds(kinds: Mapping[str, list[str]]) -> str:
    return " and ".join(f"{name}, {_listed(splits)}" for name, splits in kinds.items())


def _listed(splits: list[str]) -> str:
    return f"splits {', '.join(sorted(set(splits)))}"

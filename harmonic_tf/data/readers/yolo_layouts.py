"""Describes a YOLO data set: its classes, its splits, and where their images lie.

All layouts are taken as what `data.yaml` would say of them.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError
from harmonic_tf.data.readers import image_files, yolo_places

_USUAL_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES_FILES = ("classes.txt", "predefined_classes.txt")  # and *.names
SUFFIXES = (".yaml", ".yml", ".data")
"""Of files that describe a data set."""

_UNKNOWN_REMEDY = (
    "Looked for data.yaml, other files of such content, *.data, and lists and folders of images "
    "called train, val or test; name a folder with images in it"
)
PATH_NOTE = "the `path` of the data set is not there: the description's own folder is taken"


class Description(NamedTuple):
    """What is known of a data set before its images are looked for.

    Args:
        file: that says so: `data.yaml`, darknet's `*.data`, or the data set's folder.
        folder: that the file is in.
        document: `names`, `nc`, `path` and the splits, as in `data.yaml`.
        declared: whether the file names the splits, which else are those that the folder has.
    """

    file: str
    folder: str
    document: Mapping[str, Any]
    declared: bool


def describe(root: str) -> Description:
    """Reads the description of a data set, or puts one together from the names of its files.

    Args:
        root: its folder, or the file that describes it.

    Raises:
        DataError: the file cannot be used, or a folder holds several.
    """
    file = root if os.path.isfile(root) else _description_file(root)
    nested = [] if file else _nested(root)
    if len(nested) == 1:
        return describe(nested[0])
    folder = os.path.dirname(os.path.abspath(file)) if file else root
    document: dict[str, Any] = {}
    if file and not file.lower().endswith(SUFFIXES):
        remedy = "Name the data set's folder, or its data.yaml"
        checks.refuse(file, "file", os.path.basename(file), "is not a YOLO data set", remedy)
    if file:
        document = _read_darknet(file) if file.endswith(".data") else _read_yaml(file)
    declared = any(document.get(key) for key in yolo_places.SPLITS)
    if not declared and not nested:
        document.update(yolo_places.splits_on_disk(folder))
    return Description(file or root, folder, document, declared)


def class_names(description: Description) -> dict[int, str] | None:
    """The name of each class by its number; None where nothing says."""
    names, file = description.document.get("names"), description.file
    if names is None or isinstance(names, str):
        names = _names_on_disk(description.folder, names)
        if names is None:
            return None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        problem, remedy = "no classes", "Name them, as a list or by number"
        checks.refuse(file, "names", type(names).__name__, problem, remedy)
    names = {_whole_number(key): name for key, name in names.items()}
    for key, name in names.items():
        if not _is_number(key) or not (_is_number(name) or isinstance(name, str)):
            # YAML takes a bare `no`, `on` or `1e5` for something else than text.
            value = f"{type(key).__name__}: {type(name).__name__}"
            problem, remedy = "is not a number and a name", "Put the name into quotes"
            checks.refuse(file, "names", value, problem, remedy)
    names = {key: str(name) for key, name in names.items()}
    checks.class_indices(list(names.values()), file, "names")
    _check_count(description, names)
    return names


def find_images(
    description: Description, split: str, notes: collections.Counter[str]
) -> tuple[str, list[str]]:
    """The data set's folder and the images of a split, in the order of the paths or of its list.

    Args:
        description: of the data set.
        split: as `splits` names it; `val`, `valid` and `validation` mean the same.
        notes: gets what is read otherwise than it is written.

    Raises:
        DataError: there is no such split, or its folder or list is missing.
    """
    key = _key(description.document, split)
    entries = _entries(description, key)
    folders = _folders(description)
    notes[PATH_NOTE] += len(folders) == 1 and bool(description.document.get("path"))
    paths: list[str] = []
    for entry in entries:
        place = yolo_places.lead_to(entry, folders, notes)
        if place is None:
            looked = ", ".join(os.path.join(folder, entry) for folder in folders)
            held = image_files.content_of(description.folder)
            remedy = f"Correct it, or `path`; looked for {looked}; the folder holds {held}"
            checks.refuse(description.file, key, entry, "is missing", remedy)
        paths += yolo_places.images_at(place, folders, notes)
    return folders[0], paths


def splits(description: Description) -> list[str]:
    """The splits whose folders or lists are there; if none is, those that are named."""
    named = _named_splits(description)
    missing = missing_splits(description)
    return [key for key in named if key not in missing] or named


def missing_splits(description: Description) -> list[str]:
    """The splits that the description names, but of which a folder or list is not there."""
    folders = _folders(description)
    return [
        key
        for key in _named_splits(description)
        for entry in _entries(description, key)
        if yolo_places.lead_to(entry, folders, collections.Counter()) is None
    ]


def _named_splits(description: Description) -> list[str]:
    """The splits that the document has an entry for, which may be a wrong one."""
    keys = (*yolo_places.SPLITS, yolo_places.ALL)
    document = description.document
    return [key for key in keys if document.get(key) and isinstance(document[key], (str, list))]


def _entries(description: Description, key: str) -> list[str]:
    """The folders or lists of a split."""
    file, entries = description.file, description.document.get(key)
    entries = [entries] if isinstance(entries, str) else entries
    if not entries or not isinstance(entries, list):
        found = ", ".join(name for name in _named_splits(description) if name != key)
        held = image_files.content_of(description.folder)
        value = f"{key} (the folder holds {held})"
        remedy = f"Name one of {found}" if found else _UNKNOWN_REMEDY
        checks.refuse(file, "split", value, "names no pictures", remedy)
    for entry in entries:
        _check_text(entry, file, key)
    return entries


def _folders(description: Description) -> list[str]:
    """The folders that entries are relative to: `path`, where it leads, and the file's own."""
    own, path = description.folder, description.document.get("path") or ""
    _check_text(path, description.file, "path")
    # A `path` that was right where the file was written is often wrong where it was copied to.
    folder = os.path.join(own, path.replace("\\", "/"))
    return [os.path.normpath(folder), own] if path and os.path.isdir(folder) else [own]


def _check_text(value: Any, file: str, field: str) -> None:
    if not isinstance(value, str):
        checks.refuse(file, field, type(value).__name__, "is not a path", "Write it as text")


def _description_file(folder: str) -> str | None:
    """The file that describes the data set in a folder; None without one."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    usual = [name for name in _USUAL_FILES if name in names]
    yamls = [name for name in names if name.lower().endswith((".yaml", ".yml"))]
    for kind in (usual, yamls, [name for name in names if name.endswith(".data")]):
        found = [os.path.join(folder, name) for name in kind]
        found = [file for file in found if _is_description(file)]
        if len(found) > 1 and kind is not usual:
            problem, remedy = "several files describe the data set", "Name the one that is meant"
            checks.refuse(folder, "file", ", ".join(kind), problem, remedy)
        if found:
            return found[0]
    return None


def _nested(folder: str) -> list[str]:
    """The data sets in a folder in which nothing tells splits apart, but in these it does."""
    if set(yolo_places.splits_on_disk(folder)) - {yolo_places.ALL}:
        return []
    return [
        path
        for path in image_files.all_subfolders(folder)
        if _description_file(path) or set(yolo_places.splits_on_disk(path)) - {yolo_places.ALL}
    ]


def _is_description(file: str) -> bool:
    """Whether a file describes a YOLO data set, or is called so and does not parse."""
    usual = os.path.basename(file) in _USUAL_FILES
    try:
        document = _read_darknet(file) if file.endswith(".data") else _load_yaml(file)
    except DataError:
        return usual
    marks = ("names", "nc", *yolo_places.SPLITS) if usual else ("names",)
    return isinstance(document, dict) and any(key in document for key in marks)


def _load_yaml(file: str) -> Any:
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return yaml.safe_load(opened)
    except OSError as error:
        remedy = "Name a folder with a data.yaml, or such a file"
        checks.refuse(file, "file", error.strerror, "cannot be read", remedy)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        checks.refuse(file, "file", error, "does not parse as YAML", "Write the file again")


def _read_yaml(file: str) -> dict[str, Any]:
    """The parsed `data.yaml`."""
    document = _load_yaml(file)
    if not isinstance(document, dict):
        problem, remedy = "is not a YOLO data set", "Give the file `names` and its splits"
        checks.refuse(file, "file", type(document).__name__, problem, remedy)
    if "kpt_shape" in document:
        problem, remedy = "labels of key points cannot be read", "Use labels of boxes or polygons"
        checks.refuse(file, "kpt_shape", "given", problem, remedy)
    return document


def _read_darknet(file: str) -> dict[str, Any]:
    """Darknet's description: lines `train = data/train.txt`; `classes` is what YAML calls `nc`."""
    pairs = (line.partition("=") for line in yolo_places.text_lines(file) if "=" in line)
    entries = {key.strip(): value.strip() for key, _, value in pairs}
    keys = {"classes": "nc", "names": "names", **{key: key for key in yolo_places.SPLITS}}
    return {keys[key]: value for key, value in entries.items() if key in keys}


def _names_on_disk(folder: str, named: str | None) -> list[str] | None:
    """The classes that files in a folder list, one a line; None without such a file.

    Args:
        folder: the data set's.
        named: which file, if the description says; only its last part counts.
    """
    wanted = (*_NAMES_FILES, os.path.basename(named or ""))
    files = [
        file
        for file in image_files.files_below(folder)
        if os.path.basename(file) in wanted or file.endswith(".names")
    ]
    if not files:
        return None
    lists = {file: _names_in(file) for file in files}
    longest = max(files, key=lambda file: len(lists[file]))
    for file, names in lists.items():
        # labelImg leaves one in each folder, with the classes that it had seen by then.
        if names != lists[longest][: len(names)]:
            problem = f"contradicts {longest}, {', '.join(lists[longest])}"
            remedy = "Number the classes of all splits alike"
            checks.refuse(file, "classes", ", ".join(names), problem, remedy)
    return lists[longest]


def _names_in(file: str) -> list[str]:
    """The lines of a list of classes, but for empty ones at its end."""
    return "\n".join(yolo_places.text_lines(file)).rstrip().split("\n")


def _check_count(description: Description, names: Mapping[int, str]) -> None:
    """Holds `nc` against the names."""
    nc = _whole_number(description.document.get("nc"))
    if nc is not None and nc not in (len(names), max(names) + 1):
        written = nc if _is_number(nc) else type(nc).__name__
        value = f"{written}, and {len(names)} names: {', '.join(names.values())}"
        problem, remedy = "contradicts `names`", "Correct the number or the names"
        checks.refuse(description.file, "nc", value, problem, remedy)


def _whole_number(value: Any) -> Any:
    """Digits as the number that they are; all else as it is."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _key(document: Mapping[str, Any], split: str) -> str:
    """The key of a split in a description, under whichever of its names."""
    alike = next((names for names in yolo_places.SAME_SPLIT if split in names), ())
    return next((key for key in (split, *alike) if document.get(key)), split)

"""Where tools that export COCO put its files: annotations, pictures, and what is in which split."""

from __future__ import annotations

import glob
import mmap
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from harmonic_tf.data import checks
from harmonic_tf.data.images.finding import Images
from harmonic_tf.data.readers.coco_pictures import ends, first_file, readings, whole_names
from harmonic_tf.data.readers.image_files import is_image, kinds_of_files

WHOLE = "all"
"""The split of a folder that has none."""

_ANNOTATION_FOLDERS = ("annotations", "annotation", "Annotations", "labels")
_IMAGE_FOLDERS = ("images", "Images", "image", "imgs", "img", "data", "JPEGImages")
_UNNAMED = "default"  # CVAT's name of a split that has none
_INSTANCES = "instances_"

# Names of files that are COCO's alone; others are looked into.
_SURE = re.compile(rf"({_INSTANCES}.+|instances|_?annotations|.+\.coco)\.json", re.IGNORECASE)
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_MOST_FILES = 50  # JSON files in a folder; more are files of one picture each
_SHOWN = 5  # of them in a message

# What a file's name says beside its split.
_WORDS = "(instances|annotations?|coco|results?|labels?|export|person_keypoints)"
_FIRST_WORDS = re.compile(rf"[-_. ]*{_WORDS}([-_. ]+|$)", re.IGNORECASE)
_LAST_WORDS = re.compile(rf"(^|[-_. ]+){_WORDS}$", re.IGNORECASE)
_USUAL_SPLIT = re.compile(r"(mini)?(train|val|test|dev|eval)", re.IGNORECASE)
_YEAR = "20[0-9][0-9]"  # as a pattern of glob and of re


def splits_of(path: str) -> list[str]:
    """The splits of a folder or of one file.

    Args:
        path: a folder, or a JSON file.

    Returns:
        Names; where some have a folder of pictures of their own, those alone. `[WHOLE]` for what
        has no splits; nothing where nothing looks like COCO.
    """
    if os.path.isfile(path):
        return [_split_of_file(path)] if path.lower().endswith(".json") else []
    files = annotation_files(path)
    if _is_whole(path, files):
        return [WHOLE]
    return [split for split in files if _named_folders(path, split)] or list(files)


def annotation_files(path: str) -> dict[str, str]:
    """The COCO files of a folder by the split that their place or their name says.

    Looked for in `annotations/`, then in the folders of the splits, then in the folder itself.
    """
    files: dict[str, str] = {}
    for folder in _ANNOTATION_FOLDERS:
        files = {**_by_split(_coco_files(os.path.join(path, folder))), **files}
    for folder in sorted(glob.glob(os.path.join(glob.escape(path), "*", ""))):
        split = os.path.basename(os.path.dirname(folder))
        file = None if split in _ANNOTATION_FOLDERS else _file_of_split(folder, split)
        if file is not None:
            files.setdefault(split, file)
    return {**_by_split(_coco_files(path)), **files}


def annotation_file(path: str, split: str) -> str:
    """The COCO file of a split.

    Args:
        path: a folder, or the file itself.
        split: one of `splits_of`.

    Raises:
        DataError: there is none; says what there is.
    """
    if os.path.isfile(path):
        return path
    files = annotation_files(path)
    if split in files:
        return files[split]
    if split == WHOLE and _is_whole(path, files):
        return next(iter(files.values()))
    _refuse_split(path, split)


def image_folder(file: str, split: str, names: Sequence[Any]) -> str:
    """The folder that the pictures of a COCO file are in.

    Args:
        file: the COCO file.
        split: its split, for one file of a folder; see `annotation_file`.
        names: the `file_name` of each picture.

    Returns:
        Of the folders that tools use, the first that has a picture of such a name, or else of a
        name that ends so, or else of one that differs by its suffix or case.

    Raises:
        DataError: there are names, and none of them is found in any.
    """
    folders = _image_folders(file, split)
    names = [name for name in names if isinstance(name, str)]
    finder = Images()
    finds = (
        lambda folder, name: first_file(folder, whole_names(name)),
        lambda folder, name: first_file(folder, ends(name)),
        lambda folder, name: any(map(is_image, finder.alike(folder, readings(folder, name)))),
    )
    for find in finds:
        for folder in folders:
            if any(find(folder, name) for name in names):
                return folder
    if names:
        problem = "picture is missing, and so are all others of the file"
        remedy = f"Put them beside it; looked for in {', '.join(folders)}"
        remedy += f"; there are {kinds_of_files(_root(file))}"
        checks.refuse(file, "images[0].file_name", names[0], problem, remedy)
    return folders[0]


def _coco_files(folder: str) -> list[str]:
    """The files of a folder that are COCO's, by their name or by what is in them."""
    files = sorted(glob.glob(os.path.join(glob.escape(folder), "*.json")))
    few = len(files) <= _MOST_FILES
    return [
        file
        for file in files
        if _SURE.fullmatch(os.path.basename(file)) or (few and _has_keys(file))
    ]


def _has_keys(file: str) -> bool:
    """Whether the words that COCO needs are in a file, found without parsing it."""
    try:
        with open(file, "rb") as opened:
            text = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        with text:
            return all(text.find(key) >= 0 for key in _KEYS)
    except (OSError, ValueError):  # ValueError: it has no bytes
        return False


def _by_split(files: Sequence[str]) -> dict[str, str]:
    """Files of one folder by the split in their name; those that share one by their whole name.

    Beside instances, other tasks (captions, key points) are no files of a split.
    """
    files = [f for f in files if os.path.basename(f).startswith(_INSTANCES)] or files
    names = [_split_in_name(file) for file in files]
    return {
        name if name and names.count(name) == 1 else _stem(file): file
        for name, file in zip(names, files)
    }


def _file_of_split(folder: str, split: str) -> str | None:
    """The one COCO file in a split's folder, if there is one."""
    places = (folder, *(os.path.join(folder, name) for name in _ANNOTATION_FOLDERS))
    files = [file for place in places for file in _by_split(_coco_files(place)).values()]
    plain = [file for file in files if _split_in_name(file) in ("", _UNNAMED, split)]
    return next((found[0] for found in (files, plain) if len(found) == 1), None)


def _split_in_name(file: str) -> str:
    """What a file's name says of its split: `train` of `train_annotations.coco.json`, or ``."""
    name = _stem(file)
    if name.startswith(_INSTANCES):
        return name[len(_INSTANCES) :]
    before = None
    while before != name:
        before, name = name, _LAST_WORDS.sub("", _FIRST_WORDS.sub("", name, count=1))
    return name


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def _split_of_file(file: str) -> str:
    """The split of a file that is named itself."""
    split, root = _split_in_name(file), _root(file)
    if split in ("", _UNNAMED):
        split = os.path.basename(os.path.abspath(root))
        return split if _USUAL_SPLIT.match(split) else WHOLE
    return split if _USUAL_SPLIT.match(split) or _named_folders(root, split) else WHOLE


def _is_whole(path: str, files: Mapping[str, str]) -> bool:
    """Whether a folder's files are one, whose name is not that of a split."""
    if len(files) != 1:
        return False
    ((name, file),) = files.items()
    if name == _UNNAMED:
        return True
    in_its_folder = _root(file) == os.path.join(path, name)
    return not _USUAL_SPLIT.match(name) and (in_its_folder or not _named_folders(path, name))


def _root(file: str) -> str:
    """The folder of a data set that has this file, in `annotations/` or in the folder itself."""
    beside = os.path.dirname(file) or os.curdir
    if os.path.basename(os.path.abspath(beside)) in _ANNOTATION_FOLDERS:
        return os.path.dirname(beside) or (os.curdir if beside != os.curdir else os.pardir)
    return beside


def _named_folders(root: str, split: str) -> list[str]:
    """The folders of a split's own: `SPLIT/` or `images/SPLIT/`, with a year or without."""
    names = [split, re.sub(f"(?<=.)[-_]?{_YEAR}$", "", split)]
    found = []
    for base in (root, *(os.path.join(root, name) for name in _IMAGE_FOLDERS)):
        found += [os.path.join(base, name) for name in names]
        found += sorted(glob.glob(glob.escape(os.path.join(base, split)) + _YEAR))
    return [folder for folder in dict.fromkeys(found) if os.path.isdir(folder)]


def _image_folders(file: str, split: str) -> list[str]:
    """Where the pictures of a file may be, the likeliest first; at least the file's own folder."""
    beside, root = os.path.dirname(file) or os.curdir, _root(file)
    split = (_split_in_name(file) if split == WHOLE else split) or split
    found: list[str] = []
    for folder in dict.fromkeys((root, beside)):
        own = _named_folders(folder, split)
        inside = [os.path.join(folder, name) for name in _IMAGE_FOLDERS]
        found += [*own, *(os.path.join(each, name) for each in own for name in _IMAGE_FOLDERS)]
        found += [*(os.path.join(name, _UNNAMED) for name in inside), *inside, folder]
    if os.path.basename(root) == split:  # the split's own folder, pictures in one for all
        found += _named_folders(os.path.dirname(root), split)
    return [folder for folder in dict.fromkeys(found) if os.path.isdir(folder)]


def _refuse_split(path: str, split: str) -> NoReturn:
    """Says what splits there are, or what was looked for and what JSON is there."""
    splits = splits_of(path)
    if splits:
        checks.refuse(path, "split", split, "is none of it", f"Use one of {', '.join(splits)}")
    looked_for = (
        *(f"annotations/instances_{split}.json", f"annotations/{split}.json"),
        *(f"{split}/annotations.json", f"{split}/_annotations.coco.json", f"{split}.json"),
        *("annotations/instances_default.json", "annotations.json", "result.json"),
    )
    below = ("*.json", "*/*.json", "*/*/*.json")
    there = [file for part in below for file in glob.glob(os.path.join(glob.escape(path), part))]
    remedy = "Check the path and the split"
    if there:
        shown = ", ".join(os.path.relpath(file, path) for file in there[:_SHOWN])
        remedy += f", or name the file itself; of JSON files it has {len(there)}: {shown}"
    checks.refuse(path, "split", split, f"holds neither {' nor '.join(looked_for)}", remedy)

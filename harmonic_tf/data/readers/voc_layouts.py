"""Where the files of PASCAL VOC data lie: lists of ids, a folder a split, or all in one."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from harmonic_tf.data import checks
from harmonic_tf.data.images.finding import SUFFIXES
from harmonic_tf.data.readers import image_files

ALL = "all"
"""The split of a folder without splits."""

ANNOTATION_FOLDERS = (
    *("annotations", "annotation", "annots", "annot"),
    *("xml", "xmls", "labels", "label"),
)
"""Names of folders of XML files, the usual ones first, in small letters."""

_SPLIT_FOLDER = re.compile(
    r"(train|trainval|training|val|valid|validation|test|testing|dev)([_-]?\d+)?", re.IGNORECASE
)
_SPLIT_LIST = re.compile(rf"({_SPLIT_FOLDER.pattern})(_list)?[.]txt", re.IGNORECASE)
_PER_CLASS_LINE = re.compile(r"\S.*\s(-1|0|1)")  # cat_train.txt: id, and is there a cat
_ANNOTATION_START = re.compile(rb"<annotation[\s/>]")
_START_BYTES = 4096  # of an XML file, enough for a declaration and a comment
_REMEDY = (
    "Name a list in ImageSets/Main, like trainval, or in a VOCdevkit with its year, like "
    "2007_trainval; a folder of XML files, like train; or 'all' where there is neither. Several "
    "are joined by +"
)


class Entry(NamedTuple):
    """An XML file that a split asks for.

    Args:
        file: its path; whether it is there is not said.
        image_id: what the image is called in the split, parts of a path parted by `/`.
        folders: where its image may lie, the likeliest first.
        origin: the file that asks for it: a list, or the XML file itself.
        field: where in that file.
    """

    file: str
    image_id: str
    folders: list[str]
    origin: str
    field: str


def find_entries(root: str, split: str) -> list[Entry]:
    """The XML files of a split, or of several joined by `+`, as `read_voc` takes them.

    Raises:
        DataError: nothing there is such a split.
    """
    return [entry for part in split.split("+") for entry in _entries(root, part)]


def find_splits(root: str) -> list[str]:
    """The splits that `find_entries` takes; `["all"]` without any, `[]` without VOC data."""
    return [prefix + name for prefix, folder in _voc_folders(root) for name in _splits_in(folder)]


def xml_files(folder: str) -> Iterator[str]:
    """The XML files below a folder, in the order of their paths."""
    return (path for path in image_files.files_below(folder) if path.lower().endswith(".xml"))


def _voc_folders(root: str) -> list[tuple[str, str]]:
    """The VOC folders of a data set, each after what its splits' names begin with.

    That is the root; or a VOCdevkit's folder of each year; or, where nothing in the root tells
    splits apart, the folders in it where something does.
    """
    if not os.path.isdir(os.path.join(root, "ImageSets")):
        for devkit in (root, os.path.join(root, "VOCdevkit")):
            years = glob.glob(os.path.join(glob.escape(devkit), "VOC*"))
            found = [
                (f"{os.path.basename(folder)[len('VOC') :]}_", folder)
                for folder in sorted(years)
                if image_files.subfolders(folder, ("imagesets", *ANNOTATION_FOLDERS))
            ]
            if found:
                return found
    nested = [] if _named_splits(root) else image_files.all_subfolders(root)
    nested = [folder for folder in nested if _named_splits(folder)]
    if len(nested) > 1:
        return [(f"{os.path.basename(folder)}_", folder) for folder in nested]
    return [("", folder) for folder in nested or [root]]


def _named_splits(folder: str) -> list[str]:
    """The splits of one VOC folder that lists or folders tell apart."""
    return _lists(folder) or _split_folders(folder)


def _splits_in(folder: str) -> list[str]:
    """The splits of one VOC folder."""
    rest = [ALL] if any(map(_is_annotation, xml_files(folder))) else []
    return _named_splits(folder) or rest


def _lists(folder: str) -> list[str]:
    """The lists of a VOC folder that name images, not those that ask about one class."""
    names = []
    for file in _list_files(folder):
        with open(file, encoding="utf-8-sig", errors="replace") as opened:
            first = next((line.strip() for line in opened if line.strip()), "")
        if first and not _PER_CLASS_LINE.fullmatch(first):
            names.append(os.path.splitext(os.path.basename(file))[0])
    return names


def _list_files(folder: str) -> list[str]:
    """The lists in `ImageSets/Main`, or else in `ImageSets`, or else in the folder itself."""
    for place in (os.path.join(folder, "ImageSets", "Main"), os.path.join(folder, "ImageSets")):
        files = sorted(glob.glob(os.path.join(glob.escape(place), "*.txt")))
        if files:
            return files
    files = sorted(glob.glob(os.path.join(glob.escape(folder), "*.txt")))
    return [file for file in files if _lists_annotations(folder, file)]


def _lists_annotations(folder: str, file: str) -> bool:
    """Whether a text file is called like a split, and its first line names an XML file."""
    if not _SPLIT_LIST.fullmatch(os.path.basename(file)):
        return False
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        first = next((line.strip() for line in opened if line.strip()), "")
    return bool(first) and os.path.isfile(_annotation_file(_homes(folder), first)[0])


def _split_folders(folder: str) -> list[str]:
    """The names of the folders that are called like a split and hold VOC's XML files."""
    parents = [folder, *image_files.subfolders(folder, ANNOTATION_FOLDERS)]
    names = dict.fromkeys(
        name
        for parent in parents
        if os.path.isdir(parent)
        for name in sorted(os.listdir(parent))
        if _SPLIT_FOLDER.fullmatch(name)
        and any(map(_is_annotation, xml_files(os.path.join(parent, name))))
    )
    return list(names)


def _is_annotation(file: str) -> bool:
    """Whether an XML file is one of VOC's, as far as its start tells."""
    with open(file, "rb") as opened:
        start = opened.read(_START_BYTES).replace(b"\0", b"")  # of UTF-16
    return bool(_ANNOTATION_START.search(start))


def _entries(root: str, split: str) -> list[Entry]:
    """The XML files of one split."""
    for prefix, folder in _voc_folders(root):
        if not split.startswith(prefix):
            continue
        name = split[len(prefix) :]
        lists = _list_files(folder)
        file = next((f for f in lists if os.path.basename(f) == f"{name}.txt"), None)
        if file:
            return _listed(folder, file)
        if not _lists(folder):
            entries = _in_split_folder(folder, name)
            if not entries and name == ALL and not _split_folders(folder):
                entries = _below(folder, folder)
            if entries:
                return entries
    _refuse(root, split)


def _refuse(root: str, split: str) -> NoReturn:
    """Says what was looked for and what is there."""
    splits = find_splits(root)
    remedy = f"Name one of {', '.join(splits)}" if splits else _REMEDY
    main = os.path.join(root, "ImageSets", "Main")
    if os.path.isdir(main):
        value = f"{split} (ImageSets/Main holds {image_files.content_of(main)})"
        file = os.path.join(main, f"{split}.txt")
        checks.refuse(file, "split", value, "cannot be read", remedy)
    year = split.rpartition("_")[0]
    problem = f"holds neither ImageSets nor VOC{year or '2007'} nor XML files of such a split"
    value = f"{split} (the folder holds {image_files.content_of(root)})"
    checks.refuse(root, "split", value, problem, remedy)


def _listed(folder: str, file: str) -> list[Entry]:
    """The XML files that a list names by their ids."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            lines = [line.strip() for line in opened]
    except (OSError, UnicodeDecodeError) as error:
        checks.refuse(file, "file", error, "list cannot be read", "Write the file again, as UTF-8")
    if not any(lines):
        checks.refuse(file, "file", "no line", "list is empty", "Write one id a line")
    homes = _homes(folder)
    places = functools.lru_cache(None)(functools.partial(_image_folders, folder))
    entries = []
    for number, line in enumerate(lines, start=1):
        if line:
            path, image_id = _annotation_file(homes, line)
            folders = places(os.path.dirname(path))
            entries.append(Entry(path, image_id, folders, file, f"line {number}"))
    return entries


def _homes(folder: str) -> list[str]:
    """Where the XML files of a VOC folder may lie that a list names."""
    return [
        *image_files.subfolders(folder, ANNOTATION_FOLDERS),
        *image_files.subfolders(folder, image_files.FOLDERS),
        folder,
    ]


def _annotation_file(homes: list[str], line: str) -> tuple[str, str]:
    """The XML file that a line of a list means, and its id.

    The line is an id, or a file's name or path, or several of them, the last one's the XML file.
    """
    ids = [line]
    stem, suffix = os.path.splitext(line.replace("\\", "/"))
    if suffix.lower() in (*SUFFIXES, ".xml"):
        ids += [*([] if os.path.isabs(stem) else [stem]), os.path.basename(stem.split()[-1])]
    paths = [(os.path.join(home, f"{name}.xml"), name) for name in ids for home in homes]
    return next((found for found in paths if os.path.isfile(found[0])), paths[0])


def _in_split_folder(folder: str, split: str) -> list[Entry]:
    """The XML files in the split's own folder, or in its folder among the annotations."""
    parents = [folder, *image_files.subfolders(folder, ANNOTATION_FOLDERS)]
    entries = (_below(os.path.join(parent, split), folder) for parent in parents if split)
    return next(filter(None, entries), [])


def _below(start: str, folder: str) -> list[Entry]:
    """All XML files below a folder of a VOC folder; ids leave out folders like `Annotations`."""
    places = functools.lru_cache(None)(functools.partial(_image_folders, folder))
    entries = []
    for file in xml_files(start):
        *parents, name = os.path.relpath(os.path.splitext(file)[0], start).split(os.sep)
        parents = [parent for parent in parents if parent.lower() not in ANNOTATION_FOLDERS]
        folders = places(os.path.dirname(file))
        entries.append(Entry(file, "/".join([*parents, name]), folders, file, "file"))
    return entries


def _image_folders(folder: str, annotations: str) -> list[str]:
    """Where the images of the XML files in a folder may lie.

    Args:
        folder: the VOC folder.
        annotations: the folder of the XML files: below it, or the VOC folder itself.

    Returns:
        Where the path leads with a folder like `Annotations` in it replaced by one like
        `JPEGImages`, or left out; the folder of the XML files; and one like `JPEGImages` in it.
    """
    inner = os.path.relpath(annotations, folder)
    parts = [] if inner == os.curdir else inner.split(os.sep)
    found = []
    for index in reversed(range(len(parts))):
        if parts[index].lower() in ANNOTATION_FOLDERS:
            head, rest = os.path.join(folder, *parts[:index]), os.path.join("", *parts[index + 1 :])
            found += _beside(head, rest)
    if not parts and os.path.basename(os.path.abspath(folder)).lower() in ANNOTATION_FOLDERS:
        found += _beside(os.path.dirname(os.path.abspath(folder)), "")
    found += [annotations, *image_files.subfolders(annotations, image_files.FOLDERS)]
    return list(dict.fromkeys(os.path.normpath(path) for path in found if os.path.isdir(path)))


def _beside(head: str, rest: str) -> list[str]:
    """Where the images of XML files in `head/Annotations/rest` may lie."""
    homes = image_files.subfolders(head, image_files.FOLDERS)
    return [
        *(os.path.join(home, rest) for home in homes),
        *image_files.subfolders(os.path.join(head, rest), image_files.FOLDERS),
        *homes,
        os.path.join(head, rest),
    ]

"""What to say of a folder that is no data set of any known layout."""

from __future__ import annotations

import collections
import itertools
import os
import re
from collections.abc import Iterator, Mapping

from harmonic_tf.data.images.finding import SUFFIXES

_SCANNED = 20_000  # files at most
_SHOWN = 4
_HEAD = 2**16  # bytes of a file that tell whose it is
_ARCHIVES = {".7z", ".gz", ".rar", ".tar", ".tgz", ".zip"}

# What the first such text in a file says about its author; the last is COCO.
_JSON_OF = {
    "LabelMe": re.compile(r'"(imagePath|shapes)"'),
    "VIA": re.compile(r'"(region_attributes|_via_\w+)"'),
    "Supervisely": re.compile(r'"exterior"'),
    "BDD100K": re.compile(r'"box2d"'),
    "Label Studio's own export": re.compile(r'"(rectanglelabels|from_name)"'),
    "CreateML": re.compile(r'"coordinates"'),
}


def contents(folder: str) -> str:
    """The files below a folder in a few words: `"12 .xml in labels, 3 .jpg in pictures"`."""
    counts = collections.Counter(
        (os.path.splitext(file)[1].lower() or "without an ending", os.path.dirname(file) or ".")
        for file in _files(folder)
    )
    shown = [f"{n} {ending} in {place}" for (ending, place), n in counts.most_common(_SHOWN)]
    if len(counts) > _SHOWN:
        shown.append("and others")
    return ", ".join(shown) or "an empty folder"


def nearest(folder: str) -> str:
    """Which known layout comes nearest to what is in a folder, and what is amiss."""
    by_ending: dict[str, list[str]] = collections.defaultdict(list)
    for file in _files(folder):
        by_ending[os.path.splitext(file)[1].lower()].append(file)
    pictures = [file for ending in SUFFIXES for file in by_ending[ending]]
    for ending, hint in _HINTS.items():
        if by_ending[ending]:
            return hint(folder, by_ending[ending], pictures)
    if pictures:
        return f"There are {_counted(pictures, 'picture')}, but no annotations. Put these there too"
    archives = [file for ending in sorted(_ARCHIVES) for file in by_ending[ending]]
    return f"Unpack {archives[0]}" if archives else "There are neither pictures nor annotations"


def _files(folder: str) -> Iterator[str]:
    """Paths below a folder, relative to it, in a fixed order."""
    found = (
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, folders, names in _walk(folder)
        for name in sorted(names)
        if not name.startswith(".")
    )
    return itertools.islice(found, _SCANNED)


def _walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, folders, names


def _counted(files: list[str], what: str) -> str:
    folder = os.path.dirname(files[0])
    number = f"{len(files)} {what}" if len(files) == 1 else f"{len(files)} {what}s"
    return f"{number} in {folder or '.'}"


def _xml(folder: str, files: list[str], pictures: list[str]) -> str:
    found = f"There are {_counted(files, '.xml file')}"
    if re.search(r"<annotations[\s>]", _head(folder, files[0])):
        return f"{found}, of CVAT. Export them as COCO 1.0 or Pascal VOC 1.1"
    return f"{found}, not of Pascal VOC. Export them as COCO, VOC or YOLO"


def _json(folder: str, files: list[str], pictures: list[str]) -> str:
    heads = {file: _head(folder, file) for file in files[:_SHOWN]}
    authors = {file: _author(head) for file, head in heads.items()}
    found = f"There are {_counted(files, '.json file')}"
    author = next(filter(None, authors.values()), None)
    return f"{found}, {f'of {author}' if author else 'not of COCO'}. Export them as COCO"


def _author(head: str) -> str | None:
    return next((name for name, pattern in _JSON_OF.items() if pattern.search(head)), None)


def _records(folder: str, files: list[str], pictures: list[str]) -> str:
    ending = os.path.splitext(files[0])[1]
    place = os.path.dirname(files[0])
    pattern = os.path.join(folder, os.path.dirname(place), "{split}" if place else "", f"*{ending}")
    return (
        f"Nearest is tfrecord. There are {_counted(files, f'{ending} file')}: name them by a "
        f"pattern, like tfrecord:{pattern}"
    )


def _txt(folder: str, files: list[str], pictures: list[str]) -> str:
    return (
        f"Nearest is yolo. There are {_counted(files, '.txt file')}, but no data.yaml: write one, "
        "with the names of the classes (names: [cat, dog]) and a folder of pictures for each "
        "split (train: images)"
    )


def _csv(folder: str, files: list[str], pictures: list[str]) -> str:
    found = f"There are {_counted(files, '.csv file')}"
    return f"{found}; boxes in tables are not read. Export them as COCO, VOC or YOLO"


# By the ending of the files, the likeliest to hold the annotations first.
_HINTS: Mapping = {
    ".xml": _xml,
    ".json": _json,
    ".tfrecord": _records,
    ".tfrecords": _records,
    ".record": _records,
    ".txt": _txt,
    ".csv": _csv,
}


def _head(folder: str, file: str) -> str:
    try:
        with open(os.path.join(folder, file), encoding="utf-8", errors="replace") as opened:
            return opened.read(_HEAD)
    except OSError:
        return ""

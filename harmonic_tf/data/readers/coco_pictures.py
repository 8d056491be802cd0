"""The pictures of a COCO file: its `images`, and the file that each means."""

from __future__ import annotations

import collections
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harmonic_tf.data import checks
from harmonic_tf.data.example import ImageId, Problem
from harmonic_tf.data.images.finding import Images
from harmonic_tf.data.readers.coco_objects import Object, image_id
from harmonic_tf.data.readers.image_files import upright_size

_QUERY = re.compile(r"\?(?:d=)?")  # of an address, or before a path in one of Label Studio's


class Picture:
    """A picture, and the objects that are found for it.

    Args:
        image_id: as the file writes it.
        name: its `file_name`.
        path: of the picture.
        size: width and height, pixels.
    """

    def __init__(self, image_id: ImageId, name: str, path: str, size: Sequence[int]):
        self.image_id = image_id
        self.name = name
        self.path = path
        self.size = size
        self.objects: list[Object] = []


def read_pictures(
    images: Sequence[Any],
    file: str,
    folder: str,
    problems: list[Problem],
    notes: collections.Counter[str],
) -> dict[ImageId, Picture | None]:
    """Reads the pictures of a file.

    Args:
        images: its rows.
        file: where they stand.
        folder: what their `file_name` is relative to.
        problems: takes what is wrong.
        notes: counts what is read otherwise than it is written.

    Returns:
        Each picture by its id as it is compared; None for one that is left out.
    """
    keys: list[ImageId | None] = [None] * len(images)
    found: list[Picture | None] = [None] * len(images)
    for index, row in enumerate(images):
        with checks.collecting(problems, checks.PICTURE):
            _, keys[index] = image_id(row, "id", file, f"images[{index}]")
    counts = collections.Counter(keys)
    finder = Images()
    for index, (row, key) in enumerate(zip(images, keys)):
        with checks.collecting(problems, checks.PICTURE):
            field = f"images[{index}]"
            if key is not None and counts[key] > 1:
                problem, remedy = "id is not unique", "Give each its own id"
                checks.refuse(file, f"{field}.id", repr(row["id"]), problem, remedy)
            if key is not None:
                found[index] = _read_picture(row, file, field, folder, finder, notes)
    notes.update(finder.notes)
    _drop_shared(found, file, problems)
    return {key: picture for key, picture in zip(keys, found) if key is not None}


def _drop_shared(found: list[Picture | None], file: str, problems: list[Problem]) -> None:
    """Leaves out pictures that several entries mean by different names: whose they are is open."""
    names: dict[str, set[str]] = collections.defaultdict(set)
    for picture in filter(None, found):
        names[picture.path].add(picture.name)
    for index, picture in enumerate(found):
        others = sorted(names[picture.path] - {picture.name}) if picture else []
        if picture and others:
            found[index] = None
            with checks.collecting(problems, checks.PICTURE):
                field, value = f"images[{index}].file_name", repr(picture.name)
                problem = f"leads to {picture.path}, as {others[0]!r} does"
                checks.refuse(file, field, value, problem, "Give each entry its own picture")


def _read_picture(
    row: Mapping[str, Any],
    file: str,
    field: str,
    folder: str,
    finder: Images,
    notes: collections.Counter[str],
) -> Picture:
    """One row of `images`."""
    name = row.get("file_name")
    path, shortened = find_picture(finder, folder, name, file, f"{field}.file_name")
    sides = [row.get("width"), row.get("height")]
    if sides == [0, 0]:
        sides = [None, None]
    own = upright_size(path) if None in sides else (0, 0)
    size = [
        own_side if side is None else checks.side(side, file, f"{field}.{key}")
        for key, side, own_side in zip(("width", "height"), sides, own)
    ]
    notes["width and height are read from the image"] += None in sides
    notes["picture is found by the end of its file_name"] += shortened
    return Picture(image_id(row, "id", file, field)[0], name, path, size)


def find_picture(finder: Images, folder: str, name: Any, file: str, field: str) -> tuple[str, bool]:
    """The picture that a `file_name` means.

    Args:
        finder: of the pictures; counts those of another suffix or case.
        folder: what it is relative to.
        name: what stands there: with slashes or back-slashes, percent-encoded, or with folders of
            another machine before it.
        file: where it stands, for messages.
        field: where in the file.

    Returns:
        The picture's path, and whether only the end of the name, as it stands, led there.

    Raises:
        DataError: it is no name, or there is no such picture.
    """
    if not isinstance(name, str) or not any(ends(name)):
        checks.safe_join(folder, name, file, field)
    path = first_file(folder, whole_names(name))
    if path:
        return path, False
    path = first_file(folder, ends(name))
    if path:
        return path, True
    return finder.find_alike(folder, readings(folder, name), file, field), False


def readings(folder: str, name: str) -> list[str]:
    """The paths that a `file_name` can mean, below a folder."""
    names = (*whole_names(name), *ends(name))
    return list(dict.fromkeys(os.path.normpath(os.path.join(folder, each)) for each in names))


def first_file(folder: str, names: Iterator[str]) -> str | None:
    """The path of the first of the names, relative to a folder, that is a file."""
    paths = (os.path.join(folder, name) for name in dict.fromkeys(names))
    return next((path for path in paths if os.path.isfile(path)), None)


def whole_names(name: str) -> Iterator[str]:
    """How a `file_name` can be meant, nothing left out; nothing that leads out of the folder."""
    slashes = name.replace("\\", "/")
    for text in (name, slashes, urllib.parse.unquote(slashes)):
        path = pathlib.PureWindowsPath(text)  # knows / and \\
        if path.parts and not path.anchor and ".." not in path.parts:
            yield pathlib.PurePath(text).as_posix()


def ends(name: str) -> Iterator[str]:
    """What a `file_name` can end in, the longest first; nothing that leads out of the folder."""
    texts = [name, *_QUERY.split(name)]
    for text in (*texts, *map(urllib.parse.unquote, texts)):
        path = pathlib.PureWindowsPath(text)
        parts = path.parts[1:] if path.anchor else path.parts
        while ".." in parts:
            parts = parts[parts.index("..") + 1 :]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))

"""Where the image is that an annotation names, whatever has become of its name since."""

from __future__ import annotations

import bisect
import collections
import functools
import os
import unicodedata
import urllib.parse
from collections.abc import Sequence
from typing import Any, NamedTuple

from harmonic_tf.data import checks

READABLE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".mpo", ".jpe", ".jfif"),
)
"""What names of images that can be read end in, in lower case, the usual ones first."""

SUFFIXES = (*READABLE_SUFFIXES, ".avif", ".dng", ".heic", ".heif", ".jp2")
"""What names of images end in, in lower case; of those that cannot be read an error speaks."""

RENAMED = "the image is found under a name of another case or suffix than the one written"
"""The note of an image that was found under another name."""

_SHOWN = 5  # names that a message lists


class _Listing(NamedTuple):
    """What a folder holds: all names, sorted; and those of one stem, in whatever case."""

    names: list[str]
    by_stem: dict[str, list[str]]


class Images:
    r"""Finds images by the names that annotations give them; one for each reading of a data set.

    An image is the file of the name as written; back-slashes separate folders as slashes do, and
    `%20` may stand for a blank. Where there is none, it is the one image whose name differs only by
    its suffix, by case, or by how accents are put together. Folders are listed once.

    Attributes:
        notes: how many images were found under another name; see `DetectionData.notes`.
    """

    def __init__(self):
        self.notes: collections.Counter[str] = collections.Counter()
        self._names: dict[str, Any] = {}  # by which each image was found
        self._list = functools.lru_cache(maxsize=None)(_list)
        self._folder = functools.lru_cache(maxsize=None)(self._find_folder)

    def find(self, folder: str, name: Any, file: str, field: str) -> str:
        """The path of an image.

        Args:
            folder: that it is in, or in a folder below.
            name: what the annotation calls it, relative to the folder; its suffix may be missing.
            file: that names it, for messages.
            field: where in the file, for messages.

        Raises:
            DataError: no image fits, or several, or one that another name has led to already; or
                the name is none, or leads out of the folder.
        """
        paths = self._readings(folder, name, file, field)
        path = next((path for path in paths if os.path.isfile(path)), None)
        if path is None:
            path = self.find_alike(folder, paths, file, field)
        other = self._names.setdefault(path, name)
        if other != name:
            problem = "leads to the same image as another name"
            remedy = f"Restore its own image: {path} is that of {other!r}"
            checks.refuse(file, field, repr(name), problem, remedy)
        return path

    @staticmethod
    def _readings(folder: str, name: Any, file: str, field: str) -> list[str]:
        """The paths that a name may mean, the most literal one first."""
        paths = [checks.safe_join(folder, name, file, field)]
        readings = (name.replace("\\", "/"), urllib.parse.unquote(name).replace("\\", "/"))
        for reading in dict.fromkeys(readings):
            if reading != name:
                paths.append(checks.safe_join(folder, reading, file, field))
        return list(map(os.path.normpath, paths))

    def find_alike(self, folder: str, paths: Sequence[str], file: str, field: str) -> str:
        """The one image whose path differs from these, none of which is there, by its name alone.

        Args:
            folder: that the paths start with.
            paths: where the image may be, the likeliest first.
            file: that names it, for messages.
            field: where in the file, for messages.

        Raises:
            DataError: no image fits, or several.
        """
        found = self.alike(folder, paths)
        fitting = [path for path in found if path.lower().endswith(READABLE_SUFFIXES)]
        if len(fitting) == 1:
            if not fitting[0].startswith(tuple(paths)):  # it is more than a missing suffix
                self.notes[RENAMED] += 1
            return fitting[0]
        if fitting:
            names = ", ".join(os.path.basename(path) for path in fitting[:_SHOWN])
            checks.refuse(file, field, paths[-1], "several images fit", f"Name one of {names}")
        remedy = (
            f"Restore the image or drop its entry; there is {self.what_is_there(folder, paths)}"
        )
        checks.refuse(file, field, paths[0], "picture is missing", remedy)

    def alike(self, folder: str, paths: Sequence[str]) -> list[str]:
        """The files, of any kind, whose paths differ from these by suffix or case alone."""
        found: dict[str, None] = {}
        for path in paths:
            parent, name = os.path.split(path)
            parent = self._folder(folder, os.path.relpath(parent, folder))
            names = self._list(parent).by_stem.get(_key(_stem(name)), ())
            found.update((os.path.join(parent, n), None) for n in names)
        return list(found)

    def what_is_there(self, folder: str, paths: Sequence[str]) -> str:
        """What there is where images are missing: those alike, or those next to the likeliest."""
        alike = [p for p in self.alike(folder, paths) if p.lower().endswith(SUFFIXES)]
        names = ", ".join(map(os.path.basename, alike))
        existing = (path for path in reversed(paths) if os.path.isdir(os.path.dirname(path)))
        return names or self._nearest(max(existing, key=len, default=paths[-1]))

    def names(self, folder: str) -> list[str]:
        """All names in a folder, sorted; none where there is no such folder."""
        return self._list(folder).names

    def _find_folder(self, root: str, below: str) -> str:
        """A folder below another one, its name in whatever case there is."""
        for part in os.path.normpath(below).split(os.sep):
            inside = os.path.join(root, part)
            if not os.path.isdir(inside):
                names = self._list(root).by_stem.get(_key(os.path.splitext(part)[0]), ())
                names = [name for name in names if _key(name) == _key(part)]
                inside = os.path.join(root, names[0]) if len(names) == 1 else inside
            root = inside
        return os.path.normpath(root)

    def _nearest(self, path: str) -> str:
        """What there is where a file is missing."""
        folder, name = os.path.split(path)
        names = self._list(os.path.normpath(folder)).names
        if not names:
            return f"nothing in {folder}" if os.path.isdir(folder) else f"no folder {folder}"
        place = bisect.bisect(names, name)
        around = names[max(0, place - 1) : place + 1]
        return f"{' and '.join(around)} next to it, of {len(names)} names in {folder}"


def _list(folder: str) -> _Listing:
    """The listing of a folder; empty where there is none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    by_stem: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        by_stem[_key(os.path.splitext(name)[0])].append(name)
    return _Listing(names, dict(by_stem))


def _stem(name: str) -> str:
    """A name without the suffix of an image; other dots belong to it."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def _key(name: str) -> str:
    """The same for names that differ by case, or by how their accents are put together."""
    return unicodedata.normalize("NFC", name).casefold()

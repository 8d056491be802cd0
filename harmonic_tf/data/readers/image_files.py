"""Images in files of their own: where they lie, how they are found, how large they are."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Iterator, Sequence

from harmonic_tf.data import checks
from harmonic_tf.data.images.finding import SUFFIXES, Images
from harmonic_tf.data.images.headers import read_header

FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos", "frames")
"""Names of folders of images, the usual ones first, in small letters."""


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, be it one that can be read or not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def files_below(folder: str) -> Iterator[str]:
    """The files below a folder in the order of their paths, but for hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
        yield from (os.path.join(parent, n) for n in sorted(names) if not n.startswith("."))


def images_below(folder: str) -> Iterator[str]:
    """The images below a folder, in the order of their paths."""
    return (path for path in files_below(folder) if is_image(os.path.basename(path)))


def subfolders(folder: str, names: Sequence[str]) -> list[str]:
    """The folders in a folder that bear one of the names, in the names' order.

    Args:
        folder: where to look; it need not exist.
        names: in small letters; the folders' may be in any.
    """
    found = all_subfolders(folder)
    paths = [path for path in found if os.path.basename(path).lower() in names]
    return sorted(paths, key=lambda path: names.index(os.path.basename(path).lower()))


def all_subfolders(folder: str) -> list[str]:
    """The folders in a folder, but for hidden ones."""
    found = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, name) for name in found if not name.startswith(".")]
    return [path for path in paths if os.path.isdir(path)]


def content_of(folder: str, most: int = 8) -> str:
    """The first names in a folder, for messages about what is not there."""
    if not os.path.isdir(folder):
        return "no files, for it is no folder"
    names = [name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    shown = names[:most] + (["..."] if len(names) > most else [])
    return ", ".join(shown) or "nothing"


def kinds_of_files(folder: str, most: int = 5) -> str:
    """How many files of which suffix are where below a folder, for messages."""
    kinds: collections.Counter[str] = collections.Counter()
    for path in files_below(folder):
        parent, name = os.path.split(os.path.relpath(path, folder))
        kinds[os.path.join(parent, f"*{os.path.splitext(name)[1]}")] += 1
    shown = [f"{count} x {kind}" for kind, count in kinds.most_common(most)]
    return ", ".join(shown + (["..."] if len(kinds) > most else [])) or "no files"


def upright_size(path: str) -> tuple[int, int]:
    """Width and height of an image as a person sees it, pixels, from its header."""
    try:
        with open(path, "rb") as image:
            return read_header(image, path).upright_size
    except OSError as error:
        remedy = "Restore the picture or drop its entry"
        checks.refuse(path, "file", error.strerror, "picture cannot be read", remedy)


def find_images(images: Images, folders: Iterable[str], name: str) -> list[str]:
    """The images of a name, whatever their suffix and case, the likeliest first.

    Args:
        images: finds them; one for each reading.
        folders: where to look, the likeliest first; they need not exist.
        name: of a file, with or without its suffix, relative to the folders, parted by `/`.
    """
    base = name.rpartition("/")[2]
    stem = os.path.splitext(base)[0] if is_image(base) else base

    def rank(path: str) -> tuple[bool, bool, int]:
        there = os.path.basename(path)
        own, suffix = os.path.splitext(there)
        return there != base, own != stem, SUFFIXES.index(suffix.lower())

    found: list[str] = []
    for folder in folders:
        paths = images.alike(folder, [os.path.join(folder, name)])
        found += sorted((p for p in paths if is_image(os.path.basename(p))), key=rank)
    return list(dict.fromkeys(found))

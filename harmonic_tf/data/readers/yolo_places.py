"""Where the images of a YOLO data set lie: what an entry of a description or of a list leads to."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.finding import Images
from harmonic_tf.data.readers import image_files

ALL = "all"
"""The split of a folder without splits."""

SAME_SPLIT = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
"""Names that mean the same split."""

SPLITS = tuple(name for names in SAME_SPLIT for name in names)
"""All of them."""

END_NOTE = "a path that is not there is found by its end, below the data set's folder"


def splits_on_disk(folder: str) -> dict[str, str]:
    """The splits that the names of folders and lists tell, or all images as one."""
    found = {}
    for name in SPLITS:
        places = [path for path in (os.path.join(folder, f"{name}.txt"),) if _is_list(path)]
        for home in image_files.subfolders(folder, image_files.FOLDERS):
            places += image_files.subfolders(home, (name,))
        for home in image_files.subfolders(folder, (name, f"obj_{name}_data")):
            places += [*image_files.subfolders(home, image_files.FOLDERS), home]
        place = next((place for place in places if os.path.isfile(place) or _has(place)), None)
        if place:
            found[name] = os.path.relpath(place, folder)
    return found or ({ALL: os.curdir} if _has(folder) else {})


def lead_to(entry: str, folders: Sequence[str], notes: collections.Counter[str]) -> str | None:
    """The file or folder that an entry means; None where there is none.

    Args:
        entry: a path, as written on whichever machine.
        folders: from which it may lead there, the likeliest first; the data set's own last.
        notes: gets what is read otherwise than it is written.
    """
    # Some exporters put `../` before what is beside the file.
    readings = [entry, entry[len("../") :]] if entry.startswith("../") else [entry]
    for folder in folders:
        for reading in readings:
            place = os.path.join(folder, reading)
            if os.path.exists(place):
                return os.path.normpath(place)
    place = next(filter(os.path.exists, _ends(entry, folders[-1])), None)
    notes[END_NOTE] += place is not None
    return place


def images_at(place: str, folders: Sequence[str], notes: collections.Counter[str]) -> Iterator[str]:
    """The images below a folder, or those that a text file lists, be they there or not.

    Args:
        place: the folder or the file.
        folders: from which the file's lines may lead to images, after its own.
        notes: gets what is read otherwise than it is written.
    """
    if os.path.isdir(place):
        yield from image_files.images_below(place)
        return
    images, folders = Images(), [os.path.dirname(place), *folders]
    for line in filter(None, text_lines(place)):
        yield lead_to(line, folders, notes) or _alike(line, folders, images, place)
    notes.update(images.notes)


def _alike(line: str, folders: Sequence[str], images: Images, file: str) -> str:
    """The image that a line means but for its suffix or case, or where it should be."""
    paths = [os.path.normpath(os.path.join(folder, line)) for folder in folders]
    paths += map(os.path.normpath, _ends(line, folders[-1]))
    with contextlib.suppress(DataError):
        return images.find_alike(folders[-1], paths, file, line)
    return next((path for path in paths if os.path.isdir(os.path.dirname(path))), paths[0])


def text_lines(file: str) -> list[str]:
    """The lines of a text file, without the blanks around them."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return [line.strip() for line in opened]
    except (OSError, UnicodeDecodeError) as error:
        checks.refuse(file, "file", error, "cannot be read as text", "Write the file again")


def _is_list(file: str) -> bool:
    """Whether a text file lists images."""
    if not os.path.isfile(file):
        return False
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        first = next((line.strip() for line in opened if line.strip()), "")
    return image_files.is_image(pathlib.PureWindowsPath(first).name)


def _has(folder: str) -> bool:
    return any(True for _ in image_files.images_below(folder))


def _ends(entry: str, folder: str) -> Iterator[str]:
    """Where the entry leads below a folder, with more and more of its start left out.

    The name of a folder like `images` alone does not tell one split from another.
    """
    path = pathlib.PureWindowsPath(entry)  # knows / and \\
    parts = path.parts[bool(path.anchor) :]
    for start in range(len(parts)):
        end = parts[start:]
        if ".." not in end and not (len(end) == 1 and end[0].lower() in image_files.FOLDERS):
            yield os.path.join(folder, *end)

"""Finds the text files that hold the labels of images."""

from __future__ import annotations

import os
import re

from harmonic_tf.data.readers import image_files

FOLDERS = ("labels", "label", "annotations", "annotation", "annots", "annot", "txt")
"""Names of folders of labels, the usual ones first, in small letters."""

_MOST_CLASSES = 100_000  # more than any data set has


class LabelFinder:
    """Finds the labels of images. It lists each folder once: to be made anew for each reading."""

    def __init__(self):
        self._labels: dict[str, dict[str, str]] = {}
        self._orphans: set[str] = set()

    def find(self, image_path: str) -> str | None:
        """The file with the labels of an image; None without one."""
        folder, name = os.path.split(image_path)
        if folder not in self._labels:
            self._labels[folder] = self._labels_of(folder)
        return self._labels[folder].get(name)

    def find_rows(self, image_path: str) -> bool:
        """Whether the image has a file whose first row is that of a label."""
        file = self.find(image_path)
        return file is not None and _starts_with_a_row(file)

    def orphans(self) -> int:
        """How many files of labels in the folders seen belong to no image."""
        used = {path for labels in self._labels.values() for path in labels.values()}
        return sum(_starts_with_a_row(file) for file in self._orphans - used)

    def _labels_of(self, folder: str) -> dict[str, str]:
        """The files of labels of all images in a folder, by the image's name.

        They are all in one folder: the first of the likely ones that has some.
        """
        names = os.listdir(folder) if os.path.isdir(folder) else []
        images = [name for name in names if image_files.is_image(name)]
        for place in label_folders(folder):
            texts = {name for name in os.listdir(place) if name.endswith(".txt")}
            found = {
                image: os.path.join(place, text)
                for image in images
                for text in (f"{image}.txt", f"{os.path.splitext(image)[0]}.txt")
                if text in texts
            }
            if found:
                if not _is_shared(place, folder):
                    self._orphans |= {os.path.join(place, text) for text in texts}
                return found
        return {}


def label_folders(folder: str) -> list[str]:
    """The folders where the labels of the images in a folder may lie, the likeliest first.

    Where its path leads with the last folder like `images` replaced by one like `labels`, or there
    without the rest of the path; the folder itself; a folder like `labels` in it or beside it.
    """
    parts = os.path.abspath(folder).split(os.sep)
    found = []
    indices = [i for i, part in enumerate(parts) if part.lower() in image_files.FOLDERS]
    if indices:
        homes = image_files.subfolders(os.sep.join(parts[: indices[-1]]) or os.sep, FOLDERS)
        found += [os.path.join(home, *parts[indices[-1] + 1 :]) for home in homes] + homes
    found += [folder, *image_files.subfolders(folder, FOLDERS)]
    beside = image_files.subfolders(os.path.dirname(os.path.abspath(folder)), FOLDERS)
    found += [os.path.join(home, parts[-1]) for home in beside] + beside
    return [path for path in dict.fromkeys(found) if os.path.isdir(path)]


def _is_shared(place: str, folder: str) -> bool:
    """Whether a folder of labels may be that of other folders of images, too."""
    flat = os.path.basename(place).lower() in FOLDERS
    own = os.path.dirname(place) == folder
    return flat and not own and os.path.basename(folder).lower() not in image_files.FOLDERS


def _starts_with_a_row(file: str) -> bool:
    """Whether the first row is that of a label: a class, and fractions of an image's sides."""
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        columns = columns_of(next((line for line in opened if line.strip()), ""))
    try:
        number, *numbers = map(float, columns)
    except ValueError:
        return False
    sides = all(-1 < value < 2 for value in numbers)  # as drawn outside, too
    return number in range(_MOST_CLASSES) and len(numbers) >= 4 and sides


def columns_of(row: str) -> list[str]:
    """The columns of a row, parted by blanks, or by commas; not where these are decimal ones."""
    columns = re.split(r"\s*[,;]\s*", row.strip())
    return row.split() if any(re.search(r"\s", column) for column in columns) else columns

"""The names of a model's classes, which go with it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from harmonic_tf.files import write_text
from harmonic_tf.models import JointDetector

LABELS_FILE = "labels.txt"
"""The name of each class, one a line."""


def check_labels(class_names: Sequence[str], model: JointDetector) -> None:
    """Makes sure that names fit a model and a file of lines; raises ValueError if not."""
    if len(class_names) != model.num_classes:
        raise ValueError(
            f"{len(class_names)} class names for a model that knows {model.num_classes} classes. "
            "Give the names that it was trained with."
        )
    broken = [name for name in class_names if "\n" in name]
    if broken:
        raise ValueError(f"class name {broken[0]!r} is of several lines, {LABELS_FILE} has one.")


def write_labels(folder: str, class_names: Sequence[str]) -> str:
    """Writes the file; returns its path."""
    path = os.path.join(folder, LABELS_FILE)
    write_text(path, "".join(f"{name}\n" for name in class_names))
    return path


def read_labels(folder: str) -> list[str]:
    """Reads what `write_labels` wrote; raises FileNotFoundError where it is not there."""
    path = os.path.join(folder, LABELS_FILE)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path}: no such file, and nothing else names the model's classes. Export the model "
            "anew, or write the file: the name of each class, one a line."
        )
    with open(path, encoding="utf-8", newline="\n") as file:
        return file.read().split("\n")[:-1]

"""Versions of a served model: numbered folders, each whole or not there at all.

TensorFlow Serving polls the folder of a model and loads every entry whose name is a number.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable

from harmonic_tf.files import make_writable


def check_export_dir(folder: str) -> None:
    """Makes the folder of a model, before the work is done whose result it will take.

    Raises:
        OSError: it cannot be made or written to.
    """
    make_writable(folder, "export_dir")


def write_version(folder: str, write: Callable[[str], None], version: int | None = None) -> str:
    """Writes a version: to a hidden folder beside the others, which is renamed when it is whole.

    Versions that are there stay as they are. Any number of processes may do this at once.

    Args:
        folder: the folder of the model; made here.
        write: fills the folder that it is given.
        version: number of the version, >= 1; None takes the one after the highest.

    Returns:
        The folder of the version.

    Raises:
        ValueError: the number is less than 1.
        FileExistsError: the version is there already.
        OSError: the folder cannot be made or written to. Then, as after any error in `write`,
            there is no new version.
    """
    if version is not None and version < 1:
        raise ValueError(f"{folder}: version = {version} must be at least 1.")
    check_export_dir(folder)
    _check_free(folder, version)
    unfinished = os.path.join(folder, f".{uuid.uuid4().hex}.unfinished")
    try:
        os.mkdir(unfinished)
        write(unfinished)
        return _publish(unfinished, folder, version)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def numbers(folder: str) -> list[int]:
    """The versions in a model's folder, in no order."""
    return [int(name) for name in os.listdir(folder) if name.isdecimal()]


def _publish(unfinished: str, folder: str, version: int | None) -> str:
    while True:
        number = version or 1 + max(numbers(folder), default=0)
        path = os.path.join(folder, str(number))
        try:
            os.rename(unfinished, path)  # fails where there is a file, or a folder with something
            return path
        except OSError:
            _check_free(folder, version)
            if not os.path.lexists(path):
                raise  # not because another process was faster


def _check_free(folder: str, version: int | None) -> None:
    if version in numbers(folder):
        raise FileExistsError(
            f"{os.path.join(folder, str(version))}: this version is there already. Give another "
            "number, or none for the next free one."
        )

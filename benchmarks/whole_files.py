"""Whether every file that a reader could see is whole: each is read to its end, as readers do."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable, Iterator

import h5py
import numpy as np
from PIL import Image

from harmonic_tf.backend import quiet, tf
from harmonic_tf.training.state import damage

UNFINISHED = ".unfinished"  # what a conversion is called until all of it is there


def faults(folder: str) -> list[str]:
    """What is wrong with the visible files of a folder, one line each; none where all is well.

    Visible is what is not hidden by a dot and not called unfinished, in folders that are visible.
    TensorBoard's event files are records added one after the other, of which a kill may cut the
    last; TensorBoard reads them up to there, so they are left out.
    """
    found = []
    for path in visible_files(folder):
        name = os.path.relpath(path, folder)
        reader = _reader(os.path.basename(path))
        if reader is None:
            found.append(f"{name}: there is no reader for such a file")
            continue
        try:
            problem = reader(path)
        except Exception as error:  # whatever a reader says of a broken file
            problem = repr(error)
        if problem is not None:
            found.append(f"{name}: {problem}")
    return found


def visible_files(folder: str) -> Iterator[str]:
    """The paths of all visible files of a folder, but event files, in order."""
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_visible(name))
        for name in sorted(files):
            if _is_visible(name) and "tfevents" not in name:
                yield os.path.join(above, name)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(UNFINISHED)


def arrays_of_keras(path: str) -> dict[str, np.ndarray]:
    """All numbers of a `.keras` file, by their name in it."""
    found = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".h5"):
                with archive.open(name) as file, h5py.File(file, "r") as weights:
                    weights.visititems(take)
    return found


def arrays_of_checkpoint(prefix: str) -> dict[str, np.ndarray]:
    """All numbers of a TensorFlow checkpoint, by name."""
    reader = tf.train.load_checkpoint(prefix)
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


def _reader(name: str) -> Callable[[str], str | None] | None:
    """What reads a file of that name, and says what is wrong with it."""
    for ending, reader in _READERS.items():
        if name.endswith(ending) or (ending in name and ending == _DATA):
            return reader
    return None


def _json(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        json.load(file)


def _csv(path: str) -> str | None:
    with open(path, encoding="utf-8", newline="") as file:
        widths = {len(row) for row in csv.reader(file, strict=True)}
    return "has rows of several lengths" if len(widths) > 1 else _text(path)


def _text(path: str) -> str | None:
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    return None if not text or text.endswith("\n") else "its last line has no end"


def _html(path: str) -> str | None:
    with open(path, encoding="utf-8") as file:
        return None if file.read().rstrip().endswith("</html>") else "has no end"


def _picture(path: str) -> None:
    with Image.open(path) as image:
        image.load()


def _keras(path: str) -> str | None:
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        _ = json.loads(archive.read("config.json"))
    if broken is not None:
        return f"{broken} in it is damaged"
    return None if arrays_of_keras(path) else "holds no weights"


def _npz(path: str) -> None:
    with np.load(path) as archive:
        for name in archive:
            _ = archive[name]


def _records(path: str) -> str | None:
    count = sum(1 for _ in tf.data.TFRecordDataset(path))
    return None if count else "holds no records"


def _checkpoint(path: str) -> str | None:
    prefix = path.rpartition(".")[0]
    return damage(prefix)


def _saved_model(path: str) -> str | None:
    """A version of a served model, loaded as a server does, and its requests to warm up with."""
    folder = os.path.dirname(path)
    with quiet():
        loaded = tf.saved_model.load(folder)
    warmup = os.path.join(folder, "assets.extra", "tf_serving_warmup_requests")
    if not loaded.signatures or not os.path.isfile(warmup):
        return "its signatures or its requests to warm up with are missing"
    return None


def _tflite(path: str) -> str | None:
    with open(path, "rb") as file, quiet():
        tf.lite.Interpreter(model_content=file.read()).allocate_tensors()
    return _labels(path)


def _onnx(path: str) -> str | None:
    import onnx

    onnx.checker.check_model(path)
    return _labels(path)


def _labels(path: str) -> str | None:
    """A model without the names of its classes is no whole version."""
    there = os.path.isfile(os.path.join(os.path.dirname(path), "labels.txt"))
    return None if there else "labels.txt beside it is missing"


def _cache(path: str) -> str | None:
    """Its reader compares the length too, with what the pictures need."""
    with open(path, "rb") as file:
        head = file.read(64)
    whole = len(head) == 64 and all(byte in b"0123456789abcdef" for byte in head)
    return None if whole else "has no digest"


def _nothing(path: str) -> None:
    """Read with the file beside it."""


_DATA = ".data-"
_READERS = {
    ".json": _json,
    ".csv": _csv,
    ".html": _html,
    ".md": _text,
    ".txt": _text,
    ".cfg": _text,
    ".config": _text,
    ".yml": _text,
    ".yaml": _text,
    ".pbtxt": _text,
    ".png": _picture,
    ".jpg": _picture,
    ".keras": _keras,
    ".npz": _npz,
    ".tfrecord": _records,
    "tf_serving_warmup_requests": _records,
    ".index": _checkpoint,
    _DATA: _nothing,
    "saved_model.pb": _saved_model,
    "fingerprint.pb": _nothing,
    ".tflite": _tflite,
    ".onnx": _onnx,
    ".cache": _cache,
}

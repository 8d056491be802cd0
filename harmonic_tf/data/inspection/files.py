"""The encoded pictures of a data set: their formats, and which of them are the same."""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation
from harmonic_tf.data.images.decoding import encoded_picture

_Result = TypeVar("_Result")


class PictureFile(NamedTuple):
    """An encoded picture: format and colour mode, such as `"JPEG, RGB"`, and SHA-256."""

    format: str
    digest: bytes


def picture_files(annotations: Sequence[Annotation]) -> list[PictureFile]:
    """Reads the encoded picture of each annotation; none is decoded.

    Args:
        annotations: of pictures that can be read.
    """
    return _of_each(_picture_file, annotations)


def picture_digests(annotations: Sequence[Annotation]) -> list[bytes | None]:
    """The SHA-256 of each annotation's encoded picture, None where that cannot be read."""
    return _of_each(_digest_if_readable, annotations)


def _of_each(
    function: Callable[[Annotation], _Result], annotations: Sequence[Annotation]
) -> list[_Result]:
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(function, annotations)
        count = len(annotations)
        return list(tqdm(results, "Comparing pictures", count, unit="picture", delay=1))


def _digest_if_readable(annotation: Annotation) -> bytes | None:
    try:
        return _digest(encoded_picture(annotation))
    except tf.errors.OpError:
        return None


def _digest(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()


def _picture_file(annotation: Annotation) -> PictureFile:
    encoded = encoded_picture(annotation)
    try:
        with Image.open(io.BytesIO(encoded)) as picture:  # reads the head alone
            kind = f"{picture.format}, {picture.mode}"
    except (OSError, Image.DecompressionBombError):
        kind = "unknown"  # to Pillow; TensorFlow has decoded it
    return PictureFile(kind, _digest(encoded))


def shared_pictures(
    splits: Mapping[str, np.ndarray], files: Sequence[PictureFile]
) -> list[tuple[str, str, int]]:
    """Pairs of splits that hold the same pictures, and how many.

    Args:
        splits: int [P] by the split's name, rows of `files`.
        files: of all pictures.
    """
    digests = {name: {files[row].digest for row in rows} for name, rows in splits.items()}
    pairs = itertools.combinations(splits, 2)
    counted = [(a, b, len(digests[a] & digests[b])) for a, b in pairs]
    return [row for row in counted if row[2]]


def repeated_pictures(
    splits: Mapping[str, np.ndarray], files: Sequence[PictureFile]
) -> list[tuple[int, ...]]:
    """Rows of the pictures that one split holds several times, under different names.

    Args:
        splits: int [P] by the split's name, rows of `files`.
        files: of all pictures.
    """
    groups: dict[tuple[int, ...], None] = {}
    for rows in splits.values():
        same: dict[bytes, list[int]] = collections.defaultdict(list)
        for row in rows.tolist():
            same[files[row].digest].append(row)
        groups.update((tuple(group), None) for group in same.values() if len(group) > 1)
    return list(groups)

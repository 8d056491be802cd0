"""The encoded pictures of a data set: their formats, and which of them are the same."""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import io
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from harmonic_tf.data.example import Annotation
from harmonic_tf.data.images.decoding import encoded_picture


class PictureFile(NamedTuple):
    """An encoded picture: format and colour mode, such as `"JPEG, RGB"`, and SHA-256."""

    format: str
    digest: bytes


def picture_files(annotations: Sequence[Annotation]) -> list[PictureFile]:
    """Reads the encoded picture of each annotation; none is decoded.

    Args:
        annotations: of pictures that can be read.
    """
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(_picture_file, annotations)
        count = len(annotations)
        return list(tqdm(results, "Comparing pictures", count, unit="picture", delay=1))


def _picture_file(annotation: Annotation) -> PictureFile:
    encoded = encoded_picture(annotation)
    try:
        with Image.open(io.BytesIO(encoded)) as picture:  # reads the head alone
            kind = f"{picture.format}, {picture.mode}"
    except (OSError, Image.DecompressionBombError):
        kind = "unknown"  # to Pillow; TensorFlow has decoded it
    return PictureFile(kind, hashlib.sha256(encoded).digest())


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

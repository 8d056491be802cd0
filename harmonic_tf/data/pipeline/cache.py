"""Decoded pictures kept in memory or in a file, so that each is decoded only once.

Pixels are kept as they are before augmentation: uint8, at the size of the source, upright, all one
after the other. How many bytes they are is known beforehand, from the annotations.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
from tqdm import tqdm

from harmonic_tf.backend import plain, tf
from harmonic_tf.data.checks import refuse
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images import decoding
from harmonic_tf.files import replacing
from harmonic_tf.memory import free_memory

_HEAD = 64  # bytes before the pixels in a file: the digest of what is in it, as 64 hex digits
_ALIGNMENT = 64  # bytes: TensorFlow's own, without which it copies
_GIB = 2**30


class Cache:
    """The decoded pictures of a data set, read by position inside of tf.data.

    Args:
        data: what is kept.
        file: file that holds the pixels, as `file_cache` writes it; None for memory.
        pixels: uint8 [sum of all h * w * 3], the pixels in memory; None for a file.
    """

    def __init__(self, data: DetectionData, file: str | None, pixels: tf.Tensor | None):
        ends = np.cumsum([a.height * a.width * 3 for a in data.annotations])
        self.in_memory = file is None
        self._file, self._pixels, self._length = file, pixels, int(ends[-1])
        self._starts = tf.constant([0, *ends[:-1]], tf.int64)

    def part(self, picture: tf.Tensor, size: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        """Some pixels of a picture.

        Args:
            picture: int64 scalar, position in the data.
            size: int32 [2], height and width of the picture, pixels.
            part: int32 [4], y, x, height and width of what is asked for.

        Returns:
            uint8 [h, w, 3].
        """
        top, left, height, width = tf.unstack(tf.cast(part, tf.int64))
        row = 3 * tf.cast(size[1], tf.int64)
        start = self._starts[picture] + top * row
        if self._file is None:
            rows = tf.slice(self._pixels, [start], [height * row])
        else:
            # The file itself, mapped into memory: only what is asked for is read.
            mapped = tf.raw_ops.ImmutableConst(
                dtype=tf.uint8, shape=[_HEAD + self._length], memory_region_name=self._file
            )
            rows = tf.slice(mapped, [_HEAD + start], [height * row])
        rows = tf.reshape(rows, tf.stack([height, row // 3, 3]))
        return tf.slice(rows, tf.stack([0, left, 0]), tf.stack([height, width, 3]))


def build_cache(data: DetectionData, where: str) -> Cache | None:
    """Decodes every picture once, unless that is done already.

    Args:
        data: the pictures.
        where: `"none"`; `"memory"`; or a file, which is written if it is missing.

    Returns:
        The cache, None for `"none"`.

    Raises:
        DataError: there is no room for the pixels, or the file holds something else.
    """
    if where == "none":
        return None
    return memory_cache(data) if where == "memory" else file_cache(data, where)


def memory_cache(data: DetectionData) -> Cache:
    """Decodes every picture into memory.

    Args:
        data: the pictures.

    Raises:
        DataError: they do not fit into the memory that is free.
    """
    needed = _bytes_needed(data)
    _check_room("memory", needed, free_memory(), "Use a file as the cache, or none")
    unaligned = np.empty(needed + _ALIGNMENT, np.uint8)
    pixels = unaligned[-unaligned.ctypes.data % _ALIGNMENT :][:needed]
    start = 0
    for image in _decoded(data):
        pixels[start : start + image.size] = image.ravel()
        start += image.size
    # Shared, where tf.constant would need as much memory again for copies.
    return Cache(data, None, tf.experimental.dlpack.from_dlpack(pixels.__dlpack__()))


def file_cache(data: DetectionData, file: str) -> Cache:
    """Decodes every picture into a file, or finds that they are in it already.

    Args:
        data: the pictures.
        file: where to; it appears when it is complete.

    Raises:
        DataError: the disk has no room, or the file holds something else than these pictures, for
            example because they have changed since.
    """
    needed, digest = _HEAD + _bytes_needed(data), _digest(data)
    folder = os.path.dirname(os.path.abspath(file))
    if os.path.exists(file):
        with open(file, "rb") as opened:
            found = opened.read(_HEAD)
        if found != digest or os.path.getsize(file) != needed:
            refuse(
                file,
                "cache",
                f"{os.path.getsize(file)} bytes",
                f"holds something else than the {len(data.annotations)} pictures of {data.name} "
                "as they are now",
                "Remove it, or name another file",
            )
        return Cache(data, os.path.abspath(file), None)
    try:
        os.makedirs(folder, exist_ok=True)
        _check_room(file, needed, shutil.disk_usage(folder).free, "Name a file on another disk")
        with replacing(file) as temporary, open(temporary, "wb") as opened:
            opened.write(digest)
            for image in _decoded(data):
                opened.write(image.tobytes())
    except OSError as error:
        reason = error.strerror or str(error)
        refuse(file, "cache", file, f"cannot be written ({reason})", "Name another file")
    return Cache(data, os.path.abspath(file), None)


def _bytes_needed(data: DetectionData) -> int:
    return sum(a.height * a.width * 3 for a in data.annotations)


def _check_room(where: str, needed: int, free: int, remedy: str) -> None:
    if needed > free:
        refuse(
            where,
            "cache",
            f"{needed / _GIB:.2f} GiB of decoded pictures",
            f"do not fit: {free / _GIB:.2f} GiB are free",
            remedy,
        )


def _decoded(data: DetectionData):
    """Every picture, uint8 [H, W, 3], in order, with progress."""
    rows = [
        (str(a.image_path), -1 if a.record_offset is None else a.record_offset, a.orientation)
        for a in data.annotations
    ]

    def decode(path, offset, orientation, *decoder):
        return decoding.decode(decoding.read(path, offset), orientation, *decoder)

    paths, offsets, orientations = zip(*rows)
    decoders = decoding.decoder_numbers(data.annotations)
    columns = [list(paths), np.array(offsets, np.int64), np.array(orientations, np.int32)]
    columns += [] if decoders is None else [decoders]
    images = tf.data.Dataset.from_tensor_slices(tuple(columns)).map(
        plain(decode), num_parallel_calls=tf.data.AUTOTUNE
    )
    progress = tqdm(images.as_numpy_iterator(), "Decoding", len(rows), unit="picture", delay=1)
    for annotation, image in zip(data.annotations, progress):
        if image.shape[:2] != (annotation.height, annotation.width):
            refuse(
                str(annotation.image_path),
                "size",
                f"{image.shape[1]} x {image.shape[0]}",
                f"is annotated as {annotation.width} x {annotation.height}",
                "Correct the annotation",
            )
        yield image


def _digest(data: DetectionData) -> bytes:
    """Tells one set of pictures from another, and from itself when a file has changed since."""
    files = {}
    for annotation in data.annotations:
        path = str(annotation.image_path)
        if path not in files:
            status = os.stat(path)
            files[path] = [os.path.abspath(path), status.st_size, status.st_mtime_ns]
    rows = [
        [*files[str(a.image_path)], a.record_offset, a.orientation, a.width, a.height, a.decoder]
        for a in data.annotations
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest().encode()

"""One shard of a conversion: which pictures it gets, and how it is written."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import TENSORFLOW, Annotation, DataError, Problem
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.checking import check_picture
from harmonic_tf.data.images.headers import format_of
from harmonic_tf.data.records import manifest
from harmonic_tf.data.records.codec import encode
from harmonic_tf.data.records.reading import record_size
from harmonic_tf.files import replacing

_REPORT_SUFFIX = ".json"  # of what is known of a finished shard, beside it
_JPEG_QUALITY = 95  # of pictures that are encoded again


@dataclasses.dataclass(frozen=True)
class Task:
    """A shard to be written.

    Args:
        path: file to write.
        annotations: its pictures, in order.
        class_names: name by class index.
        skip: whether pictures that are bad are left out; otherwise the first one is the result.
        max_pixels: most pixels that a picture may have; see `check_pictures`.
        on_truncated: see `check_pictures`.
        fingerprint: of all that the shard's bytes depend on, but for the bytes of the pictures.
    """

    path: str
    annotations: Sequence[Annotation]
    class_names: Sequence[str]
    skip: bool
    max_pixels: int
    on_truncated: str
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Written:
    """A shard that was written.

    Args:
        shard: its entry in the manifest.
        objects: number of objects by class name.
        turned: pictures that were encoded again, upright.
        recoded: pictures that were encoded again, upright or not, for TensorFlow to decode.
        problems: the pictures that were left out.
        fingerprint: of its task.
    """

    shard: manifest.Shard
    objects: Mapping[str, int]
    turned: int
    recoded: int
    problems: Sequence[Problem]
    fingerprint: str


def make_tasks(
    folder: str,
    split: str,
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    shard_bytes: int,
    skip: bool,
    max_pixels: int,
    on_truncated: str,
) -> list[Task]:
    """Cuts a split into shards.

    Args:
        folder: where to write them.
        split: its name.
        annotations: of the split, in order.
        class_names: name by class index.
        shard_bytes: size of the pictures in a shard, but for the last picture, >= 1.
        skip: see `Task`.
        max_pixels: see `Task`.
        on_truncated: see `Task`.

    Returns:
        One task a shard, named `SPLIT-00000-of-00008.tfrecord`, in the order of the pictures.

    Raises:
        DataError: a picture's file is gone.
    """
    sizes = np.array([_size(annotation) for annotation in annotations], np.int64)
    numbers = (np.cumsum(sizes) - sizes) // shard_bytes
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    tasks = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(annotations)])):
        name = f"{split}-{index:05d}-of-{len(starts):05d}.tfrecord"
        part = annotations[start:end]
        options = max_pixels, on_truncated
        fingerprint = _fingerprint(part, sizes[start:end], class_names, options)
        path = os.path.join(folder, name)
        tasks.append(Task(path, part, class_names, skip, *options, fingerprint))
    return tasks


def _size(annotation: Annotation) -> int:
    """Bytes that a picture takes."""
    path, offset = annotation.image_path, annotation.record_offset
    try:
        return os.path.getsize(path) if offset is None else record_size(path, offset)
    except OSError as error:
        checks.refuse(path, "file", error.strerror, "picture cannot be read", "Restore it")


def _fingerprint(
    annotations: Sequence[Annotation],
    sizes: np.ndarray,
    class_names: Sequence[str],
    options: tuple[int, str],
) -> str:
    """A digest of what a shard is made from."""
    digest = hashlib.sha256(repr((manifest.VERSION, list(class_names), options)).encode())
    for annotation, size in zip(annotations, sizes):
        fields = {**vars(annotation), "image_path": os.path.basename(annotation.image_path)}
        fields["extras"] = sorted(annotation.extras)
        arrays = [fields.pop(name) for name in ("boxes", "classes", "difficult", "crowd")]
        digest.update(repr((size, sorted(fields.items()))).encode())
        for array in (*arrays, *(annotation.extras[name] for name in fields["extras"])):
            digest.update(array.tobytes())
    return digest.hexdigest()


def finished(task: Task) -> Written | None:
    """What an earlier conversion has written, if it is whole and from the same task."""
    try:
        with open(task.path + _REPORT_SUFFIX, encoding="utf-8") as file:
            report = json.load(file)
        problems = [Problem(**problem) for problem in report.pop("problems")]
        shard = manifest.Shard(**report.pop("shard"))
        written = Written(**report, shard=shard, problems=problems)
        whole = manifest.file_sha256(task.path) == shard.sha256
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    same = written.fingerprint == task.fingerprint and (task.skip or not problems)
    return written if whole and same else None


def write(task: Task) -> Written | Problem:
    """Writes a shard and, beside it, what is known of it; both appear when they are whole.

    Every picture is decoded, to see that it is as annotated. Its encoded bytes are copied, unless
    it is stored turned, cut off or of a format that TensorFlow does not decode: then it is encoded
    again upright, as JPEG if it was one, else as PNG.

    Returns:
        What was written, or the first problem where bad pictures are not to be skipped. (An
        exception would not come out of another process with its problem.)

    Raises:
        OSError, tf.errors.OpError: the shard cannot be written.
    """
    try:
        with replacing(task.path) as path:
            counts, objects, problems = _write_records(path, task)
            shard = manifest.Shard(
                file=os.path.basename(task.path),
                pictures=counts["pictures"],
                bytes=os.path.getsize(path),
                sha256=manifest.file_sha256(path),
            )
    except DataError as error:
        return error.problem
    turned, recoded = counts["turned"], counts["recoded"]
    written = Written(shard, objects, turned, recoded, problems, task.fingerprint)
    manifest.write_json(task.path + _REPORT_SUFFIX, written)
    return written


def _write_records(
    path: str, task: Task
) -> tuple[Mapping[str, int], dict[str, int], list[Problem]]:
    """Writes the records; gives the numbers of pictures and of objects, and problems.

    Raises:
        DataError: a picture is bad and not to be skipped.
    """
    objects = np.zeros(len(task.class_names), int)
    counts: collections.Counter[str] = collections.Counter()
    problems: list[Problem] = []
    with tf.io.TFRecordWriter(path) as writer:
        for annotation in task.annotations:
            with checks.collecting(problems, checks.PICTURE):
                annotation = check_picture(annotation, task.max_pixels, task.on_truncated)
                encoded = decoding.encoded_picture(annotation)
                turned, recoded = annotation.orientation != 1, annotation.decoder != TENSORFLOW
                if turned or recoded:
                    encoded = _encoded_again(annotation, encoded)
                writer.write(encode(annotation, encoded, task.class_names))
                objects += np.bincount(annotation.classes, minlength=len(objects))
                counts.update(pictures=1, turned=turned, recoded=recoded)
            if problems and not task.skip:
                raise DataError(problems[0])
    return counts, dict(zip(task.class_names, objects.tolist())), problems


def _encoded_again(annotation: Annotation, encoded: bytes) -> bytes:
    """The picture encoded again so that it is stored upright, for TensorFlow to decode."""
    image = decoding.pixels(annotation, encoded)
    if format_of(encoded) == "jpeg":
        return tf.io.encode_jpeg(image, quality=_JPEG_QUALITY, chroma_downsampling=False).numpy()
    return tf.io.encode_png(image).numpy()

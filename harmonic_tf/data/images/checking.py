"""Makes sure that every picture can be used, before anything is trained on it."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from harmonic_tf.backend import tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import (
    DECODERS,
    RECOVERING,
    Annotation,
    DetectionData,
    Problem,
)
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.headers import Header, format_of, read_header

MAX_PIXELS = 2**26
"""Most pixels of a picture, where not set: 67 million, above the 61 of full-frame cameras, 192 MiB
decoded."""

ON_TRUNCATED = ("error", "recover")
"""What can be done about a JPEG that is cut off."""


def check_pictures(
    data: DetectionData,
    on_bad_example: str = "error",
    max_pixels: int = MAX_PIXELS,
    on_truncated: str = "error",
) -> DetectionData:
    """Decodes every picture once, as training will, and compares its size with the annotation's.

    Sets each annotation's `orientation` and `decoder`. A picture in a file of its own is annotated
    as a person sees it, turned upright by its EXIF orientation, unless only the stored picture, its
    sides swapped, has the annotated size. A picture in a record is annotated as it is stored.

    Args:
        data: as `sources.load` returns it.
        on_bad_example: "error" raises the first problem; "skip" leaves out the picture and lists
            it in `skipped`.
        max_pixels: most pixels that a picture may have, those of all frames of a GIF together,
            >= 1. Larger ones are refused without decoding them.
        on_truncated: "error" takes a JPEG that is cut off for one that does not decode; "recover"
            uses what decodes of it, grey below, and counts it in `notes`.

    Returns:
        The data without the pictures that were left out.

    Raises:
        DataError: a picture cannot be read, does not decode, is too large or has another size; or
            no object is left; or `on_truncated` is none of `ON_TRUNCATED`.
    """
    if on_truncated not in ON_TRUNCATED:
        remedy = f"Use one of {', '.join(ON_TRUNCATED)}"
        checks.refuse(data.name, "on_truncated", on_truncated, "no such choice", remedy)
    kept: list[Annotation] = []
    problems: list[Problem] = []
    check = functools.partial(_checked, max_pixels=max_pixels, on_truncated=on_truncated)
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = tqdm(
            pool.map(check, data.annotations),
            desc=f"Checking pictures of {data.name}",
            total=len(data.annotations),
            unit="picture",
            delay=1,
        )
        for result in results:
            if isinstance(result, Annotation):
                kept.append(result)
                continue
            problems.append(result)
            if on_bad_example == "error":
                pool.shutdown(wait=False, cancel_futures=True)
                break
    notes = collections.Counter(data.notes) + collections.Counter(notes_of(kept))
    data = dataclasses.replace(data, annotations=kept, notes=notes)
    return checks.finish(data, data.name, problems, on_bad_example)


def notes_of(annotations: Sequence[Annotation]) -> Mapping[str, int]:
    """What `check_pictures` has noted of pictures; see `DetectionData.notes`.

    Args:
        annotations: of pictures that were checked.
    """
    cut_off = sum(annotation.decoder == RECOVERING for annotation in annotations)
    return {"image is cut off: what decodes is used": cut_off} if cut_off else {}


def _checked(annotation: Annotation, max_pixels: int, on_truncated: str) -> Annotation | Problem:
    """The annotation with its orientation, or what is wrong with its picture."""
    problems: list[Problem] = []
    with checks.collecting(problems, checks.PICTURE):
        return check_picture(annotation, max_pixels, on_truncated)
    return problems[0]


def check_picture(
    annotation: Annotation, max_pixels: int = MAX_PIXELS, on_truncated: str = "error"
) -> Annotation:
    """Checks one picture as `check_pictures` does; raises DataError."""
    path, offset = annotation.image_path, annotation.record_offset
    field = "file" if offset is None else f"record at byte {offset}"
    try:
        content = decoding.encoded_picture(annotation)
    except tf.errors.OpError as error:
        remedy = "Restore the picture or drop its entry"
        checks.refuse(path, field, _first_line(error), "picture cannot be read", remedy)
    header = _header(content, path, field, max_pixels)
    decoders = [header.decoder]
    if on_truncated == "recover" and format_of(content) == "jpeg":
        decoders.append(RECOVERING)
    decoder, image = _decoded(content, decoders, path, field)
    height, width = image.shape[:2]
    header = header._replace(width=width, height=height)
    orientation = _orientation(annotation, header, field)
    return dataclasses.replace(annotation, orientation=orientation, decoder=decoder)


def upright_pixels(content: bytes, file: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a picture that no data set names, checked as theirs are, as a person sees it.

    Args:
        content: the encoded picture.
        file: what it is called, for messages.
        max_pixels: see `check_pictures`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        DataError: it is no picture that can be read, is too large or damaged.
    """
    header = _header(content, file, "file", max_pixels)
    _, image = _decoded(content, [header.decoder], file, "file")
    return decoding.turn_upright(image, tf.constant(header.orientation)).numpy()


def _header(content: bytes, path: str, field: str, max_pixels: int) -> Header:
    """The header of a picture that is not too large."""
    header = read_header(io.BytesIO(content), path, field)
    pixels = header.width * header.height * header.frames
    if pixels > max_pixels:
        value = f"{header.width} x {header.height} pixels, {header.frames} frame(s)"
        remedy = f"Scale it down, or raise max_pixels from {max_pixels} to {pixels}"
        checks.refuse(path, field, value, "picture is larger than max_pixels", remedy)
    return header


def _decoded(
    content: bytes, decoders: Sequence[str], path: str, field: str
) -> tuple[str, tf.Tensor]:
    """The first of the decoders that decodes a picture, and its pixels uint8 [H, W, 3]."""
    for decoder in decoders:
        try:
            number = tf.constant(DECODERS.index(decoder))
            return decoder, decoding.decode(content, None, number)
        except tf.errors.OpError as error:
            value = _first_line(error)
    remedy = "Restore it: a whole JPEG, PNG, GIF, BMP, WebP or TIFF"
    if format_of(content) == "jpeg" and RECOVERING not in decoders:
        remedy += "; a JPEG that is cut off is used as far as it goes with on_truncated=recover"
    checks.refuse(path, field, value, "picture does not decode", remedy)


def _orientation(annotation: Annotation, header: Header, field: str) -> int:
    """How the stored picture has to be turned so that it is as it was annotated."""
    annotated = annotation.width, annotation.height
    if annotated == header.upright_size and annotation.record_offset is None:
        return header.orientation
    if annotated == (header.width, header.height):
        return 1
    value = f"{header.width} x {header.height}, annotated {annotated[0]} x {annotated[1]}"
    problem = "picture has not the size that its annotation gives"
    remedy = "Correct the picture or its annotation"
    checks.refuse(annotation.image_path, f"{field} size", value, problem, remedy)


def _first_line(error: tf.errors.OpError) -> str:
    """What TensorFlow says, without where in its graph."""
    return error.message.rpartition("}} ")[2].partition("\n")[0].partition(" [Op:")[0]

"""Makes sure that every picture can be used, before anything is trained on it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import io
import os

from tqdm import tqdm

from harmonic_tf.backend import tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, Problem
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.headers import Header, read_header

MAX_PIXELS = 2**26
"""Most pixels of a picture, where not set: 67 million, above the 61 of full-frame cameras, 192 MiB
decoded."""


def check_pictures(
    data: DetectionData, on_bad_example: str = "error", max_pixels: int = MAX_PIXELS
) -> DetectionData:
    """Decodes every picture once, as training will, and compares its size with the annotation's.

    Sets each annotation's `orientation`. A picture in a file of its own is annotated as a person
    sees it, turned upright by its EXIF orientation, unless only the stored picture, its sides
    swapped, has the annotated size. A picture in a record is annotated as it is stored.

    Args:
        data: as `sources.load` returns it.
        on_bad_example: "error" raises the first problem; "skip" leaves out the picture and lists
            it in `skipped`.
        max_pixels: most pixels that a picture may have, those of all frames of a GIF together,
            >= 1. Larger ones are refused without decoding them.

    Returns:
        The data without the pictures that were left out.

    Raises:
        DataError: a picture cannot be read, does not decode, is too large or has another size; or
            no object is left.
    """
    kept: list[Annotation] = []
    problems: list[Problem] = []
    check = functools.partial(_checked, max_pixels=max_pixels)
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
    data = dataclasses.replace(data, annotations=kept)
    return checks.finish(data, data.name, problems, on_bad_example)


def _checked(annotation: Annotation, max_pixels: int) -> Annotation | Problem:
    """The annotation with its orientation, or what is wrong with its picture."""
    problems: list[Problem] = []
    with checks.collecting(problems, checks.PICTURE):
        return check_picture(annotation, max_pixels)
    return problems[0]


def check_picture(annotation: Annotation, max_pixels: int = MAX_PIXELS) -> Annotation:
    """Checks one picture as `check_pictures` does; raises DataError."""
    path, offset = annotation.image_path, annotation.record_offset
    field = "file" if offset is None else f"record at byte {offset}"
    try:
        content = decoding.encoded_picture(annotation)
    except tf.errors.OpError as error:
        remedy = "Restore the picture or drop its entry"
        checks.refuse(path, field, _first_line(error), "picture cannot be read", remedy)
    header = read_header(io.BytesIO(content), path, field)
    pixels = header.width * header.height * header.frames
    if pixels > max_pixels:
        value = f"{header.width} x {header.height} pixels, {header.frames} frame(s)"
        remedy = f"Scale it down, or raise max_pixels from {max_pixels} to {pixels}"
        checks.refuse(path, field, value, "picture is larger than max_pixels", remedy)
    try:
        height, width = decoding.decode(content).shape[:2]
    except tf.errors.OpError as error:
        value, remedy = _first_line(error), "Restore it: a whole JPEG, PNG, GIF or BMP"
        checks.refuse(path, field, value, "picture does not decode", remedy)
    header = header._replace(width=width, height=height)
    return dataclasses.replace(annotation, orientation=_orientation(annotation, header, field))


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

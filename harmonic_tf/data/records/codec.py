"""One annotated picture as a tf.Example with the keys of the TensorFlow Object Detection API.

What that API has no key for (the exact corners, numbers of other kinds, whether an id is a number)
goes under `harmonic/`, where other readers do not look.

Source: the keys, https://github.com/tensorflow/models/blob/master/research/object_detection/
g3doc/using_your_own_dataset.md, and its data_decoders/tf_example_decoder.py.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union

import numpy as np
from google.protobuf.message import DecodeError

from harmonic_tf.backend import tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, ImageId, Problem
from harmonic_tf.data.images.decoding import ENCODED_FIELD
from harmonic_tf.data.images.headers import format_of, read_header

SOURCE_ID = "image/source_id"
FILENAME = "image/filename"
FORMAT = "image/format"
HEIGHT = "image/height"
WIDTH = "image/width"
CORNERS = tuple(f"image/object/bbox/{corner}" for corner in ("xmin", "ymin", "xmax", "ymax"))
CLASS_TEXT = "image/object/class/text"
CLASS_LABEL = "image/object/class/label"
DIFFICULT = "image/object/difficult"
CROWD = "image/object/is_crowd"
TRUNCATED = "image/object/truncated"

ID_IS_NUMBER = "harmonic/source_id_is_number"
PIXEL_CORNERS = "harmonic/bbox"
"""Corners in pixels, float [4 N]: dividing by the picture's sides and multiplying again rounds."""
EXTRAS = "harmonic/object/"
"""Prefix of an object's further numbers; see `Annotation.extras`."""

Class = Union[str, int]


class Record(NamedTuple):
    """What a tf.Example says, before its classes have indices.

    Args:
        image_id: of the picture; None where the record does not say.
        width: pixels.
        height: pixels.
        boxes: float32 [N, 4], xyxy in absolute pixels.
        classes: of the N objects: a name, or a label that counts from 1.
        difficult: bool [N].
        crowd: bool [N].
        extras: float32 [N] by name.
    """

    image_id: ImageId | None
    width: int
    height: int
    boxes: np.ndarray
    classes: list[Class]
    difficult: np.ndarray
    crowd: np.ndarray
    extras: dict[str, np.ndarray]


def encode(annotation: Annotation, encoded: bytes, class_names: Sequence[str]) -> bytes:
    """Writes one picture and its objects.

    Args:
        annotation: of the picture; its `image_path` gives the file name.
        encoded: the picture as a JPEG, PNG, GIF or BMP whose stored orientation is the upright one.
        class_names: name by class index.

    Returns:
        A serialized tf.Example, the same bytes whenever the arguments are the same.
    """
    sides = np.array([annotation.width, annotation.height] * 2, np.float64)
    corners = (annotation.boxes / sides).T
    truncated = annotation.extras.get("truncated", np.zeros(len(annotation.boxes)))
    features = {
        ENCODED_FIELD: _texts([encoded]),
        FORMAT: _texts([format_of(encoded).encode()]),
        FILENAME: _texts([os.path.basename(annotation.image_path).encode()]),
        SOURCE_ID: _texts([str(annotation.image_id).encode()]),
        ID_IS_NUMBER: _integers([not isinstance(annotation.image_id, str)]),
        WIDTH: _integers([annotation.width]),
        HEIGHT: _integers([annotation.height]),
        **{key: _floats(values) for key, values in zip(CORNERS, corners)},
        CLASS_TEXT: _texts([class_names[index].encode() for index in annotation.classes]),
        CLASS_LABEL: _integers(annotation.classes + 1),
        DIFFICULT: _integers(annotation.difficult),
        CROWD: _integers(annotation.crowd),
        TRUNCATED: _integers(truncated > 0),
        PIXEL_CORNERS: _floats(annotation.boxes.ravel()),
        **{f"{EXTRAS}{name}": _floats(values) for name, values in annotation.extras.items()},
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _texts(values: Sequence[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _integers(values: Sequence[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=map(int, values)))


def _floats(values: Sequence[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def decode(serialized: bytes, file: str, field: str, problems: list[Problem]) -> Record:
    """Reads one picture's annotation, whoever wrote it.

    Only the picture and its corners have to be there. Sides that are missing are read from the
    head of the picture.

    Args:
        serialized: a tf.Example.
        file: where it stands, for messages.
        field: where in the file.
        problems: what is wrong with single objects, which are left out, is added here.

    Raises:
        DataError: there is something wrong with the record as a whole.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        value = f"{len(serialized)} bytes"
        checks.refuse(file, field, value, "is not a tf.Example", "Write the record again")
    encoded = _one(features, ENCODED_FIELD)
    if not encoded or not isinstance(encoded, bytes):
        remedy = "Write the encoded picture there"
        checks.refuse(file, f"{field}/{ENCODED_FIELD}", "missing", "is required", remedy)
    width, height = _sides(features, encoded, file, field)
    count = len(_values(features, CORNERS[0]))

    def per_object(key: str, default: float | None = None, size: int = count) -> np.ndarray:
        return _numbers(features, key, size, default, file, field)

    if PIXEL_CORNERS in features:
        corners = per_object(PIXEL_CORNERS, size=4 * count).reshape(-1, 4)
    else:
        sides = np.array([width, height] * 2, np.float64)
        corners = np.stack([per_object(key) for key in CORNERS], axis=1) * sides
    classes = _classes(features, count, file, field)
    difficult, crowd = (_flags(features, key, count, file, field) for key in (DIFFICULT, CROWD))
    extras = {key[len(EXTRAS) :]: per_object(key) for key in features if key.startswith(EXTRAS)}
    if TRUNCATED in features:
        extras.setdefault("truncated", per_object(TRUNCATED, math.nan))

    boxes, kept = [], []
    for index, corner in enumerate(corners):
        with checks.collecting(problems):
            boxes.append(_box(corner, width, height, file, f"{field}/object[{index}]/bbox"))
            kept.append(index)
    return Record(
        image_id=_image_id(features, file, field),
        width=width,
        height=height,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=[classes[index] for index in kept],
        difficult=difficult[kept],
        crowd=crowd[kept],
        extras={name: values[kept].astype(np.float32) for name, values in extras.items()},
    )


def _values(features: Mapping[str, tf.train.Feature], key: str) -> Sequence:
    """The values of a feature, whatever their kind; none where it is missing."""
    kind = features[key].WhichOneof("kind") if key in features else None
    return getattr(features[key], kind).value if kind else ()


def _one(features: Mapping[str, tf.train.Feature], key: str) -> bytes | int | float | None:
    """The first value of a feature, if there is one."""
    return next(iter(_values(features, key)), None)


def _plain(value: bytes | float, file: str, field: str) -> str | float:
    """A value as JSON or XML would have it: bytes are text."""
    return _text(value, file, field) if isinstance(value, bytes) else value


def _per_object(
    features: Mapping[str, tf.train.Feature],
    key: str,
    count: int,
    default: float | None,
    file: str,
    field: str,
) -> list[str | float]:
    """A feature's values, which are so many; where it has none, the default if there is one."""
    values = _values(features, key)
    if not len(values) and default is not None:
        return [default] * count
    field = f"{field}/{key}"
    if len(values) != count:
        value, problem = f"{len(values)} values", "is not as many numbers as the boxes need"
        checks.refuse(file, field, value, problem, f"Write the record again, with {count}")
    return [_plain(value, file, field) for value in values]


def _numbers(
    features: Mapping[str, tf.train.Feature],
    key: str,
    count: int,
    default: float | None,
    file: str,
    field: str,
) -> np.ndarray:
    """A feature's numbers, float64 [count], see `_per_object`; NaN where nothing is known."""
    values = _per_object(features, key, count, default, file, field)
    found = [
        checks.number(value, file, f"{field}/{key}") if isinstance(value, str) else value
        for value in values
    ]
    return np.array(found, np.float64)


def _flags(
    features: Mapping[str, tf.train.Feature], key: str, count: int, file: str, field: str
) -> np.ndarray:
    """A feature's flags, bool [count]; off where it has none."""
    values = _per_object(features, key, count, 0, file, field)
    return np.array([checks.flag(value, file, f"{field}/{key}") for value in values], bool)


def _sides(
    features: Mapping[str, tf.train.Feature], encoded: bytes, file: str, field: str
) -> tuple[int, int]:
    """Width and height of the picture, pixels."""
    if not _one(features, WIDTH) or not _one(features, HEIGHT):
        header = read_header(io.BytesIO(encoded), file, f"{field}/{ENCODED_FIELD}")
        return header.width, header.height
    width, height = (
        checks.side(_plain(_one(features, key), file, field), file, f"{field}/{key}")
        for key in (WIDTH, HEIGHT)
    )
    return width, height


def _image_id(features: Mapping[str, tf.train.Feature], file: str, field: str) -> ImageId | None:
    """The id that the record gives its picture, or else its file name."""
    key = SOURCE_ID if _one(features, SOURCE_ID) not in (None, b"") else FILENAME
    value, field = _one(features, key), f"{field}/{key}"
    if value in (None, b""):
        return None
    if isinstance(value, bytes):
        value = _text(value, file, field)
        return checks.whole(value, file, field) if _one(features, ID_IS_NUMBER) else value
    return checks.identifier(value, file, field)


def _classes(
    features: Mapping[str, tf.train.Feature], count: int, file: str, field: str
) -> list[Class]:
    """The objects' classes: by their names where all have one, else by their labels."""
    texts = _values(features, CLASS_TEXT)
    if len(texts) == count and all(isinstance(text, bytes) and text for text in texts):
        return [_text(text, file, f"{field}/{CLASS_TEXT}") for text in texts]
    labels = _per_object(features, CLASS_LABEL, count, None, file, field)
    return [checks.whole(label, file, f"{field}/{CLASS_LABEL}") for label in labels]


def _text(value: bytes, file: str, field: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        checks.refuse(file, field, value, "is not UTF-8", "Write the record again")


def _box(corners: np.ndarray, width: int, height: int, file: str, field: str) -> np.ndarray:
    """One box, checked; float32 [4], xyxy."""
    x1, y1, x2, y2 = (checks.number(corner, file, field) for corner in corners)
    value = f"{x1:g} {y1:g} {x2:g} {y2:g} px"
    checks.check_area(x2 - x1, y2 - y1, file, field, value)
    return checks.clipped_box((x1, y1, x2, y2), width, height, file, field, value)

"""One picture: where its bytes lie, and its pixels as a person sees them.

Everything here runs inside of tf.data as well as on its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DECODERS, PILLOW, RECOVERING, TENSORFLOW, Annotation
from harmonic_tf.data.images import by_pillow
from harmonic_tf.data.records.reading import read_record

ENCODED_FIELD = "image/encoded"
"""Feature of a tf.Example that holds an encoded picture."""

TFDS_ENCODED_FIELD = "image"
"""The same in the files of tensorflow-datasets."""

SHRINKING = (1, 2, 4, 8)
"""By what a JPEG's sides can be divided while it is decoded: it is made of blocks of 8 pixels."""

_UPRIGHT = 1  # EXIF's orientation of a picture that is stored as it is seen
_TRANSPOSED = (5, 6, 7, 8)
_MIRRORED_X = (2, 3, 6, 7)  # after transposing
_MIRRORED_Y = (3, 4, 7, 8)


def read(path: tf.Tensor, record_offset: tf.Tensor | None = None) -> tf.Tensor:
    """Reads the encoded bytes of a picture.

    Args:
        path: string scalar: the picture's file, or a TFRecord file.
        record_offset: int64 scalar: byte of a TFRecord file at which the picture's record starts,
            or less than 0 for a picture in a file of its own. None where no picture is in a record.

    Returns:
        String scalar.
    """
    if record_offset is None:
        return tf.io.read_file(path)
    return tf.cond(
        record_offset < 0,
        lambda: tf.io.read_file(path),
        lambda: _read_from_record(path, record_offset),
    )


def _read_from_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """The encoded picture of the tf.Example that starts at a byte of a TFRecord file."""
    optional = tf.io.FixedLenFeature([], tf.string, default_value="")
    fields = (ENCODED_FIELD, TFDS_ENCODED_FIELD)
    example = read_record(path, offset)
    found = tf.io.parse_single_example(example, {field: optional for field in fields})
    encoded, tfds_encoded = (found[field] for field in fields)
    return tf.where(encoded == "", tfds_encoded, encoded)


def decoder_numbers(annotations: Sequence[Annotation]) -> tf.Tensor | None:
    """The positions in `DECODERS` of what pictures need, int32 [P]; None for TensorFlow alone.

    Args:
        annotations: of the pictures.
    """
    numbers = [DECODERS.index(annotation.decoder) for annotation in annotations]
    return tf.constant(numbers) if any(numbers) else None


def decode(
    encoded: tf.Tensor, orientation: tf.Tensor | None = None, decoder: tf.Tensor | None = None
) -> tf.Tensor:
    """Decodes a picture, whatever its format.

    Args:
        encoded: string scalar: a JPEG, PNG, GIF (its first frame) or BMP; or what its decoder can.
        orientation: int32 scalar, EXIF's number of how the stored picture is to be turned, 1 to 8;
            None leaves it as stored.
        decoder: int32 scalar, position in `DECODERS` of what it needs; None for TensorFlow, without
            a Python function in the graph.

    Returns:
        uint8 [H, W, 3].
    """
    ways = {TENSORFLOW: _by_tensorflow, RECOVERING: _as_far_as_it_goes, PILLOW: _by_pillow}
    if decoder is None:
        image = _by_tensorflow(encoded)
    else:
        branches = [functools.partial(ways[name], encoded) for name in DECODERS]
        image = tf.switch_case(decoder, branches)
    image = tf.ensure_shape(image, [None, None, 3])
    return image if orientation is None else turn_upright(image, orientation)


def _by_tensorflow(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _as_far_as_it_goes(encoded: tf.Tensor) -> tf.Tensor:
    """What there is of a JPEG that is cut off, and grey below."""
    return tf.io.decode_jpeg(encoded, channels=3, try_recover_truncated=True)


def _by_pillow(encoded: tf.Tensor) -> tf.Tensor:
    # Not tf.numpy_function, which loses zeros at the end of bytes.
    return tf.py_function(by_pillow.decode, [encoded], tf.uint8)


def decode_part(
    encoded: tf.Tensor,
    part: tf.Tensor,
    shrinking: tf.Tensor | int = 0,
    orientation: tf.Tensor | None = None,
    decoder: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes no more of a picture than is kept, where its format can: JPEG stored upright.

    Args:
        encoded: as `decode` takes it.
        part: int32 [4], y, x, height and width of what is kept, in pixels of the upright picture.
        shrinking: int32 scalar, position in `SHRINKING` of what to divide the sides by, where the
            format can; `part` starts at multiples of it.
        orientation: as `decode` takes it.
        decoder: as `decode` takes it.

    Returns:
        uint8 [h, w, 3], and the int32 scalar by which the part's sides were divided, rounding up.
        The outermost columns differ by a few levels from those of the picture decoded whole where
        its colours are stored at half its resolution, because their neighbours are not there.
    """

    def only_the_part(factor: int):
        window = tf.concat([part[:2] // factor, -(-part[2:] // factor)], axis=0)
        image = tf.raw_ops.DecodeAndCropJpeg(
            contents=encoded, crop_window=window, channels=3, ratio=factor
        )
        return image, tf.constant(factor)

    def shrunk():
        return tf.switch_case(
            tf.convert_to_tensor(shrinking),
            [functools.partial(only_the_part, factor) for factor in SHRINKING],
        )

    def whole():
        return cut(decode(encoded, orientation, decoder), part), tf.constant(1)

    partly = tf.io.is_jpeg(encoded)
    if orientation is not None:
        partly &= orientation == _UPRIGHT
    if decoder is not None:
        partly &= decoder == DECODERS.index(TENSORFLOW)
    image, factor = tf.cond(partly, shrunk, whole)
    return tf.ensure_shape(image, [None, None, 3]), factor


def cut(image: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Cuts a part, int32 [4] as y, x, height, width in pixels, out of an image [H, W, 3]."""
    return tf.slice(image, tf.pad(part[:2], [[0, 1]]), tf.concat([part[2:], [3]], axis=0))


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored picture the way it is to be seen.

    Args:
        image: [H, W, C].
        orientation: int32 scalar, 1 to 8.

    Returns:
        [H, W, C], or [W, H, C] for orientations from 5 on.

    Source: CIPA DC-008 (Exif 2.32), tag 0x0112.
    """

    def turned():
        transposed = tf.reduce_any(orientation == _TRANSPOSED)
        result = tf.cond(transposed, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        mirrored = [tf.reduce_any(orientation == which) for which in (_MIRRORED_Y, _MIRRORED_X)]
        return tf.raw_ops.Reverse(tensor=result, dims=[*mirrored, False])

    return tf.cond(orientation == _UPRIGHT, lambda: image, turned)


def encoded_picture(annotation: Annotation) -> bytes:
    """The encoded bytes of an annotation's picture.

    Args:
        annotation: names the picture.

    Raises:
        tf.errors.OpError: the file or the record cannot be read.
    """
    offset = annotation.record_offset
    return read(
        annotation.image_path, None if offset is None else tf.constant(offset, tf.int64)
    ).numpy()


def picture(annotation: Annotation) -> np.ndarray:
    """The pixels in which an annotation's boxes are.

    Args:
        annotation: names the picture.

    Returns:
        uint8 [H, W, 3].

    Raises:
        tf.errors.OpError: the picture cannot be read or decoded.
    """
    return pixels(annotation, encoded_picture(annotation))


def pixels(annotation: Annotation, encoded: bytes) -> np.ndarray:
    """The pixels of an annotation's picture, as `picture` gives them, from its encoded bytes."""
    orientation = tf.constant(annotation.orientation)
    decoder = tf.constant(DECODERS.index(annotation.decoder))
    return decode(tf.constant(encoded), orientation, decoder).numpy()

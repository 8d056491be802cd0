"""What a request holds, checked and decoded inside of the graph.

What is wrong raises InvalidArgumentError, whose text says which input it is. TensorFlow's decoders
raise their own errors, which do not say so, and a graph cannot catch them: they run in nodes that
are named after their input, and an error names its node.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from harmonic_tf.backend import tf
from harmonic_tf.data.images import decoding

# https://www.w3.org/TR/png-3: the signature, then length and type of the first chunk, IHDR; its
# data begin with width and height, 4 bytes each, the most significant first.
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_SIDES_END = len(_PNG_START) + 8


def check(condition: tf.Tensor, *message: str | tf.Tensor) -> tf.Operation:
    """Refuses the request unless a condition holds.

    Args:
        condition: bool scalar.
        *message: parts of the error's text, strings and scalars.

    Returns:
        The operation that checks, to depend on.
    """
    parts = [part if isinstance(part, str) else _as_string(part) for part in message]
    return tf.debugging.Assert(condition, [tf.strings.join(parts)])


def check_count(tensor: tf.Tensor, name: str, most: int) -> tf.Operation:
    """Refuses a request of no pictures or of too many.

    Args:
        tensor: [B, ...], the input.
        name: what the signature calls it.
        most: most pictures of a request.

    Returns:
        The operation that checks, to depend on.
    """
    count = tf.shape(tensor)[0]
    fits = (count >= 1) & (count <= most)
    return check(fits, f"{name} holds ", count, f" pictures, this model takes 1 to {most}")


def check_fraction(value: tf.Tensor, name: str) -> tf.Operation:
    """Refuses a threshold outside of [0, 1], or that is no number.

    Args:
        value: float32 scalar.
        name: what the signature calls it.

    Returns:
        The operation that checks, to depend on.
    """
    return check((value >= 0.0) & (value <= 1.0), f"{name} is ", value, ", it must be in [0, 1]")


def check_size(sides: tf.Tensor, where: str | tf.Tensor, max_pixels: int) -> tf.Operation:
    """Refuses a picture without pixels or with too many.

    Args:
        sides: int [2], height and width, pixels.
        where: which picture, for the message.
        max_pixels: most pixels that it may have.

    Returns:
        The operation that checks, to depend on.
    """
    height, width = tf.unstack(tf.cast(sides, tf.int64), num=2)
    fits = (height >= 1) & (width >= 1) & (height * width <= max_pixels)
    limit = f" pixels, this model takes 1 to {max_pixels}"
    return check(fits, where, " has ", width, " x ", height, limit)


def decode(
    encoded: tf.Tensor, position: tf.Tensor, name: str, max_batch: int, max_pixels: int
) -> tf.Tensor:
    """Decodes one picture of a request, once its header has been found to be good.

    Args:
        encoded: string scalar, a JPEG or PNG.
        position: int32 scalar, where in the request it stands, 0 <= position < max_batch.
        name: what the signature calls the input.
        max_batch: most pictures of a request.
        max_pixels: most pixels of a picture; larger ones are refused without decoding them.

    Returns:
        uint8 [H, W, 3], as `harmonic_tf.data.images.decoding.decode` gives it.
    """
    where = at(name, position)
    in_node_of_its_own = functools.partial(_in_node_named, name, position, max_batch)
    is_jpeg = tf.io.is_jpeg(encoded)
    is_png = tf.strings.substr(encoded, 0, len(_PNG_START)) == _PNG_START
    is_png &= tf.strings.length(encoded) >= _PNG_SIDES_END

    def jpeg_sides():
        return in_node_of_its_own(lambda: tf.io.extract_jpeg_shape(encoded)[:2])

    def png_sides():
        sides = tf.strings.substr(encoded, len(_PNG_START), 8)
        return tf.io.decode_raw(sides, tf.int32, little_endian=False)[::-1]

    with tf.control_dependencies(
        [
            check(tf.strings.length(encoded) > 0, where, " has no bytes"),
            check(is_jpeg | is_png, where, " is neither a JPEG nor a PNG"),
        ]
    ):
        sides = tf.cond(is_jpeg, jpeg_sides, png_sides)
    with tf.control_dependencies([check_size(sides, where, max_pixels)]):
        encoded = tf.identity(encoded)
    image = in_node_of_its_own(lambda: decoding.decode(encoded))
    return tf.ensure_shape(image, [None, None, 3])


def encoded_in_example(
    example: tf.Tensor, position: tf.Tensor, name: str, max_batch: int
) -> tf.Tensor:
    """The encoded picture of a serialized tf.Example.

    Args:
        example: string scalar.
        position: as in `decode`.
        name: as in `decode`.
        max_batch: as in `decode`.

    Returns:
        String scalar: the feature `image/encoded`, empty where there is none.
    """
    field = tf.io.FixedLenFeature([], tf.string, default_value="")

    def parse():
        return tf.io.parse_single_example(example, {decoding.ENCODED_FIELD: field})

    return _in_node_named(name, position, max_batch, parse)[decoding.ENCODED_FIELD]


def at(name: str, position: tf.Tensor) -> tf.Tensor:
    """An element of an input, for messages: `images[3]`."""
    return tf.strings.join([name, "[", tf.strings.as_string(position), "]"])


def _in_node_named(
    name: str, position: tf.Tensor, max_batch: int, function: Callable[[], tf.Tensor]
) -> tf.Tensor:
    """Calls a function in one node for each position, called `NAME_POSITION_is_damaged`."""

    def branch(number: int):
        with tf.name_scope(f"{name}_{number}_is_damaged"):
            return function()

    branches = [functools.partial(branch, number) for number in range(max_batch)]
    return tf.switch_case(position, branches)


def _as_string(value: tf.Tensor) -> tf.Tensor:
    if value.dtype == tf.string:
        return value
    return tf.strings.as_string(value, shortest=value.dtype.is_floating)

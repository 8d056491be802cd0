"""Geometric transforms of pictures and their boxes."""

from __future__ import annotations

import math

from harmonic_tf.backend import tf, warped
from harmonic_tf.data.pipeline.transforms.common import (
    PADDING_GREY,
    Example,
    clip_objects,
    like,
    look_through,
    to_pixels,
)


def flip_horizontal(example: Example, seed: tf.Tensor, probability: float = 0.5) -> Example:
    """Mirrors left and right, sometimes.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        probability: how often, in [0, 1].

    Returns:
        The Example, mirrored or as it was.
    """
    return _flip(example, seed, probability, axis=1)


def flip_vertical(example: Example, seed: tf.Tensor, probability: float = 0.5) -> Example:
    """Mirrors top and bottom, sometimes: for pictures without an upright, such as micrographs.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        probability: how often, in [0, 1].

    Returns:
        The Example, mirrored or as it was.
    """
    return _flip(example, seed, probability, axis=0)


def _flip(example: Example, seed: tf.Tensor, probability: float, axis: int) -> Example:
    """Mirrors along an axis of the image, sometimes."""

    def mirrored():
        length = tf.cast(tf.shape(image)[axis], tf.float32)
        sides = tf.unstack(boxes, axis=1)
        near, far = 1 - axis, 3 - axis  # x is a box's first coordinate and the image's second axis
        sides[near], sides[far] = length - sides[far], length - sides[near]
        return tf.reverse(image, [axis]), tf.stack(sides, axis=1)

    image, boxes = example["image"], example["boxes"]
    flip = tf.random.stateless_uniform([], seed) < probability
    image, boxes = tf.cond(flip, mirrored, lambda: (image, boxes))
    return {**example, "image": image, "boxes": boxes}


def translate(
    example: Example, seed: tf.Tensor, fraction: float = 0.1, min_area_fraction: float = 0.3
) -> Example:
    """Moves the picture on a grey canvas of its own size, by whole pixels.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        fraction: farthest move either way, as a share of the picture's width and height, in
            [0, 1]; drawn uniformly for each.
        min_area_fraction: objects that keep less than this share of the area they had before are
            dropped, in [0, 1]. An object of which nothing is left always is.

    Returns:
        The Example, moved; boxes are clipped to the canvas.
    """
    size = tf.shape(example["image"])[:2]
    draw = tf.random.stateless_uniform([2], seed, -fraction, fraction)
    moved = look_through(
        example, to_pixels(draw * tf.cast(size, tf.float32)), size, min_area_fraction
    )
    return {**moved, "image": tf.ensure_shape(moved["image"], example["image"].shape)}


def rotate(
    example: Example, seed: tf.Tensor, degrees: float = 10.0, min_area_fraction: float = 0.3
) -> Example:
    """Turns the picture round its centre, on a grey canvas of its own size.

    A box becomes the tight box of its turned corners, so it grows: a square's area by a factor of
    1.37 at 10 degrees.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        degrees: largest turn either way; drawn uniformly.
        min_area_fraction: objects of whose turned box less than this share lies on the canvas are
            dropped, in [0, 1]. An object of which nothing is left always is.

    Returns:
        The Example, turned, with an image of the type and shape it had; boxes are clipped to it.
    """
    most = math.radians(degrees)
    angle = tf.random.stateless_uniform([], seed, -most, most)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _warp(example, tf.stack([[cos, -sin], [sin, cos]]), min_area_fraction)


def shear(
    example: Example, seed: tf.Tensor, degrees: float = 5.0, min_area_fraction: float = 0.3
) -> Example:
    """Slants the picture round its centre, on a grey canvas of its own size.

    Uprights and levels are slanted by an angle each. A box becomes the tight box of its slanted
    corners.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        degrees: largest slant either way, below 45; drawn uniformly for each of the two.
        min_area_fraction: objects of whose slanted box less than this share lies on the canvas are
            dropped, in [0, 1]. An object of which nothing is left always is.

    Returns:
        The Example, slanted, with an image of the type and shape it had; boxes are clipped to it.
    """
    most = math.radians(degrees)
    upright, level = tf.unstack(tf.tan(tf.random.stateless_uniform([2], seed, -most, most)))
    return _warp(example, tf.stack([[1.0, upright], [level, 1.0]]), min_area_fraction)


def _warp(example: Example, matrix: tf.Tensor, min_area_fraction: float) -> Example:
    """Maps a picture and its boxes by a matrix [2, 2] of offsets (x, y) from its centre."""
    image, boxes = example["image"], example["boxes"]
    size = tf.cast(tf.shape(image)[1::-1], tf.float32)  # width, height

    # The image is asked, for each new pixel, for the old one; there a pixel's centre is a whole
    # number, so that the picture's centre is at (size - 1) / 2. In boxes it is at size / 2.
    back = tf.linalg.inv(matrix)
    middle = (size - 1.0) / 2.0
    shift = middle - tf.linalg.matvec(back, middle)
    rows = tf.reshape(tf.concat([back, shift[:, None]], axis=1), [6])
    # In float32: of integers, fractions of levels would be cut off.
    pixels = warped(tf.cast(image, tf.float32), rows, float(PADDING_GREY))
    image = like(tf.ensure_shape(pixels, image.shape), image)

    corners = tf.reshape(tf.gather(boxes, [0, 1, 2, 1, 0, 3, 2, 3], axis=1), [-1, 4, 2])
    corners = tf.linalg.matvec(matrix, corners - size / 2.0) + size / 2.0
    boxes = tf.concat([tf.reduce_min(corners, axis=1), tf.reduce_max(corners, axis=1)], axis=1)
    return clip_objects({**example, "image": image, "boxes": boxes}, min_area_fraction)

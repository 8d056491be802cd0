"""Transforms of what pictures look like; boxes stay where they are."""

from __future__ import annotations

import math

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.boxes import area
from harmonic_tf.data.pipeline.transforms.common import (
    PADDING_GREY,
    Example,
    keep_objects,
    like,
)

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_RGB_TO_YIQ = np.stack([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # NTSC, 1953
# Colour matrices for pixels as columns: their luma; what that leaves, the chroma; and the chroma
# turned by 90 degrees in the IQ plane, which keeps the luma as it is.
_TO_LUMA = np.tile(_LUMA, (3, 1))
_TO_CHROMA = np.eye(3) - _TO_LUMA
_QUARTER_TURN = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])
_TO_TURNED_CHROMA = np.linalg.inv(_RGB_TO_YIQ) @ _QUARTER_TURN @ _RGB_TO_YIQ


def jitter_colors(
    example: Example,
    seed: tf.Tensor,
    brightness: float = 16.0,
    contrast: float = 0.25,
    saturation: float = 0.25,
    hue: float = 9.0,
) -> Example:
    """Photometric jitter: brightness, contrast, saturation and hue as one affine map of colours.

    Each is drawn uniformly from its range. Contrast pivots on `PADDING_GREY`; hue turns and
    saturation scales the chroma in the YIQ space, which leaves the luma as it is. The default
    ranges are half of SSD's (a quarter for the hue), where each change happens to every other
    picture only. A picture that has its padding already gets it jittered along.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        brightness: largest shift either way, in levels of 0..255.
        contrast: largest relative change either way, in [0, 1].
        saturation: largest relative change either way, in [0, 1].
        hue: largest turn either way, degrees.

    Returns:
        The Example with a float32 image, values clipped to 0..255.

    Source: ranges from Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, and its code;
        the matrices from Haeberli, "Matrix Operations for Image Processing", 1993.
    """
    image = tf.cast(example["image"], tf.float32)
    most = tf.constant([brightness, contrast, saturation, hue * np.pi / 180], tf.float32)
    shift, contrast_by, saturation_by, turn = tf.unstack(
        tf.random.stateless_uniform([4], seed, -1.0, 1.0) * most
    )
    matrix = tf.constant(_TO_LUMA, tf.float32) + (1.0 + saturation_by) * (
        tf.cos(turn) * tf.constant(_TO_CHROMA, tf.float32)
        + tf.sin(turn) * tf.constant(_TO_TURNED_CHROMA, tf.float32)
    )
    pixels = tf.matmul(tf.reshape(image, [-1, 3]), (1.0 + contrast_by) * matrix, transpose_b=True)
    pixels = tf.clip_by_value(pixels + (shift - contrast_by * PADDING_GREY), 0.0, 255.0)
    return {**example, "image": tf.reshape(pixels, tf.shape(image))}


def blur(
    example: Example, seed: tf.Tensor, probability: float = 0.5, max_sigma: float = 1.5
) -> Example:
    """Gaussian blur, sometimes.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        probability: how often, in [0, 1].
        max_sigma: largest standard deviation, pixels, > 0; drawn uniformly from 0 on. The kernel
            reaches 3 of these to either side; at the picture's edges it takes what there is.

    Returns:
        The Example, blurred or as it was, with an image of the type it had.
    """

    def blurred():
        reach = math.ceil(3.0 * max_sigma)
        offsets = tf.range(-reach, reach + 1, dtype=tf.float32)
        kernel = tf.nn.softmax(-tf.square(offsets / sigma) / 2.0)
        return like(_smooth(tf.cast(image, tf.float32), kernel), image)

    image = example["image"]
    draw, sigma = tf.unstack(tf.random.stateless_uniform([2], seed))
    sigma = (1.0 - sigma) * max_sigma  # above 0
    return {**example, "image": tf.cond(draw < probability, blurred, lambda: image)}


def _smooth(pixels: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Filters float32 [H, W, 3] along both axes; a diagonal kernel runs faster than depthwise."""
    pixels = pixels[None]
    for axis in (1, 2):
        taps = tf.reshape(kernel, [-1, 1, 1, 1] if axis == 1 else [1, -1, 1, 1])
        inside = tf.ones_like(pixels[:, :, :1, :1] if axis == 1 else pixels[:, :1, :, :1])
        filtered = tf.nn.conv2d(pixels, taps * tf.eye(3), 1, "SAME")
        pixels = filtered / tf.nn.conv2d(inside, taps, 1, "SAME")
    return pixels[0]


def cutout(
    example: Example,
    seed: tf.Tensor,
    count: int = 3,
    fraction: float = 0.15,
    min_area_fraction: float = 0.3,
) -> Example:
    """Hides parts of the picture behind grey squares, so that objects are known by their rests.

    The squares' centres lie anywhere in the picture, as in the paper: a square may hang over the
    edge, or over another. The paper's one square of half the picture's side suits pictures of one
    object; the defaults here are smaller and more.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        count: number of squares.
        fraction: side of a square as a share of the picture's shorter side, in [0, 1].
        min_area_fraction: objects of whose box less than this share stays in sight are dropped, in
            [0, 1]; one that is hidden altogether always is. The boxes of the others stay whole.

    Returns:
        The Example with an image of the type it had.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
        Cutout", arXiv 1708.04552.
    """
    image, boxes = example["image"], example["boxes"]
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    side = tf.round(fraction * tf.reduce_min(size))
    start = tf.round(tf.random.stateless_uniform([count, 2], seed) * size - side / 2.0)  # y, x

    def inside(axis):
        """Which rows, or columns, each square takes: [count, length]."""
        pixels, first = tf.range(size[axis]), start[:, axis, None]
        return tf.cast((pixels >= first) & (pixels < first + side), tf.float32)

    def share(axis):
        """How much of each row's height, or column's width, each box takes: [N, length]."""
        pixels, near, far = tf.range(size[axis]), boxes[:, 1 - axis, None], boxes[:, 3 - axis, None]
        return tf.clip_by_value(tf.minimum(far, pixels + 1.0) - tf.maximum(near, pixels), 0.0, 1.0)

    hidden = tf.matmul(inside(0), inside(1), transpose_a=True) > 0.0
    grey = tf.cast(PADDING_GREY, image.dtype)
    image = tf.where(hidden[..., None], grey, image)
    in_sight = tf.reduce_sum(tf.matmul(share(0), tf.cast(~hidden, tf.float32)) * share(1), axis=1)
    keep = (in_sight > 0.0) & (in_sight >= min_area_fraction * area(boxes))
    return keep_objects({**example, "image": image}, keep)

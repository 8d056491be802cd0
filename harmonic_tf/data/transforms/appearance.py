"""Transforms of what pictures look like; boxes stay."""

from __future__ import annotations

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.data.transforms.common import PADDING_GREY, Example

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

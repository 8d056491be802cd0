"""Boxes as distances of their four sides from the centre of a grid cell, in strides.

That is what YOLOv8 predicts, each distance as a distribution over whole numbers. A cell is given as
its square, [4] as xyxy in pixels: its centre is where distances start, its side their unit.

Source: arXiv 2006.04388 for the distributions; keras-cv's YOLOV8Detector, whose network this fits.
"""

from __future__ import annotations

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import tf

# The cells of P3 to P5; as anchors they are squares of their stride.
CELLS = AnchorGrid(
    strides=(8, 16, 32), sizes=(8.0, 16.0, 32.0), scales=(1.0,), aspect_ratios=(1.0,)
)

# Each distance is a distribution over 0 to BINS - 1, as in keras-cv's head of 64 channels.
BINS = 16


def centers_of(cells: tf.Tensor) -> tf.Tensor:
    """Centres of cells: [A, 4] xyxy to [A, 2] as x, y, pixels."""
    return (cells[:, :2] + cells[:, 2:]) / 2.0


def encode_distances(boxes: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Distances of boxes' sides from their cells: what a head learns to predict.

    Args:
        boxes: float [..., A, 4], xyxy, pixels.
        cells: float [A, 4], xyxy, pixels.

    Returns:
        Float [..., A, 4], left, top, right, bottom in strides; cut to [0, BINS - 1], the range
        that can be predicted.
    """
    centers, strides = centers_of(cells), cells[:, 2:] - cells[:, :2]
    left_top = (centers - boxes[..., :2]) / strides
    right_bottom = (boxes[..., 2:] - centers) / strides
    return tf.clip_by_value(tf.concat([left_top, right_bottom], axis=-1), 0.0, BINS - 1.0)


def decode_distances(distances: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Boxes that distances lead to: the inverse of `encode_distances`.

    Args:
        distances: float [..., A, 4], left, top, right, bottom in strides.
        cells: float [A, 4], xyxy, pixels.

    Returns:
        Float [..., A, 4], xyxy, pixels; not clipped to a picture.
    """
    centers, strides = centers_of(cells), cells[:, 2:] - cells[:, :2]
    left_top = centers - distances[..., :2] * strides
    right_bottom = centers + distances[..., 2:] * strides
    return tf.concat([left_top, right_bottom], axis=-1)


def mean_distances(bins: tf.Tensor) -> tf.Tensor:
    """Means of the predicted distributions.

    Args:
        bins: float [..., BINS], logits.

    Returns:
        Float [...] in [0, BINS - 1].
    """
    numbers = tf.range(BINS, dtype=bins.dtype)
    return tf.reduce_sum(tf.nn.softmax(bins) * numbers, axis=-1)

"""Geometric transforms of pictures and their boxes."""

from __future__ import annotations

from harmonic_tf.backend import tf
from harmonic_tf.data.transforms.common import Example


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

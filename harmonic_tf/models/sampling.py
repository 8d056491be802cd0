"""Which candidates of a picture are learned: a few, drawn at random, so many of them positive.

What is drawn follows from the picture's objects and the number of the step alone, in integer
arithmetic. So it is the same on whichever replica and in whichever micro-batch a picture lands,
with XLA or without, and in a training that was resumed.
"""

from __future__ import annotations

from harmonic_tf.backend import tf

# Odd constants that spread what they multiply over all bits: those of MurmurHash3's finalizer, and
# the golden ratio.
_MIX = (0x85EBCA6B, 0xC2B2AE35)
_GOLDEN = 0x9E3779B9


def _mixed(x: tf.Tensor) -> tf.Tensor:
    """Integers that look random, each from its own: uint32 to uint32, one to one.

    Source: Appleby, MurmurHash3, https://github.com/aappleby/smhasher, `fmix32`.
    """
    for shift, factor in ((16, _MIX[0]), (13, _MIX[1]), (16, 1)):
        shift = tf.constant(shift, tf.uint32)
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, shift))
        x *= tf.constant(factor, tf.uint32)
    return x


def random_ranks(
    boxes: tf.Tensor, classes: tf.Tensor, step: tf.Tensor, count: int | tf.Tensor
) -> tf.Tensor:
    """A random number for each candidate of each picture.

    Args:
        boxes: float32 [B, M, 4], of the objects, in any format and unit.
        classes: int [B, M], -1 for padding, which makes no difference.
        step: integer scalar; other steps draw other numbers.
        count: number of candidates A.

    Returns:
        Float32 [B, A] in [0, 1), multiples of 2**-22.
    """
    place = tf.range(tf.shape(boxes)[1] * 4)
    odd = tf.cast(2 * tf.reshape(place, [-1, 4]) + 1, tf.uint32)
    bits = tf.bitcast(tf.cast(boxes, tf.float32), tf.uint32)
    real = tf.cast(classes >= 0, tf.uint32)[..., None]
    keys = tf.reduce_sum(_mixed(bits * odd) * real, axis=[1, 2])
    keys = _mixed(keys + _mixed(tf.cast(step, tf.uint32)))
    index = tf.cast(tf.range(count), tf.uint32) * tf.constant(_GOLDEN, tf.uint32)
    numbers = tf.bitwise.right_shift(_mixed(keys[:, None] + index), tf.constant(10, tf.uint32))
    return tf.cast(numbers, tf.float32) * 2.0**-22


def sample(
    positive: tf.Tensor,
    negative: tf.Tensor,
    ranks: tf.Tensor,
    count: int,
    most_positive: int,
    fill: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws candidates of every picture: positive ones up to a number, negative ones for the rest.

    Args:
        positive: bool [B, A].
        negative: bool [B, A]; what is neither is never drawn.
        ranks: float32 [B, A] in [0, 1): of equals, the greatest are drawn.
        count: how many are drawn, at most A.
        most_positive: how many of them are positive at most.
        fill: whether more positive ones are drawn where negative ones are too few.

    Returns:
        Index int32 [B, count]; and bool [B, count], False where there was none to draw.
    """
    positives, negatives = (
        tf.math.top_k(tf.where(kind, ranks, -1.0), count) for kind in (positive, negative)
    )
    # In the order in which they are taken: positive, negative, positive beyond their number.
    first, second, third, never = 3.0, 2.0, 1.0, -3.0
    of_positives = tf.where(tf.range(count) < most_positive, first, third if fill else never)
    keys = tf.concat(
        [
            tf.where(kind.values >= 0.0, kind.values + order, never)
            for kind, order in ((positives, of_positives), (negatives, second))
        ],
        axis=1,
    )
    indices = tf.concat([positives.indices, negatives.indices], axis=1)
    chosen = tf.math.top_k(keys, count)
    return tf.gather(indices, chosen.indices, batch_dims=1), chosen.values > 0.0

"""Features of regions: what a pyramid has to say about boxes, on a grid of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf

# Side of a region in strides of the level that it is read from, at least: 56 px on the level of
# stride 4, arXiv 1612.03144, equation 1.
_SIDE_IN_STRIDES = 14.0


def level_of(rois: tf.Tensor, strides: Sequence[int]) -> tf.Tensor:
    """The level that each region is read from: the larger, the coarser.

    Args:
        rois: float32 [..., 4], xyxy, pixels.
        strides: of the levels, pixels, each twice the one before.

    Returns:
        Int32 [...]: `floor(log2(side / (14 strides[0])))` with the root of the area as side, at
        least 0 and at most the last.

    Source: Lin et al., arXiv 1612.03144, equation 1.
    """
    side = tf.sqrt(tf.maximum(box_ops.area(rois), box_ops.MIN_AREA))
    # Counted, not by a logarithm, whose last bit differs from device to device.
    borders = tf.constant([_SIDE_IN_STRIDES * stride for stride in strides[1:]], tf.float32)
    return tf.reduce_sum(tf.cast(side[..., None] >= borders, tf.int32), axis=-1)


def roi_align(
    features: Sequence[tf.Tensor],
    strides: Sequence[int],
    rois: tf.Tensor,
    size: int = 7,
    samples: int = 2,
) -> tf.Tensor:
    """Reads the features of every region on a grid, between places by bilinear interpolation.

    Each of size x size bins is the mean of samples x samples points, spread evenly in it. The
    features of a place belong to its centre; beyond the outermost centres they go on as they are.

    Args:
        features: of the levels, float32 [B, h, w, C], finest first.
        strides: of the levels, pixels, each twice the one before.
        rois: float32 [B, N, 4], xyxy, pixels; no gradient flows through them.
        size: bins per side.
        samples: points per side of a bin.

    Returns:
        Float32 [B, N, size, size, C].

    Source: He et al., "Mask R-CNN", arXiv 1703.06870, section 3.
    """
    rois = tf.stop_gradient(rois)
    level = level_of(rois, strides)
    shapes = [_shape(feature) for feature in features]
    flat = tf.concat([tf.reshape(f, [-1, f.shape[-1]]) for f in features], axis=0)
    heights, widths = (tf.stack([shape[i] for shape in shapes]) for i in (1, 2))
    starts = tf.cumsum([b * h * w for b, h, w in shapes], exclusive=True)
    height, width, start = (tf.gather(v, level)[..., None] for v in (heights, widths, starts))
    picture = tf.range(tf.shape(rois)[0])[:, None, None]
    start += picture * height * width
    stride = tf.gather(tf.constant(strides, tf.float32), level)[..., None]

    low, high = rois[..., :2] / stride, rois[..., 2:] / stride
    rows, columns = (
        _taps(low[..., axis, None], high[..., axis, None], extent, size, samples)
        for axis, extent in ((1, height), (0, width))
    )
    taps = []
    for row, row_weight in rows:
        for column, column_weight in columns:
            index = (start + row * width)[..., :, None] + column[..., None, :]
            weight = row_weight[..., :, None] * column_weight[..., None, :]
            taps.append(tf.gather(flat, index) * weight[..., None])
    return tf.add_n(taps)


def _taps(low: tf.Tensor, high: tf.Tensor, extent: tf.Tensor, size: int, samples: int):
    """Along one axis: the places that each bin reads, and how much of each; [B, N, size] each."""
    pairs = []
    last = tf.cast(extent - 1, tf.float32)
    for sample in range(samples):
        steps = (np.arange(size) + (sample + 0.5) / samples) / size
        points = low + (high - low) * tf.constant(steps, tf.float32)
        position = tf.clip_by_value(points - 0.5, 0.0, last)
        before = tf.floor(position)
        rest = position - before
        after = tf.minimum(before + 1.0, last)
        pairs += [
            (tf.cast(before, tf.int32), (1.0 - rest) / samples),
            (tf.cast(after, tf.int32), rest / samples),
        ]
    return pairs


def _shape(feature: tf.Tensor) -> list[int | tf.Tensor]:
    """Number of pictures, height and width, as far as possible in numbers."""
    dynamic = tf.shape(feature)
    return [feature.shape[i] or dynamic[i] for i in range(3)]


@keras.saving.register_keras_serializable(package="harmonic_tf")
class RoiAlign(keras.layers.Layer):
    """`roi_align` as a layer, in float32 whatever the precision of the layers before.

    Args:
        strides: of the levels, pixels.
        size: bins per side.
        samples: points per side of a bin.
    """

    def __init__(self, strides: Sequence[int], size: int = 7, samples: int = 2, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.strides = tuple(strides)
        self.size = size
        self.samples = samples

    def call(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Reads the features.

        Args:
            inputs: `features`, a list of [B, h, w, C], and `rois` [B, N, 4].

        Returns:
            Float32 [B, N, size, size, C].
        """
        features = [tf.cast(feature, tf.float32) for feature in inputs["features"]]
        rois = tf.cast(inputs["rois"], tf.float32)
        return roi_align(features, self.strides, rois, self.size, self.samples)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"strides": list(self.strides), "size": self.size, "samples": self.samples}
        return {**super().get_config(), **own}

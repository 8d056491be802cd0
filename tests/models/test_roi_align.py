"""RoIAlign against plain bilinear interpolation, point by point."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.models.roi_align import RoiAlign, level_of, roi_align

RNG = np.random.default_rng(3)
STRIDES = (8, 16, 32)
SIDE = 256
ROIS = np.array(
    [
        [[0, 0, 256, 256], [3.7, 5.1, 40.2, 90.9], [250, 250, 256, 256], [10, 10, 10, 10]],
        [[0, 0, 230, 225], [100, 20, 101, 200], [0, 0, 256, 1], [17, 33, 200, 250]],
    ],
    np.float32,
)


def features(channels=3, pictures=2):
    sides = [SIDE // stride for stride in STRIDES]
    return [RNG.normal(size=(pictures, s, s, channels)).astype(np.float32) for s in sides]


def interpolated(feature, y, x):
    """The value at a place in cells, whose centres are whole numbers."""
    y, x = (min(max(v, 0.0), n - 1.0) for v, n in zip((y, x), feature.shape))
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, feature.shape[0] - 1), min(x0 + 1, feature.shape[1] - 1)
    above = feature[y0, x0] * (1 - x + x0) + feature[y0, x1] * (x - x0)
    below = feature[y1, x0] * (1 - x + x0) + feature[y1, x1] * (x - x0)
    return above * (1 - y + y0) + below * (y - y0)


def by_numpy(levels, rois, size, samples):
    pictures, count = rois.shape[:2]
    found = np.zeros((pictures, count, size, size, levels[0].shape[-1]))
    for i, j in np.ndindex(pictures, count):
        x1, y1, x2, y2 = rois[i, j].astype(np.float64)
        side = np.sqrt((x2 - x1) * (y2 - y1))
        level = 0 if side == 0 else int(np.clip(np.floor(np.log2(side / 112)), 0, 2))
        stride, feature = STRIDES[level], levels[level][i].astype(np.float64)
        for row, column in np.ndindex(size, size):
            for a, b in np.ndindex(samples, samples):
                y = y1 + (row + (a + 0.5) / samples) * (y2 - y1) / size
                x = x1 + (column + (b + 0.5) / samples) * (x2 - x1) / size
                value = interpolated(feature, y / stride - 0.5, x / stride - 0.5)
                found[i, j, row, column] += value / samples**2
    return found


@pytest.mark.parametrize("size, samples", [(7, 2), (3, 1)])
def test_roi_align_is_bilinear_interpolation(size, samples):
    levels = features()
    expected = by_numpy(levels, ROIS, size, samples)
    arguments = [tf.constant(level) for level in levels], STRIDES, tf.constant(ROIS), size, samples
    np.testing.assert_allclose(roi_align(*arguments), expected, atol=1e-4)
    compiled = tf.function(lambda: roi_align(*arguments), jit_compile=True)
    np.testing.assert_allclose(compiled(), expected, atol=1e-4)


def test_the_gradient_is_the_transpose():
    """What is linear in the features has <g, A f> = <A' g, f>."""
    levels = [tf.constant(level) for level in features()]
    with tf.GradientTape() as tape:
        tape.watch(levels)
        found = roi_align(levels, STRIDES, tf.constant(ROIS))
        upstream = tf.constant(RNG.normal(size=found.shape), tf.float32)
        product = tf.reduce_sum(found * upstream)
    transposed = tape.gradient(product, levels)
    total = sum(np.sum(g * f) for g, f in zip(transposed, levels))
    np.testing.assert_allclose(product, total, rtol=1e-4)


def test_the_larger_a_roi_the_coarser_its_level():
    # Equation 1 of arXiv 1612.03144, where a side of 224 is on the level of stride 16.
    sides = np.array([1, 50, 111, 112, 200, 223, 224, 300, 447, 448, 900], np.float32)
    rois = np.stack([np.zeros_like(sides)] * 2 + [sides] * 2, axis=-1)
    expected = np.clip(np.floor(4 + np.log2(sides / 224)), 2, 5) - 2
    np.testing.assert_array_equal(level_of(tf.constant(rois), (4, 8, 16, 32)), expected)


def test_sizes_known_late_make_no_difference():
    levels = [tf.constant(level) for level in features()]
    open_spec = [tf.TensorSpec([None, None, None, 3])] * 3
    late = tf.function(
        lambda levels, rois: roi_align(levels, STRIDES, rois),
        input_signature=[open_spec, tf.TensorSpec([None, None, 4])],
    )
    expected = roi_align(levels, STRIDES, tf.constant(ROIS))
    np.testing.assert_allclose(late(levels, tf.constant(ROIS)), expected, atol=1e-5)


def test_layer_of_roi_align_computes_in_float32_and_is_serialized():
    levels = [tf.constant(level, tf.bfloat16) for level in features()]
    layer = RoiAlign(STRIDES, size=3, samples=1)
    found = layer({"features": levels, "rois": tf.constant(ROIS)})
    assert found.dtype == tf.float32
    exact = by_numpy([level.numpy().astype(np.float32) for level in levels], ROIS, 3, 1)
    np.testing.assert_allclose(found, exact, atol=1e-4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()

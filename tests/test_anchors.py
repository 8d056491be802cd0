"""Anchor geometry, against keras-cv's generator and by its own identities."""

import numpy as np
import pytest

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras_cv


@pytest.mark.parametrize("height, width", [(128, 128), (96, 160), (100, 70)])
def test_same_boxes_as_keras_cv(height, width):
    grid = AnchorGrid(sizes=(16, 32, 64, 128, 256), aspect_ratios=(0.5, 1.0, 3.0))
    theirs = keras_cv.layers.AnchorGenerator(
        "xyxy",
        sizes=[float(size) for size in grid.sizes],
        scales=list(grid.scales),
        aspect_ratios=list(grid.aspect_ratios),
        strides=list(grid.strides),
    )(image_shape=(height, width, 3))
    expected = np.concatenate([boxes.numpy() for boxes in theirs.values()])
    np.testing.assert_allclose(grid.boxes(height, width), expected, atol=1e-3)


def test_shape_areas_and_ratios():
    grid = AnchorGrid(strides=(32,), sizes=(40,), scales=(1.0, 2.0), aspect_ratios=(0.5, 2.0))
    boxes = grid.boxes(64, 96).reshape(2 * 3, grid.per_cell, 4)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    np.testing.assert_allclose(width * height, np.tile([1600, 1600, 6400, 6400], (6, 1)), rtol=1e-5)
    np.testing.assert_allclose(width / height, np.tile([0.5, 2.0, 0.5, 2.0], (6, 1)), rtol=1e-5)
    centers = (boxes[:, 0, :2] + boxes[:, 0, 2:]) / 2
    np.testing.assert_allclose(centers, [(x, y) for y in (16, 48) for x in (16, 48, 80)], atol=1e-4)


def test_config_round_trip():
    grid = AnchorGrid(sizes=(16, 32, 64, 128, 256))
    assert AnchorGrid(**grid.get_config()) == grid


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"sizes": (1, 2)}, "one size per stride"),
        ({"scales": ()}, "scales must be"),
        ({"aspect_ratios": (1.0, -1.0)}, "aspect_ratios must be"),
    ],
)
def test_nonsense_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        AnchorGrid(**arguments)

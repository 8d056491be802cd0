"""How well a grid covers boxes, against laying the whole grid out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf import boxes as box_ops
from harmonic_tf.anchors import AnchorGrid, best_iou, cells_inside, iou, suggest_grid

sides = st.integers(20, 200)
boxes_anywhere = st.lists(
    st.tuples(st.floats(-20, 220), st.floats(-20, 220), st.floats(0.5, 150), st.floats(0.5, 150)),
    min_size=1,
    max_size=8,
).map(lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32))


def random_boxes(count, sizes, ratios=(1.0, 1.0), size=512, seed=0):
    rng = np.random.default_rng(seed)
    area_root = np.exp(rng.uniform(*np.log(sizes), count))
    ratio = np.sqrt(np.exp(rng.uniform(*np.log(ratios), count)))
    wh = np.stack([area_root * ratio, area_root / ratio], axis=1)
    corner = rng.uniform(0, 1, (count, 2)) * (size - wh)
    return np.concatenate([corner, corner + wh], axis=1)


@settings(deadline=None, max_examples=30)
@given(boxes_anywhere, boxes_anywhere)
def test_iou_is_that_of_the_tensor_functions(a, b):
    expected = box_ops.iou(a[:, None], b[None]).numpy()
    np.testing.assert_allclose(iou(a[:, None], b[None]), expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(boxes_anywhere, sides, sides)
def test_best_iou_is_the_greatest_of_all_anchors(boxes, height, width):
    grid = AnchorGrid(
        strides=(8, 32), sizes=(10, 50), scales=(1.0, 1.5), aspect_ratios=(0.4, 1.0, 3.0)
    )
    everywhere = iou(boxes[:, None], grid.boxes(height, width)[None])
    np.testing.assert_allclose(
        best_iou(grid, boxes, height, width), everywhere.max(axis=1), atol=1e-6
    )


def test_an_anchor_matches_itself():
    grid = AnchorGrid()
    anchors = grid.boxes(64, 96)
    np.testing.assert_allclose(best_iou(grid, anchors, 64, 96), 1.0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(boxes_anywhere, sides, sides)
def test_cells_inside_are_the_centres_inside(boxes, height, width):
    counts = cells_inside((8, 16), boxes, height, width)
    for column, stride in enumerate((8, 16)):
        cells = AnchorGrid((stride,), (stride,), (1.0,), (1.0,)).boxes(height, width)
        centers = (cells[None, :, :2] + cells[None, :, 2:]) / 2
        inside = (centers > boxes[:, None, :2]) & (centers < boxes[:, None, 2:])
        np.testing.assert_array_equal(counts[:, column], inside.all(axis=-1).sum(axis=1))


def test_a_centre_on_the_border_is_not_inside():
    boxes = [[4, 0, 12, 8], [3.9, 0, 12.1, 8], [5, 0, 11, 8]]  # centres at 4, 12 and 20; 4
    np.testing.assert_array_equal(cells_inside((8,), boxes, 24, 24), [[0], [2], [0]])


def test_small_boxes_get_small_anchors():
    boxes = random_boxes(400, sizes=(10, 20))
    grid = AnchorGrid()
    found = suggest_grid(grid, boxes, 512, 512)
    matched = [np.mean(best_iou(g, boxes, 512, 512) >= 0.5) for g in (grid, found)]
    assert matched[0] < 0.1
    assert matched[1] > matched[0] + 0.5
    assert min(found.sizes) < 20


def test_long_boxes_get_long_anchors():
    boxes = random_boxes(400, sizes=(60, 200), ratios=(4.0, 6.0), size=1024)
    grid = AnchorGrid()
    found = suggest_grid(grid, boxes, 1024, 1024)
    assert max(found.aspect_ratios) > 3
    assert (
        best_iou(found, boxes, 1024, 1024).mean() > best_iou(grid, boxes, 1024, 1024).mean() + 0.1
    )


@settings(deadline=None, max_examples=5)
@given(st.floats(5, 100), st.floats(1.1, 4), st.integers(0, 9))
def test_a_suggestion_costs_the_same_and_is_never_worse(smallest, spread, seed):
    boxes = random_boxes(60, sizes=(smallest, smallest * spread), ratios=(0.3, 3.0), seed=seed)
    grid = AnchorGrid(strides=(8, 16), sizes=(20, 70), scales=(1.0, 1.4), aspect_ratios=(1.0, 2.0))
    found = suggest_grid(grid, boxes, 512, 512, 0.6)
    assert found.strides == grid.strides and found.per_cell == grid.per_cell
    percent = [round(100 * np.mean(best_iou(g, boxes, 512, 512) >= 0.6)) for g in (grid, found)]
    assert percent[1] >= percent[0]


def test_what_fits_already_is_kept():
    grid = AnchorGrid()
    anchors = grid.boxes(256, 256)
    assert suggest_grid(grid, anchors[:: len(anchors) // 300], 256, 256) is grid
    assert suggest_grid(grid, np.zeros((0, 4)), 256, 256) is grid


@pytest.mark.parametrize(
    "function", [best_iou, lambda g, b, h, w: cells_inside(g.strides, b, h, w)]
)
def test_no_boxes(function):
    assert len(function(AnchorGrid(), np.zeros((0, 4)), 64, 64)) == 0

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.evaluation.metrics.matching import (
    best_objects,
    pairwise_coverage,
    pairwise_iou,
)

corner = st.integers(-5, 15)
boxes = st.lists(st.tuples(corner, corner, corner, corner), max_size=6).map(
    lambda rows: np.array(rows, np.float32).reshape(-1, 4)
)


def cells(box):
    """The unit squares that an integer box covers."""
    x1, y1, x2, y2 = (int(value) for value in box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@settings(deadline=None, max_examples=40)
@given(boxes, boxes)
def test_overlaps_count_cells(a, b):
    iou, coverage = pairwise_iou(a, b), pairwise_coverage(a, b)
    assert iou.shape == coverage.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            shared, either = cells(one) & cells(other), cells(one) | cells(other)
            assert iou[i, j] == pytest.approx(len(shared) / max(len(either), 1))
            assert coverage[i, j] == pytest.approx(len(shared) / max(len(cells(one)), 1))
    np.testing.assert_array_equal(iou.T, pairwise_iou(b, a))


@pytest.mark.parametrize("seed", range(10))
def test_best_objects_against_a_loop(scene, seed):
    truth, found = scene(seed)
    candidates = ~truth.difficult
    best, rows = best_objects(truth, found, candidates)
    for d, box in enumerate(found.boxes):
        options = [
            (pairwise_iou(box[None], truth.boxes[n][None])[0, 0], n)
            for n in np.flatnonzero(candidates)
            if truth.image_index[n] == found.image_index[d] and truth.classes[n] == found.classes[d]
        ]
        if options:
            first, row = max(options, key=lambda option: (option[0], -option[1]))
            assert (best[d], rows[d]) == (first, row)
        else:
            assert (best[d], rows[d]) == (0, -1)

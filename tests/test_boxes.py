"""Box algebra: identities, bounds, inverses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf

coordinate = st.floats(-500, 500, width=32)
side = st.floats(0.5, 400, width=32)
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]], np.float32)
)


def iou_oracle(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    w, h = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - w * h
    return w * h / union


@settings(deadline=None, max_examples=100)
@given(box, box)
def test_iou_against_numpy_and_its_symmetry(a, b):
    value = box_ops.iou(a, b).numpy()
    np.testing.assert_allclose(value, iou_oracle(a, b), rtol=1e-3, atol=1e-4)
    assert value == box_ops.iou(b, a).numpy()
    assert 0.0 <= value <= 1.0


@settings(deadline=None, max_examples=50)
@given(box)
def test_a_box_overlaps_itself_fully(a):
    for overlap in (box_ops.iou, box_ops.giou, box_ops.ciou):
        np.testing.assert_allclose(overlap(a[None], a[None]), [1.0], atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(box, box)
def test_giou_and_ciou_never_exceed_iou(a, b):
    iou = box_ops.iou(a, b).numpy()
    assert -1.0 - 1e-5 <= box_ops.giou(a, b).numpy() <= iou + 1e-5
    assert box_ops.ciou(a[None], b[None]).numpy()[0] <= iou + 1e-4


@settings(deadline=None, max_examples=100)
@given(box, box)
def test_decode_is_the_inverse_of_encode(a, anchor):
    # Growth beyond MAX_LOG_SCALE is cut on purpose; these sides differ by at most 800.
    sides = (a[2:] - a[:2]) / (anchor[2:] - anchor[:2])
    if np.max(sides) < 1000 / 16:
        decoded = box_ops.decode(box_ops.encode(a, anchor), anchor)
        np.testing.assert_allclose(decoded, a, atol=0.05)


def test_empty_boxes_have_no_overlap_and_no_nan():
    empty = tf.constant([[3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 1.0, 1.0]])
    for overlap in (box_ops.iou, box_ops.giou):
        assert np.all(np.isfinite(overlap(empty, empty)))
    np.testing.assert_array_equal(box_ops.iou(empty, empty), [0.0, 0.0])
    np.testing.assert_array_equal(box_ops.area(empty), [0.0, 0.0])
    assert np.all(np.isfinite(box_ops.encode(empty, empty[::-1])))


def test_decode_stays_finite_for_wild_offsets():
    anchor = tf.constant([[0.0, 0.0, 32.0, 32.0]])
    for value in (-1e4, 1e4):
        decoded = box_ops.decode(tf.fill([1, 4], value), anchor)
        assert np.all(np.isfinite(decoded))


def test_pairwise_iou_holds_every_pair():
    a, b = np.random.default_rng(0).uniform(0, 50, (2, 6, 4)).astype(np.float32)
    a[:, 2:] += a[:, :2]
    b[:, 2:] += b[:, :2]
    table = box_ops.pairwise_iou(a, b[:4])
    assert table.shape == (6, 4)
    for i in range(6):
        for j in range(4):
            np.testing.assert_allclose(table[i, j], iou_oracle(a[i], b[j]), rtol=1e-4, atol=1e-6)


def test_clip_cuts_to_the_picture():
    clipped = box_ops.clip(tf.constant([[-5.0, -5.0, 200.0, 90.0]]), height=80, width=100)
    np.testing.assert_array_equal(clipped, [[0, 0, 100, 80]])


@pytest.mark.parametrize("name", ["xywh", "center_xywh", "yxyx", "rel_xyxy", "rel_yxyx"])
def test_convert_there_and_back(name):
    boxes = tf.constant([[[10.0, 20.0, 50.0, 70.0], [0.0, 0.0, 128.0, 64.0]]])
    there = box_ops.convert(boxes, "xyxy", name, 64, 128)
    back = box_ops.convert(there, name, "xyxy", 64, 128)
    np.testing.assert_allclose(back, boxes, atol=1e-3)
    assert not np.allclose(there, boxes)

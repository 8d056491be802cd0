"""The assigner against a plain NumPy loop, on random boxes and on the hard cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND, IGNORED
from harmonic_tf.models.assignment import assign_anchors, label_boxes

GRID = AnchorGrid(sizes=(8, 16, 32, 64, 128))
ANCHORS = GRID.boxes(64, 64)
XLA_LABELS = tf.function(label_boxes, jit_compile=True)


def iou_table(boxes, anchors):
    boxes, anchors = boxes.astype(np.float32)[:, None], anchors[None]
    size = np.minimum(boxes[..., 2:], anchors[..., 2:]) - np.maximum(
        boxes[..., :2], anchors[..., :2]
    )
    shared = np.prod(np.maximum(size, 0), axis=-1)
    areas = [np.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (boxes, anchors)]
    return shared / (areas[0] + areas[1] - shared)


def oracle(boxes, classes, positive=0.5, negative=0.4):
    """Assigned class per anchor, and the assigned box of positives, by loops."""
    result = np.full(len(ANCHORS), BACKGROUND)
    matched = np.full(len(ANCHORS), -1)
    table = iou_table(boxes, ANCHORS)
    for a in range(len(ANCHORS)):
        if len(boxes):
            best = np.argmax(table[:, a])
            if table[best, a] >= positive:
                result[a], matched[a] = classes[best], best
            elif table[best, a] >= negative:
                result[a] = IGNORED
    taken = set()
    for b in range(len(boxes)):
        order = np.argsort(-table[b], kind="stable")
        a = next(a for a in order if a not in taken)
        taken.add(a)
        result[a], matched[a] = classes[b], b
    return result, matched


corner = st.floats(0, 50, width=32)
side = st.floats(1, 40, width=32)
boxes_strategy = st.lists(st.tuples(corner, corner, side, side), max_size=12).map(
    lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)
)


@settings(deadline=None, max_examples=40)
@given(boxes_strategy)
def test_against_a_plain_loop(boxes):
    classes = np.arange(len(boxes)) % 5
    padded = np.pad(boxes, ((0, 12 - len(boxes)), (0, 0)), constant_values=-1)
    padded_classes = np.pad(classes, (0, 12 - len(boxes)), constant_values=-1)
    assigned, assigned_boxes = assign_anchors(ANCHORS, padded[None], padded_classes[None])
    expected, matched = oracle(boxes, classes)
    np.testing.assert_array_equal(assigned[0], expected)
    positive = expected >= 0
    np.testing.assert_array_equal(assigned_boxes[0][positive], boxes[matched[positive]])
    np.testing.assert_array_equal(assigned_boxes[0][~positive], ANCHORS[~positive])


@settings(deadline=None, max_examples=20)
@given(boxes_strategy)
def test_every_box_gets_an_anchor(boxes):
    classes = np.arange(len(boxes))  # each its own class, so that they can be told apart
    assigned, _ = assign_anchors(ANCHORS, boxes[None], classes[None])
    assert set(classes) <= set(assigned[0].numpy())


@pytest.mark.parametrize(
    "boxes",
    [
        [[20, 20, 40, 40]] * 12,
        [[31, 31, 32, 32]] * 5,
        [[0, 0, 64, 64]],
        [[0, 0, 1, 64], [63, 0, 64, 64]],
    ],
    ids=["identical", "one pixel", "whole picture", "slivers at the border"],
)
def test_hard_boxes_get_an_anchor_each(boxes):
    classes = np.arange(len(boxes))
    assigned, _ = assign_anchors(ANCHORS, np.float32([boxes]), classes[None])
    assert set(classes) <= set(assigned[0].numpy())


def labels_by_loop(candidates, boxes, classes):
    table = iou_table(boxes, candidates)
    result = np.full(len(candidates), BACKGROUND)
    for a in range(len(candidates) if len(boxes) else 0):
        best = np.argmax(table[:, a])
        if table[best, a] >= 0.4:
            result[a] = classes[best] if table[best, a] >= 0.5 else IGNORED
    return result


@settings(deadline=None, max_examples=40)
@given(boxes_strategy, st.integers(0, 99))
def test_boxes_have_the_label_of_what_they_overlap_most_and_nothing_is_claimed(boxes, seed):
    noise = np.random.default_rng(seed).normal(0, 3, (2, *ANCHORS.shape))
    candidates = (ANCHORS + noise).astype(np.float32)
    classes = np.arange(len(boxes)) % 5
    padded = np.pad(boxes, ((0, 12 - len(boxes)), (0, 0)), constant_values=-1)
    padded_classes = np.pad(classes, (0, 12 - len(boxes)), constant_values=-1)
    nothing = np.full_like(padded_classes, -1)
    objects = np.stack([padded, padded]), np.stack([padded_classes, nothing])
    for function in (label_boxes, XLA_LABELS):
        found, empty = function(tf.constant(candidates), *map(tf.constant, objects)).numpy()
        np.testing.assert_array_equal(found, labels_by_loop(candidates[0], boxes, classes))
        assert np.all(empty == BACKGROUND)


@pytest.mark.parametrize("width", [0, 1, 7])
def test_no_ground_truth_is_all_background(width):
    boxes, classes = np.full((2, width, 4), -1.0, np.float32), np.full((2, width), -1)
    assigned, assigned_boxes = assign_anchors(ANCHORS, boxes, classes)
    assert np.all(assigned == BACKGROUND)
    assert np.all(np.isfinite(assigned_boxes))


def test_padding_and_boxes_without_area_are_never_matched():
    boxes = np.float32([[[10, 10, 30, 30], [40, 40, 40, 60], [-1, -1, -1, -1]]])
    assigned, _ = assign_anchors(ANCHORS, boxes, np.array([[2, 3, -1]]))
    alone, _ = assign_anchors(ANCHORS, boxes[:, :1], np.array([[2]]))
    np.testing.assert_array_equal(assigned, alone)


def test_pictures_of_a_batch_do_not_mix():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 30, (3, 6, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2]
    classes = rng.integers(0, 4, (3, 6))
    together, _ = assign_anchors(ANCHORS, boxes, classes)
    for i in range(3):
        alone, _ = assign_anchors(ANCHORS, boxes[i : i + 1], classes[i : i + 1])
        np.testing.assert_array_equal(together[i], alone[0])


def test_compiles_under_xla_with_the_same_result():
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0, 30, (2, 6, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2]
    classes = np.array([[0, 1, 2, 3, -1, -1], [-1] * 6])
    compiled = tf.function(assign_anchors, jit_compile=True)(
        tf.constant(ANCHORS), tf.constant(boxes), tf.constant(classes)
    )
    for a, b in zip(compiled, assign_anchors(ANCHORS, boxes, classes)):
        np.testing.assert_allclose(a, b)

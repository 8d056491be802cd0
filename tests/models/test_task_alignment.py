"""The task-aligned assigner against a plain NumPy loop in float64, and on the hard cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND
from harmonic_tf.models.task_alignment import assign_cells

SIZE, CLASSES, WIDTH = 64, 4, 12
CENTERS = np.concatenate(
    [
        np.stack(np.meshgrid(*[np.arange(stride / 2, SIZE, stride)] * 2), -1).reshape(-1, 2)
        for stride in (8, 16, 32)
    ]
).astype(np.float32)


def ciou(a, b):
    """Zheng et al., arXiv 1911.08287, of one pair of boxes."""
    w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(w, 0) * max(h, 0)
    (wa, ha), (wb, hb) = a[2:] - a[:2], b[2:] - b[:2]
    iou = shared / (wa * ha + wb * hb - shared)
    apart = np.sum(((a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2) ** 2)
    diagonal = np.sum((np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])) ** 2)
    v = 4 / math.pi**2 * (math.atan(wa / ha) - math.atan(wb / hb)) ** 2
    return iou - apart / diagonal - v * v / (1 - iou + v) if v else iou - apart / diagonal


def oracle(boxes, classes, predicted, scores, centers=CENTERS, top_k=10):
    """Class, box index and target score of every cell of one picture, by loops."""
    boxes, predicted, scores = (np.asarray(x, np.float64) for x in (boxes, predicted, scores))
    choices = [[] for _ in centers]  # of each cell: (overlap, box, alignment)
    for b, box in enumerate(boxes):
        candidates = []
        for a, (x, y) in enumerate(centers):
            if box[0] < x < box[2] and box[1] < y < box[3]:
                overlap = max(ciou(box, predicted[a]), 0)
                alignment = scores[a, classes[b]] ** 0.5 * overlap**6
                if alignment > 0:
                    candidates.append((alignment, a, overlap))
        candidates.sort(key=lambda c: (-c[0], c[1]))
        for alignment, a, overlap in candidates[:top_k]:
            choices[a].append((overlap, b, alignment))
    owner, target = np.full(len(centers), -1), np.zeros(len(centers))
    owned = [max(c, key=lambda x: (x[0], -x[1])) if c else None for c in choices]
    for b in range(len(boxes)):
        cells = [a for a, own in enumerate(owned) if own and own[1] == b]
        if cells:
            most_overlap = max(owned[a][0] for a in cells)
            most_aligned = max(owned[a][2] for a in cells)
            for a in cells:
                owner[a], target[a] = b, owned[a][2] / most_aligned * most_overlap
    return np.where(owner >= 0, np.append(classes, BACKGROUND)[owner], BACKGROUND), owner, target


def predictions(seed, boxes=(), centers=CENTERS):
    """Boxes around each cell; half of them near some ground truth, as after some training."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(2, 30, (len(centers), 4))
    predicted = np.concatenate([centers - sides[:, :2], centers + sides[:, 2:]], -1)
    if len(boxes):
        near = np.asarray(boxes)[rng.integers(0, len(boxes), len(centers))]
        near = near + rng.uniform(-0.4, 0.4, (len(centers), 4))
        predicted = np.where(rng.uniform(size=(len(centers), 1)) < 0.5, near, predicted)
    scores = rng.uniform(0.001, 1, (len(centers), CLASSES))
    return predicted.astype(np.float32), scores.astype(np.float32)


def assign(boxes, classes, predicted, scores, centers=CENTERS, function=assign_cells):
    """One picture, padded."""
    room = WIDTH - len(boxes)
    padded = np.pad(np.float32(boxes).reshape(-1, 4), ((0, room), (0, 0)), constant_values=-1)
    padded_classes = np.pad(np.int32(classes), (0, room), constant_values=-1)
    found = function(
        tf.constant(centers), padded[None], padded_classes[None], predicted[None], scores[None]
    )
    return [tensor[0].numpy() for tensor in found]


def assert_as_by_loops(boxes, classes, seed=0, centers=CENTERS):
    boxes, classes = np.float32(boxes).reshape(-1, 4), np.int32(classes)
    predicted, scores = predictions(seed, boxes, centers)
    found_classes, found_boxes, targets = assign(boxes, classes, predicted, scores, centers)
    expected_classes, owner, expected = oracle(boxes, classes, predicted, scores, centers)
    np.testing.assert_array_equal(found_classes, expected_classes)
    np.testing.assert_allclose(targets, expected, rtol=2e-4, atol=1e-6)
    assigned = owner >= 0
    np.testing.assert_array_equal(found_boxes[assigned], boxes[owner[assigned]])
    np.testing.assert_array_equal(found_boxes[~assigned], predicted[~assigned])
    return found_classes, targets


corner = st.integers(0, 50)
side = st.integers(1, 40)
boxes_strategy = st.lists(st.tuples(corner, corner, side, side), max_size=WIDTH).map(
    lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)
)


@settings(deadline=None, max_examples=40)
@given(boxes_strategy, st.integers(0, 2**16))
def test_against_a_plain_loop(boxes, seed):
    assert_as_by_loops(boxes, np.arange(len(boxes)) % CLASSES, seed)


@pytest.mark.parametrize(
    "boxes",
    [
        [[20, 20, 40, 40]] * WIDTH,
        [[31, 31, 32, 32]] * 5,
        [[0, 0, 64, 64]],
        [[0, 0, 1, 64], [63, 0, 64, 64]],
        [[8, 8, 40, 40], [10, 10, 38, 38], [9, 9, 39, 41]],
    ],
    ids=["identical", "one pixel", "whole picture", "slivers at the border", "nested"],
)
def test_hard_boxes_against_a_plain_loop(boxes):
    assert_as_by_loops(boxes, np.arange(len(boxes)) % CLASSES)


def test_more_boxes_than_cells():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (WIDTH, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 40, (WIDTH, 2))], -1)
    classes, _ = assert_as_by_loops(boxes, np.arange(WIDTH) % CLASSES, centers=CENTERS[-4:])
    assert classes.shape == (4,)


def test_a_box_chooses_no_more_than_its_top_cells():
    classes, targets = assert_as_by_loops([[0, 0, 64, 64]], [2])
    assert np.sum(classes == 2) == 10
    np.testing.assert_array_equal(classes >= 0, targets > 0)


@pytest.mark.parametrize("width", [0, 1, 7])
def test_no_ground_truth_is_all_background(width):
    predicted, scores = predictions(0)
    boxes, classes = np.full((1, width, 4), -1.0, np.float32), np.full((1, width), -1)
    found = assign_cells(CENTERS, boxes, classes, predicted[None], scores[None])
    assert np.all(found[0] == BACKGROUND)
    np.testing.assert_array_equal(found[1][0], predicted)
    assert np.all(found[2] == 0)


def test_padding_and_boxes_without_area_are_never_matched():
    predicted, scores = predictions(0, [[10, 10, 30, 30]])
    boxes = [[10, 10, 30, 30], [40, 40, 40, 60], [0, 0, 64, 64], [40, 40, 20, 20]]
    found = assign(boxes, [2, 3, -1, 1], predicted, scores)
    for a, b in zip(found, assign(boxes[:1], [2], predicted, scores)):
        np.testing.assert_array_equal(a, b)


def test_a_negative_ciou_is_no_alignment():
    # Cell 9 of stride 8 is at (12, 12), inside of the box; its prediction overlaps it by 1 pixel
    # and is far off: IoU 1 / (16^2 + 40^2 - 1), the distance penalty is larger, CIoU < 0.
    box = np.float32([4, 4, 20, 20])
    predicted, scores = predictions(0)
    predicted[:] = [19, 19, 59, 59]
    assert ciou(box.astype(np.float64), predicted[9].astype(np.float64)) < 0
    classes, _, targets = assign([box], [1], predicted, scores)
    assert np.all(classes == BACKGROUND)
    assert np.all(targets == 0)


def test_a_cell_that_two_boxes_choose_learns_one_of_them_in_all():
    # The prediction of the cell at (36, 36) is the second box: class, box and score are its.
    boxes = np.float32([[30, 30, 50, 50], [30, 30, 46, 46]])
    predicted, scores = predictions(0)
    predicted[:] = boxes[0] + [10, 10, 10, 10]
    cell = 4 * 8 + 4
    np.testing.assert_array_equal(CENTERS[cell], [36, 36])
    predicted[cell] = boxes[1]
    classes, assigned, targets = assign(boxes, [0, 3], predicted, scores)
    assert classes[cell] == 3
    np.testing.assert_array_equal(assigned[cell], boxes[1])
    np.testing.assert_allclose(targets[cell], 1.0, rtol=1e-5)


def test_pictures_of_a_batch_do_not_mix():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 30, (3, 6, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2] + 1
    classes = rng.integers(0, CLASSES, (3, 6))
    classes[1, 2:] = -1
    predicted, scores = (np.stack(x) for x in zip(*(predictions(i, boxes[i]) for i in range(3))))
    together = assign_cells(CENTERS, boxes, classes, predicted, scores)
    for i in range(3):
        part = slice(i, i + 1)
        alone = assign_cells(CENTERS, *(x[part] for x in (boxes, classes, predicted, scores)))
        for a, b in zip(together, alone):
            np.testing.assert_array_equal(a[i], b[0])


def test_compiles_under_xla_with_the_same_result():
    compiled = tf.function(assign_cells, jit_compile=True)
    rng = np.random.default_rng(1)
    for seed, count in enumerate((0, 1, 6, WIDTH)):
        corners = rng.uniform(0, 40, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(1, 30, (count, 2))], -1)
        classes = rng.integers(0, CLASSES, count)
        inputs = (boxes, classes, *predictions(seed, boxes))
        for a, b in zip(assign(*inputs), assign(*inputs, function=compiled)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_through_the_targets():
    predicted, scores = map(tf.constant, predictions(0, [[10, 10, 30, 30]]))
    with tf.GradientTape() as tape:
        tape.watch([predicted, scores])
        found = assign_cells(CENTERS, [[[10.0, 10, 30, 30]]], [[1]], predicted[None], scores[None])
        total = tf.reduce_sum(found[1]) + tf.reduce_sum(found[2])
    assert tape.gradient(total, [predicted, scores]) == [None, None]

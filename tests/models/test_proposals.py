"""Proposals against NumPy: the best of each level, suppressed, always as many."""

import numpy as np
import pytest

from harmonic_tf.anchors import AnchorGrid, iou
from harmonic_tf.backend import tf
from harmonic_tf.models.proposals import Proposals, anchor_levels

RNG = np.random.default_rng(11)
HEIGHT, WIDTH = 64, 96
GRID = AnchorGrid(strides=(8, 16, 32), sizes=(16, 32, 64), scales=(1.0,))
COUNTS = [8 * 12 * 3, 4 * 6 * 3, 2 * 3 * 3]


def predictions(pictures=2, spread=0.5):
    logits = [RNG.normal(size=(pictures, n, 1)).astype(np.float32) for n in COUNTS]
    offsets = [RNG.normal(0, spread, (pictures, n, 4)).astype(np.float32) for n in COUNTS]
    images = np.zeros((pictures, HEIGHT, WIDTH, 3), np.float32)
    return {"images": images, "logits": logits, "offsets": offsets}


def as_tensors(inputs):
    return tf.nest.map_structure(tf.constant, inputs)


def overlap(box, other):
    """The IoU; boxes that lay outside of the picture are empty and overlap nothing."""
    width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return iou(box, other) if width > 0 and height > 0 else 0.0


def by_numpy(inputs, candidates, count, threshold):
    """Greedy suppression, picture by picture and level by level, in float64."""
    anchors = np.split(GRID.boxes(HEIGHT, WIDTH).astype(np.float64), np.cumsum(COUNTS)[:-1])
    found = []
    for picture in range(len(inputs["images"])):
        looked_at, kept = [], []
        for level, own in enumerate(anchors):
            logits = inputs["logits"][level][picture][:, 0]
            best = np.argsort(-logits, kind="stable")[:candidates]
            offsets = inputs["offsets"][level][picture][best].astype(np.float64)
            sides = own[best, 2:] - own[best, :2]
            centers = (own[best, 2:] + own[best, :2]) / 2 + offsets[:, :2] * sides
            half = np.exp(offsets[:, 2:]) * sides / 2
            boxes = np.concatenate([centers - half, centers + half], axis=1)
            boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            looked_at += list(zip(logits[best], boxes))
            survivors = []
            for score, box in zip(logits[best], boxes):
                if all(overlap(box, other) <= threshold for _, other in survivors):
                    survivors.append((score, box))
            kept += survivors
        ordered = [sorted(boxes, key=lambda pair: -pair[0]) for boxes in (kept, looked_at)]
        kept, again = ([box for _, box in boxes] for boxes in ordered)
        rest = [again[place % len(again)] for place in range(len(kept), count)]
        found.append(kept[:count] + rest)
    return np.array(found)


@pytest.mark.parametrize("candidates, count, threshold", [(40, 30, 0.7), (20, 70, 0.3)])
def test_proposals_are_the_best_of_each_level_that_do_not_overlap(candidates, count, threshold):
    inputs = predictions()
    layer = Proposals(GRID.get_config(), candidates, count, threshold)
    expected = by_numpy(inputs, candidates, count, threshold)
    found = layer(as_tensors(inputs))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(as_tensors(inputs)), expected, atol=1e-3)
    one = tf.nest.map_structure(lambda value: value[:1], inputs)
    np.testing.assert_allclose(layer(as_tensors(one)), expected[:1], atol=1e-3)


def test_proposals_are_as_many_where_all_boxes_are_one():
    inputs = predictions(1, spread=0.0)
    layer = Proposals(GRID.get_config(), candidates=1, count=7)
    found = layer(as_tensors(inputs)).numpy()[0]
    assert found.shape == (7, 4)
    assert len(np.unique(found, axis=0)) == 3  # one of each level, and those once more


def test_proposals_carry_no_gradient():
    inputs = as_tensors(predictions())
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        total = tf.reduce_sum(Proposals(GRID.get_config(), 10, 5)(inputs))
    assert tape.gradient(total, inputs["offsets"]) == [None] * 3


def test_anchors_of_proposals_are_those_of_the_grid_whenever_the_size_is_known():
    for height, width in ((64, 96), (80, 72)):
        expected = GRID.boxes(height, width)
        found = tf.concat(anchor_levels(GRID, height, width), 0)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        late = tf.function(lambda h, w: tf.concat(anchor_levels(GRID, h, w), 0))
        found = late(tf.constant(height), tf.constant(width))
        np.testing.assert_allclose(found, expected, atol=1e-4)

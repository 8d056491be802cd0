"""Which candidates are drawn: how many of which kind, and that nothing but the picture decides."""

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.models.sampling import random_ranks, sample

RNG = np.random.default_rng(5)


def objects(pictures=3, width=4):
    boxes = RNG.uniform(0, 60, (pictures, width, 4)).astype(np.float32)
    return boxes, RNG.integers(0, 3, (pictures, width))


def ranks(boxes, classes, step=0, count=50):
    return random_ranks(tf.constant(boxes), tf.constant(classes), tf.constant(step), count).numpy()


def drawn_by_numpy(positive, negative, rank, count, most_positive, fill):
    """A picture's, one after the other."""
    by_rank = sorted(range(len(rank)), key=lambda i: -rank[i])
    positives, negatives = ([i for i in by_rank if kind[i]] for kind in (positive, negative))
    taken = positives[:most_positive]
    taken += negatives[: count - len(taken)]
    if fill:
        taken += positives[most_positive:][: count - len(taken)]
    return set(taken)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_as_many_of_each_kind_as_asked_for(share, fill):
    kind = RNG.uniform(size=(6, 60))
    positive, negative = kind < share, kind > share + 0.05
    negative[0] = False
    rank = RNG.permutation(60 * 6).reshape(6, 60).astype(np.float32) / 512
    index, drawn = sample(
        *(tf.constant(v) for v in (positive, negative, rank)), count=16, most_positive=4, fill=fill
    )
    for i in range(6):
        expected = drawn_by_numpy(positive[i], negative[i], rank[i], 16, 4, fill)
        found = index[i].numpy()[drawn[i].numpy()]
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_ranks_are_those_of_plain_integers():
    """Once more in Python's integers, which do not wrap around by themselves."""
    boxes, classes = objects(2, 3)
    classes[1, 1] = -1

    def mixed(x):
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            x = ((x ^ (x >> shift)) * factor) % 2**32
        return x

    found = ranks(boxes, classes, step=7, count=5)
    for i in range(2):
        key = 0
        for place, bits in enumerate(boxes[i].view(np.uint32).ravel().tolist()):
            if classes[i, place // 4] >= 0:
                key += mixed(bits * (2 * place + 1) % 2**32)
        key = mixed((key + mixed(7)) % 2**32)
        for j in range(5):
            assert found[i, j] == (mixed((key + j * 0x9E3779B9) % 2**32) >> 10) / 2**22


def test_a_picture_has_the_same_ranks_wherever_it_lands():
    boxes, classes = objects(4)
    alone = ranks(boxes[2:3], classes[2:3])
    wider = np.concatenate([boxes, np.full((4, 3, 4), -1.0, np.float32)], axis=1)
    padded = np.concatenate([classes, np.full((4, 3), -1)], axis=1)
    np.testing.assert_array_equal(ranks(wider, padded)[2:3], alone)
    compiled = tf.function(random_ranks, jit_compile=True)
    arguments = tf.constant(boxes), tf.constant(classes), tf.constant(0)
    np.testing.assert_array_equal(compiled(*arguments, 50)[2:3], alone)


def test_ranks_are_even_and_differ_by_picture_and_by_step():
    boxes, classes = objects(2)
    many = [ranks(boxes, classes, step, 4000) for step in range(2)]
    flat = np.concatenate([m.ravel() for m in many])
    assert flat.min() >= 0 and flat.max() < 1
    counts, _ = np.histogram(flat, 20, (0, 1))
    assert np.all(np.abs(counts - 800) < 5 * np.sqrt(800))
    for one, other in ((many[0][0], many[0][1]), (many[0][0], many[1][0])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(4000)


def test_pictures_without_any_object_are_sampled_too():
    none = np.zeros((2, 0, 4), np.float32), np.zeros((2, 0), np.int64)
    assert ranks(*none).shape == (2, 50)
    assert np.any(ranks(*none) != ranks(*none, step=1))

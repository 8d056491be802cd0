"""Several groups of samples: each loss divided by its own number, all added up."""

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.losses import IGNORED, HarmonicLoss
from harmonic_tf.models.joint.groups import MAIN, GroupedLoss

RNG = np.random.default_rng(4)
FULL = HarmonicLoss()
PLAIN = HarmonicLoss("cross_entropy", coupling=None, task_contrasting=False, iou_loss=None)


def samples(count, classes):
    corners = RNG.uniform(0, 30, (2, 1, count, 2))
    boxes = np.concatenate([corners, corners + 20], axis=-1)
    floats = {"offsets": RNG.normal(size=(2, 1, count, 4)), "boxes": boxes}
    y_true, y_pred = (
        {name: tf.constant(value[side], tf.float32) for name, value in floats.items()}
        for side in range(2)
    )
    y_true["classes"] = tf.constant(RNG.integers(IGNORED, classes, (1, count)))
    y_pred["logits"] = tf.constant(RNG.normal(size=(1, count, classes)), tf.float32)
    return y_true, y_pred


def test_the_loss_is_the_sum_of_each_groups_sum_over_its_number():
    grouped = GroupedLoss({MAIN: FULL, "first": PLAIN})
    batch = {MAIN: samples(20, 3), "first": samples(30, 1)}
    sums = grouped.sums(batch, {})
    counts = {MAIN: tf.constant(16.0), "first": tf.constant(64.0)}
    expected = {name: loss(*batch[name]).numpy() for name, loss in ((MAIN, FULL), ("first", PLAIN))}
    normalizers = grouped.normalizers(sums, counts)
    np.testing.assert_allclose(
        grouped.total(sums, counts) / normalizers[MAIN],
        expected[MAIN] / 16 + expected["first"] / 64,
        rtol=1e-5,
    )
    means = grouped.means(sums, normalizers)
    assert tuple(means) == grouped.term_names
    np.testing.assert_allclose(
        means["first_classification"] + means["first_localization"], expected["first"] / 64, 1e-5
    )
    assert set(grouped.sum_names) == set(sums)


def test_a_single_group_is_divided_by_the_weight_of_its_positives():
    grouped = GroupedLoss({MAIN: FULL})
    sums = grouped.sums({MAIN: samples(20, 3)}, {})
    assert grouped.normalizers(sums, {})[MAIN] == sums["weights"] > 1
    assert grouped.normalizers({"weights": tf.constant(0.3)}, {})[MAIN] == 1
    assert grouped.term_names == FULL.term_names


def test_groups_without_any_sample_are_divided_by_one():
    grouped = GroupedLoss({MAIN: FULL, "first": PLAIN})
    sums = {name: tf.constant(0.0) for name in grouped.sum_names}
    counts = {MAIN: tf.constant(0.0), "first": tf.constant(0.0)}
    assert grouped.total(sums, counts) == 0
    assert list(grouped.normalizers(sums, counts).values()) == [1, 1]


def test_a_group_whose_number_is_not_known_is_named():
    grouped = GroupedLoss({MAIN: FULL, "first": PLAIN})
    sums = {name: tf.constant(0.0) for name in grouped.sum_names}
    with pytest.raises(ValueError, match="sample_counts has to give every one; first is missing"):
        grouped.total(sums, {MAIN: tf.constant(1.0)})

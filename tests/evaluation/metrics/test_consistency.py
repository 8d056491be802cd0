import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.evaluation import agreement, consistency, scores_and_ious
from harmonic_tf.evaluation.metrics.consistency import average_ranks, pearson

few = st.lists(st.integers(0, 6), max_size=12)


def test_hand_worked(ground_truth_of, detections_of):
    box = (0, 0, 10, 10)
    truth = ground_truth_of(
        [(0, box, 0, False, False), (1, box, 1, True, False)],
        image_ids=["p", "q"],
        class_names=["ring", "star"],
    )
    found = detections_of(
        [
            (0, box, 0, 0.75),  # IoU 1
            (0, (0, 0, 10, 5), 0, 0.5),  # IoU 0.5: confident, and placed well enough
            (0, box, 1, 0.5),  # no star in this picture: IoU 0, confident and misplaced
            (1, (0, 0, 10, 2.5), 1, 0.25),  # IoU 0.25 with a difficult object, which counts
        ]
    )
    scores, ious = scores_and_ious(truth, found)
    assert scores.tolist() == [0.75, 0.5, 0.5, 0.25]
    assert ious.tolist() == [1, 0.5, 0, 0.25]
    result = consistency(truth, found)
    # Gaps 0.25, 0, 0.5, 0.
    assert result["mean_abs_gap"] == pytest.approx(0.75 / 4)
    # Three with a score of 0.5 or more, one of them with IoU < 0.5.
    assert result["confident_misplaced"] == pytest.approx(1 / 3)
    # Two with an IoU of 0.5 or more, none of them with a score < 0.5.
    assert result["unconfident_well_placed"] == 0
    # Means 0.5 and 0.4375; deviations (.25, 0, 0, -.25) and (.5625, .0625, -.4375, -.1875):
    # products .140625 + .046875 = .1875; squares .125 and .546875.
    assert result["pearson"] == pytest.approx(0.1875 / math.sqrt(0.125 * 0.546875))
    # Ranks (4, 2.5, 2.5, 1) and (4, 3, 1, 2), means 2.5: deviations (1.5, 0, 0, -1.5) and
    # (1.5, .5, -1.5, -.5): products 2.25 + .75 = 3; squares 4.5 and 5.
    assert result["spearman"] == pytest.approx(3 / math.sqrt(4.5 * 5))
    assert result["detections"] == 4


def test_shares_of_the_wrong_kind_by_hand():
    # Confident: the first three, of which the third lies badly. Well placed: the first two and
    # the fourth, which is not confident. The thresholds themselves are reached.
    result = agreement(np.array([0.9, 0.5, 0.8, 0.4]), np.array([0.5, 0.7, 0.4, 0.9]))
    assert result["confident_misplaced"] == pytest.approx(1 / 3)
    assert result["unconfident_well_placed"] == pytest.approx(1 / 3)
    assert result["mean_abs_gap"] == pytest.approx((0.4 + 0.2 + 0.4 + 0.5) / 4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12))
def test_score_and_overlap_trade_places(pairs):
    scores, ious = np.array(pairs).reshape(-1, 2).T
    result, swapped = agreement(scores, ious), agreement(ious, scores)
    for name in ("mean_abs_gap", "pearson", "spearman"):
        assert swapped[name] == pytest.approx(result[name], nan_ok=True)
    assert swapped["confident_misplaced"] == pytest.approx(
        result["unconfident_well_placed"], nan_ok=True
    )


def test_crowd_regions_leave_out_what_they_cover(ground_truth_of, detections_of):
    truth = ground_truth_of(
        [(0, (0, 0, 10, 10), 0, False, False), (0, (0, 0, 100, 100), 0, False, True)]
    )
    found = detections_of(
        [
            (0, (0, 0, 10, 8), 0, 0.9),  # inside the crowd region, but an object's: IoU 0.8
            (0, (50, 50, 60, 60), 0, 0.8),  # inside the crowd region alone: left out
            (0, (95, 0, 105, 10), 0, 0.7),  # half of it inside: left out
            (0, (96, 0, 106, 10), 0, 0.6),  # less than half of it inside: a false alarm
        ]
    )
    scores, ious = scores_and_ious(truth, found)
    np.testing.assert_allclose(scores, [0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(ious, [0.8, 0])


@settings(deadline=None, max_examples=60)
@given(few)
def test_ranks_by_counting(values):
    expected = [
        sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values
    ]
    assert average_ranks(np.array(values)).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_pearson_by_definition(pairs):
    x, y = np.array(pairs, float).reshape(-1, 2).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(pearson(x, y))
        return
    covariance = math.fsum((x - x.mean()) * (y - y.mean()))
    spread = math.sqrt(math.fsum((x - x.mean()) ** 2) * math.fsum((y - y.mean()) ** 2))
    assert pearson(x, y) == pytest.approx(covariance / spread, abs=1e-12)
    assert pearson(x, x) == pytest.approx(1)
    assert pearson(x, -x) == pytest.approx(-1)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(8)))
def test_spearman_without_ties_by_the_textbook(order):
    y = np.array(order, float)
    difference = average_ranks(np.arange(8)) - average_ranks(y)
    expected = 1 - 6 * (difference**2).sum() / (8 * (8**2 - 1))
    assert pearson(average_ranks(np.arange(8)), average_ranks(y)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_scale_do_not_matter(scene, seed):
    truth, found = scene(seed)
    expected = consistency(truth, found)
    rows = np.random.default_rng(seed).permutation(len(found.scores))
    shuffled = dataclasses.replace(
        found, **{f.name: getattr(found, f.name)[rows] for f in dataclasses.fields(found)}
    )
    assert consistency(truth, shuffled) == pytest.approx(expected, nan_ok=True)
    scaled = consistency(
        dataclasses.replace(truth, boxes=truth.boxes * 8),
        dataclasses.replace(found, boxes=found.boxes * 8),
    )
    assert scaled == pytest.approx(expected, nan_ok=True)


def test_scores_that_are_overlaps(scene):
    truth, found = scene(12, flags=False)
    _, ious = scores_and_ious(truth, found)
    result = consistency(truth, dataclasses.replace(found, scores=ious.astype(np.float32)))
    assert result["mean_abs_gap"] == pytest.approx(0, abs=1e-7)
    assert result["pearson"] == pytest.approx(1)
    assert result["spearman"] == pytest.approx(1)
    assert result["confident_misplaced"] == result["unconfident_well_placed"] == 0


def test_undefined_is_nan(scene, ground_truth_of, detections_of):
    truth, found = scene(12)
    nothing = consistency(truth, detections_of([]))
    assert nothing.pop("detections") == 0
    assert np.isnan(list(nothing.values())).all()

    no_objects = ground_truth_of([], truth.image_ids, truth.class_names)
    constant = consistency(no_objects, found)  # every IoU is 0
    assert np.isnan(constant["pearson"]) and np.isnan(constant["spearman"])
    assert constant["mean_abs_gap"] == pytest.approx(found.scores.mean())
    assert constant["confident_misplaced"] == 1
    assert np.isnan(constant["unconfident_well_placed"])

    meek = dataclasses.replace(found, scores=found.scores * 0.4)
    assert np.isnan(consistency(truth, meek)["confident_misplaced"])
    assert consistency(truth, meek)["unconfident_well_placed"] == 1

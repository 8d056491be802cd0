import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.evaluation import (
    coco_evaluation,
    oracle_ranked,
    ranking_cost,
    scores_and_ious,
)

cell = st.tuples(
    st.integers(0, 3),  # picture
    st.integers(0, 1),  # class
    st.booleans(),  # is an object there
    st.integers(1, 20),  # side of the object
    st.integers(0, 20),  # how far the detection is off
    st.one_of(st.none(), st.integers(0, 10)),  # its score in tenths; None: nothing found
)


def apart(cells, ground_truth_of, detections_of):
    """Each object and its detection in a place of their own, so that nothing is ambiguous."""
    objects, found = [], []
    for n, (picture, k, is_object, side, off, score) in enumerate(cells):
        x = 100 * n
        if is_object:
            objects.append((picture, (x, 0, x + side, side), k, False, False))
        if score is not None:
            found.append((picture, (x + off, 0, x + off + side, side), k, score / 10))
    return (
        ground_truth_of(objects, image_ids=range(4), class_names=["ring", "star"]),
        detections_of(found),
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(cell, max_size=12))
def test_the_oracle_never_lowers_ap_where_nothing_is_ambiguous(
    ground_truth_of, detections_of, cells
):
    cost = ranking_cost(*apart(cells, ground_truth_of, detections_of))
    parts = [cost, *cost["per_class"].values(), *cost["by_size"].values()]
    for part in parts:
        assert part["AP_oracle"] - part["AP"] == pytest.approx(part["cost"], nan_ok=True)
        assert np.isnan(part["cost"]) or -1e-12 <= part["cost"] <= 1


@settings(deadline=None, max_examples=10)
@given(st.lists(cell, min_size=1, max_size=4))
def test_no_order_is_better_than_the_oracles(ground_truth_of, detections_of, cells):
    truth, found = apart(cells, ground_truth_of, detections_of)
    best = ranking_cost(truth, found)["AP_oracle"]
    for order in itertools.permutations(range(len(found.scores))):
        scores = np.array(order, np.float32) / 10
        ap = ranking_cost(truth, dataclasses.replace(found, scores=scores))["AP"]
        assert np.isnan(best) or ap <= best + 1e-12


def test_hand_worked(ground_truth_of, detections_of):
    box, other = (0, 0, 10, 10), (50, 0, 60, 10)
    truth = ground_truth_of(
        [(0, box, 0, False, False), (0, other, 0, False, False), (0, box, 1, False, False)],
        class_names=["ring", "star", "comb"],
    )
    found = detections_of(
        [
            (0, box, 0, 0.5),  # IoU 1, yet behind
            (0, (50, 0, 60, 6.25), 0, 0.75),  # IoU 0.625: counts up to threshold 0.6
            (0, box, 1, 0.25),
        ]
    )
    assert oracle_ranked(truth, found).scores.tolist() == [1, 0.625, 1]
    cost = ranking_cost(truth, found)
    # Rings at 0.5, 0.55, 0.6: both are true. From 0.65 on, of recalls 0 to 0.5, which are 51 of
    # 101, precision is 1/2, or 1 once the better box stands first.
    by_score, by_iou = (3 + 7 * 51 / 101 / 2) / 10, (3 + 7 * 51 / 101) / 10
    ring = {"AP": by_score, "AP_oracle": by_iou, "cost": by_iou - by_score}
    assert cost["per_class"]["ring"] == pytest.approx(ring)
    assert cost["per_class"]["star"] == pytest.approx({"AP": 1, "AP_oracle": 1, "cost": 0})
    assert np.isnan(list(cost["per_class"]["comb"].values())).all()
    mean = {"AP": (by_score + 1) / 2, "AP_oracle": (by_iou + 1) / 2, "cost": ring["cost"] / 2}
    assert {name: cost[name] for name in mean} == pytest.approx(mean)
    assert cost["by_size"]["small"] == pytest.approx(mean)  # 10 x 10 pixels each
    assert np.isnan(cost["by_size"]["large"]["cost"])


@pytest.mark.parametrize("seed", range(4))
def test_both_are_cocos_numbers(scene, seed):
    truth, found = scene(seed)
    cost = ranking_cost(truth, found)
    oracle = oracle_ranked(truth, found)
    for key, table in (("AP", found), ("AP_oracle", oracle)):
        overall, per_class = coco_evaluation(truth, table)
        assert cost[key] == pytest.approx(overall["AP"], nan_ok=True)
        for name, values in per_class.items():
            assert cost["per_class"][name][key] == pytest.approx(values["AP"], nan_ok=True)
        for size, name in (("small", "APs"), ("medium", "APm"), ("large", "APl")):
            assert cost["by_size"][size][key] == pytest.approx(overall[name], nan_ok=True)


def test_the_oracle_is_consistent(scene):
    truth, found = scene(12)
    oracle = oracle_ranked(truth, found)
    np.testing.assert_allclose(*scores_and_ious(truth, oracle), rtol=1e-6)
    assert ranking_cost(truth, oracle)["cost"] == 0
    np.testing.assert_array_equal(oracle.boxes, found.boxes)

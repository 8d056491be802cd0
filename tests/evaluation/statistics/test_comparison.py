import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.evaluation import coco_metrics, compare, consistency, ranking_cost
from harmonic_tf.evaluation.statistics.comparison import METRICS, PictureWeighted
from harmonic_tf.evaluation.statistics.intervals import mean_interval

BOX, LOW = (0, 0, 10, 10), (0, 0, 10, 6)  # IoU 0.6


def plain(ground_truth, detections):
    """The metrics as the rest of the package measures them."""
    coco, agreement = coco_metrics(ground_truth, detections), consistency(ground_truth, detections)
    return {**coco, **agreement, "cost": ranking_cost(ground_truth, detections)["cost"]}


def repeated(ground_truth, detections, weights):
    """Pictures put in as often as `weights` says, under new ids."""
    pictures = np.repeat(np.arange(len(weights)), weights)

    def copies(table, **more):
        rows = [np.flatnonzero(table.image_index == picture) for picture in pictures]
        index = np.repeat(np.arange(len(pictures)), [len(row) for row in rows])
        flat = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
        fields = [field.name for field in dataclasses.fields(table)]
        arrays = {
            name: getattr(table, name)[flat]
            for name in fields
            if isinstance(getattr(table, name), np.ndarray)
        }
        return dataclasses.replace(table, **{**arrays, "image_index": index, **more})

    return copies(ground_truth, image_ids=list(range(len(pictures)))), copies(detections)


def test_hand_worked(ground_truth_of, detections_of):
    truth = ground_truth_of([(p, BOX, 0, False, False) for p in (0, 1)], image_ids=["p", "q"])
    well = detections_of([(0, BOX, 0, 0.875), (1, BOX, 0, 0.75)])
    # q's box misplaced: IoU 0.6 reaches three of the ten thresholds, 0.5, 0.55 and 0.6.
    badly = detections_of([(0, BOX, 0, 0.875), (1, LOW, 0, 0.75)])
    metrics = compare(truth, [well], [badly], resamples=200)["metrics"]

    assert metrics["AP"]["a"]["mean"] == pytest.approx(1)
    # The seven other thresholds: half of the objects, first, so 51 of 101 recalls at precision 1.
    assert metrics["AP"]["b"]["mean"] == pytest.approx((3 + 7 * 51 / 101) / 10)
    assert metrics["AP75"]["difference"] == pytest.approx(51 / 101 - 1)
    assert metrics["mean_abs_gap"]["a"]["mean"] == pytest.approx((0.125 + 0.25) / 2)
    assert metrics["mean_abs_gap"]["difference"] == pytest.approx((0.15 - 0.25) / 2)
    assert math.isnan(metrics["pearson"]["a"]["mean"])  # all IoUs are 1
    assert metrics["pearson"]["b"]["mean"] == pytest.approx(1)
    assert metrics["confident_misplaced"]["difference"] == 0
    assert metrics["cost"]["b"]["mean"] == pytest.approx(0)  # score and IoU agree on the order
    # A draw is p twice, p and q, or q twice: A has AP 1; B has 1, what it has above, or 0.3.
    low, high = metrics["AP"]["over_pictures"]
    assert (low, high) == (pytest.approx(0.3 - 1), 0)


def test_wrong_order_costs(ground_truth_of, detections_of):
    truth = ground_truth_of([(0, BOX, 0, False, False)])
    found = detections_of([(0, (50, 50, 60, 60), 0, 0.9), (0, BOX, 0, 0.5)])
    run = dict(zip(METRICS, PictureWeighted(truth, found)(np.ones(1))))
    assert run["AP"] == pytest.approx(0.5)  # the false alarm stands before the hit
    assert run["cost"] == pytest.approx(0.5)
    assert run["confident_misplaced"] == 0.5


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_weights_of_one_give_the_plain_numbers(scene, seed):
    truth, found = scene(seed)
    run = dict(zip(METRICS, PictureWeighted(truth, found)(np.ones(4))))
    expected = plain(truth, found)
    for name in METRICS:
        assert run[name] == pytest.approx(expected[name], abs=1e-9, nan_ok=True), name


@given(seed=st.integers(0, 10_000), weights=st.lists(st.integers(0, 3), min_size=4, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_weight_is_how_often_a_picture_is_there(scene, seed, weights):
    truth, found = scene(seed, image_ids=(0, 1, 2, 3))
    run = PictureWeighted(truth, found)(np.array(weights))
    copied = PictureWeighted(*repeated(truth, found, weights))(np.ones(sum(weights)))
    np.testing.assert_allclose(run, copied, atol=1e-9)


def test_a_run_against_itself_differs_by_nothing(scene):
    truth, found = scene(5)
    for name, metric in compare(truth, [found], [found], resamples=30)["metrics"].items():
        assert metric["difference"] == 0, name
        assert metric["over_pictures"] == [0, 0], name
        assert all(map(math.isnan, metric["over_trainings"]))


def test_swapped_sides_swap_signs(scene):
    truth, found = scene(6)
    other = dataclasses.replace(found, scores=found.scores[::-1].copy())
    ab = compare(truth, [found], [other], resamples=40, seed=2)["metrics"]
    ba = compare(truth, [other], [found], resamples=40, seed=2)["metrics"]
    for name in METRICS:
        low, high = ab[name]["over_pictures"]
        assert ba[name]["difference"] == -ab[name]["difference"]
        np.testing.assert_allclose(ba[name]["over_pictures"], [-high, -low], atol=1e-12)
    assert ab["AP"]["difference"] != 0


def test_several_trainings_are_averaged_and_spread(scene):
    truth, found = scene(7)
    others = [dataclasses.replace(found, scores=np.roll(found.scores, shift)) for shift in range(5)]
    result = compare(truth, others[:2], others[2:], resamples=10)["metrics"]["AP"]
    values = [coco_metrics(truth, other)["AP"] for other in others]
    assert result["a"]["values"] == pytest.approx(values[:2])
    assert result["difference"] == pytest.approx(np.mean(values[2:]) - np.mean(values[:2]))
    assert result["b"]["half_width"] == pytest.approx(mean_interval(values[2:]).half_width)
    low, high = result["over_trainings"]
    assert (low + high) / 2 == pytest.approx(result["difference"])


def test_the_seed_decides(scene):
    truth, found = scene(8)
    other = dataclasses.replace(found, scores=found.scores[::-1].copy())
    one, same, another = (
        compare(truth, [found], [other], resamples=50, seed=seed)["metrics"]["mean_abs_gap"]
        for seed in (1, 1, 2)
    )
    assert one["over_pictures"] == same["over_pictures"] != another["over_pictures"]


def test_no_detections_at_all(ground_truth_of, detections_of):
    truth = ground_truth_of([(0, BOX, 0, False, False)])
    found = detections_of([(0, BOX, 0, 0.9)])
    metrics = compare(truth, [detections_of([])], [found], resamples=5)["metrics"]
    assert metrics["AP"]["difference"] == pytest.approx(1)
    assert math.isnan(metrics["mean_abs_gap"]["difference"])
    assert all(map(math.isnan, metrics["mean_abs_gap"]["over_pictures"]))


def test_an_empty_side_is_refused(scene):
    truth, found = scene(1)
    with pytest.raises(ValueError, match="runs_b"):
        compare(truth, [found], [])

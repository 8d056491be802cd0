"""Calibration errors and LRP: by hand, by loops over pycocotools' matches, by what must hold."""

import contextlib
import dataclasses
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from harmonic_tf.evaluation import (
    calibration,
    calibration_curve,
    lrp_optimal_thresholds,
    operating_point,
)
from harmonic_tf.evaluation.metrics.coco import _coco_pair

ERRORS = ("LaECE", "LaACE", "LRP", "LRP_loc", "LRP_fp", "LRP_fn")


def errors_of(result):
    return {name: result[name] for name in ERRORS}


@pytest.fixture
def two_rings_a_star_a_comb(ground_truth_of, detections_of):
    """Rings: one found well, one not; a false alarm. The star: found. The comb: nothing found."""
    box, far = (0, 0, 10, 10), (50, 50, 60, 60)
    truth = ground_truth_of(
        [(0, at, k, False, False) for at, k in ((box, 0), (far, 0), (box, 1), (box, 2))],
        class_names=["ring", "star", "comb", "none"],
    )
    found = detections_of(
        [
            (0, (0, 0, 10, 8), 0, 0.75),  # a ring, IoU 0.8
            (0, (0, 0, 10, 10), 0, 0.5),  # the same ring, taken: a false positive
            (0, (20, 20, 30, 30), 0, 0.25),  # touches nothing: a false positive
            (0, (0, 0, 10, 5), 1, 0.125),  # the star, IoU 0.5
            (0, box, 3, 1.0),  # of a class without objects: says nothing
        ]
    )
    return truth, found


def test_all_detections_by_hand(two_rings_a_star_a_comb):
    truth, found = two_rings_a_star_a_comb
    result = calibration(truth, found, thresholds=np.zeros(4))
    # Rings, each detection in its own bin: gaps 0.05, 0.5, 0.25. The star: 0.375. No comb.
    assert result["LaECE"] == pytest.approx((0.8 / 3 + 0.375) / 2)
    assert result["LaACE"] == pytest.approx((0.8 / 3 + 0.375) / 2)
    # Rings (0.2 + 2 + 1) / 4, star 0.5 / 1, comb 1.
    assert result["LRP"] == pytest.approx((0.8 + 0.5 + 1) / 3)
    assert result["LRP_loc"] == pytest.approx((0.2 + 0.5) / 2)
    assert result["LRP_fp"] == pytest.approx((2 / 3 + 0) / 2)
    assert result["LRP_fn"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert result["thresholds"] == {"ring": 0, "star": 0, "comb": 0, "none": 0}
    assert result["thresholds_from"] == "other detections"


def test_optimal_thresholds_by_hand(two_rings_a_star_a_comb):
    truth, found = two_rings_a_star_a_comb
    # Rings: from 0.75 on (0.2 + 0 + 1) / 2 = 0.6, from 0.5 on (0.2 + 1 + 1) / 3, and so on.
    np.testing.assert_array_equal(
        lrp_optimal_thresholds(truth, found), [0.75, 0.125, math.nan, math.nan]
    )
    result = calibration(truth, found)
    assert result["thresholds_from"] == "the same detections"
    assert result["thresholds"]["ring"] == 0.75
    assert math.isnan(result["thresholds"]["comb"])
    assert result["LRP"] == pytest.approx((0.6 + 0.5 + 1) / 3)
    assert result["LRP_fp"] == 0
    assert result["LaECE"] == pytest.approx((0.05 + 0.375) / 2)
    scores, ious = operating_point(truth, found, np.array(list(result["thresholds"].values())))
    np.testing.assert_allclose(scores, [0.75, 0.125])
    np.testing.assert_allclose(ious, [0.8, 0.5])


def test_bins_average_what_their_detections_miss(ground_truth_of, detections_of):
    # Scores 0.5 and 0.52 share the bin (0.48, 0.52]; overlaps 0.3 and 0.7 average to 0.5.
    truth = ground_truth_of([(k, (0, 0, 10, 10), 0, False, False) for k in (0, 1)], ["a", "b"])
    found = detections_of([(0, (0, 0, 10, 3), 0, 0.5), (1, (0, 0, 10, 7), 0, 0.51)])
    result = calibration(truth, found, np.zeros(1))
    assert result["LaECE"] == pytest.approx(0.005)
    assert result["LaACE"] == pytest.approx((0.2 + 0.19) / 2)


def test_exact_scores_count_as_an_error_of_0(ground_truth_of, detections_of):
    # A class without any error stays in the mean.
    truth = ground_truth_of(
        [(0, (0, 0, 10, 10), k, False, False) for k in (0, 1)], class_names=["a", "b"]
    )
    found = detections_of([(0, (0, 0, 10, 10), 0, 1.0), (0, (0, 0, 10, 5), 1, 0.25)])
    result = calibration(truth, found, np.zeros(2))
    assert result["LaECE"] == result["LaACE"] == pytest.approx(0.125)


def test_what_does_not_count(ground_truth_of, detections_of):
    truth = ground_truth_of(
        [
            (0, (0, 0, 10, 10), 0, False, False),
            (0, (20, 0, 30, 10), 0, True, False),
            (0, (40, 0, 90, 10), 0, False, True),
        ]
    )
    found = detections_of(
        [
            (0, (0, 0, 10, 10), 0, 1.0),
            (0, (20, 0, 30, 10), 0, 0.9),  # a difficult object
            (0, (60, 0, 70, 10), 0, 0.9),  # in a crowd region
        ]
        + [(0, (0, 0, 10, 10), 0, 0.8)] * 98  # false, and the last one beyond the 100 best
    )
    result = calibration(truth, found, np.zeros(1))
    assert result["LRP_fn"] == 0
    assert result["LRP"] == result["LRP_fp"] == pytest.approx(97 / 98)


def matches_of_pycocotools(truth, found):
    """Scores, IoUs and number of objects per class; IoU 0 for a false positive."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*_coco_pair(truth, found), iouType="bbox")
        evaluation.params.iouThrs = np.array([1e-300])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    classes = {k: ([], [], []) for k in range(len(truth.class_names))}
    for e in filter(None, evaluation.evalImgs):
        scores, ious, objects = classes[e["category_id"] - 1]
        objects += [ignored for ignored in e["gtIgnore"] if not ignored]
        overlaps = evaluation.ious[e["image_id"], e["category_id"]]
        own = {a["id"]: i for i, a in enumerate(evaluation._gts[e["image_id"], e["category_id"]])}
        for i, score in enumerate(e["dtScores"]):
            if not e["dtIgnore"][0, i]:
                match = e["dtMatches"][0, i]
                scores.append(score)
                ious.append(overlaps[i, own[match]] if match else 0.0)
    return {k: (scores, ious, len(objects)) for k, (scores, ious, objects) in classes.items()}


def errors_by_loops(scores, ious, objects, threshold):
    shown = [(s, i) for s, i in zip(scores, ious) if s >= threshold]
    tp = sum(iou > 0 for _, iou in shown)
    fp, fn = len(shown) - tp, objects - tp
    result = {
        "LRP": (sum(1 - iou for _, iou in shown if iou > 0) + fp + fn) / (tp + fp + fn),
        "LRP_fn": fn / objects,
    }
    if tp:
        result["LRP_loc"] = sum(1 - iou for _, iou in shown if iou > 0) / tp
    if shown:
        result["LRP_fp"] = fp / len(shown)
        result["LaACE"] = sum(abs(s - iou) for s, iou in shown) / len(shown)
        result["LaECE"] = 0
        for j in range(25):
            inside = [
                (s, iou) for s, iou in shown if j / 25 < s <= (j + 1) / 25 or (j == 0 and s == 0)
            ]
            if inside:
                gap = abs(sum(s for s, _ in inside) - sum(iou for _, iou in inside)) / len(inside)
                result["LaECE"] += len(inside) / len(shown) * gap
    return result


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("tied_scores", [False, True])
def test_against_loops_over_the_matches_of_pycocotools(scene, seed, tied_scores):
    truth, found = scene(seed, tied_scores=tied_scores)
    classes = matches_of_pycocotools(truth, found)
    chosen = []
    for scores, ious, objects in classes.values():
        if not objects or not any(ious):
            chosen.append(math.nan)
            continue
        tried = sorted(set(scores), reverse=True)
        lrp = [errors_by_loops(scores, ious, objects, t)["LRP"] for t in tried]
        chosen.append(next(t for t, value in zip(tried, lrp) if value < min(lrp) + 1e-12))
    np.testing.assert_array_equal(lrp_optimal_thresholds(truth, found), chosen)

    for thresholds in (chosen, [0.0, 0.5, 0.9]):
        per_class = [
            errors_by_loops(*columns, -1 if math.isnan(t) else t)
            for columns, t in zip(classes.values(), thresholds)
            if columns[2]
        ]
        result = calibration(truth, found, np.array(thresholds))
        for name in ERRORS:
            values = [errors[name] for errors in per_class if name in errors]
            expected = np.mean(values) if values else math.nan
            assert result[name] == pytest.approx(expected, nan_ok=True), name
    assert errors_of(calibration(truth, found)) == pytest.approx(
        errors_of(calibration(truth, found, np.array(chosen))), nan_ok=True
    )


@pytest.mark.parametrize("seed", range(8))
def test_what_must_hold(scene, seed):
    truth, found = scene(seed)
    best = calibration(truth, found)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        other = calibration(truth, found, rng.uniform(0, 1, 3))
        assert best["LRP"] <= other["LRP"] + 1e-12
        if not math.isnan(other["LaACE"]):
            assert other["LaECE"] <= other["LaACE"] + 1e-12  # a mean hides what it averages
        for name in ERRORS:
            assert math.isnan(other[name]) or 0 <= other[name] <= 1

    rows = rng.permutation(len(found.scores))
    shuffled = dataclasses.replace(
        found, **{f.name: getattr(found, f.name)[rows] for f in dataclasses.fields(found)}
    )
    assert errors_of(calibration(truth, shuffled)) == pytest.approx(errors_of(best), nan_ok=True)
    scaled = calibration(
        dataclasses.replace(truth, boxes=truth.boxes * 8),
        dataclasses.replace(found, boxes=found.boxes * 8),
    )
    assert errors_of(scaled) == pytest.approx(errors_of(best), nan_ok=True)


def test_a_perfect_detector(scene):
    truth, found = scene(2, flags=False)
    perfect = dataclasses.replace(
        found,
        image_index=truth.image_index,
        boxes=truth.boxes,
        classes=truth.classes,
        scores=np.ones(len(truth.classes), np.float32),
    )
    assert errors_of(calibration(truth, perfect)) == dict.fromkeys(ERRORS, 0)


def test_nothing_found_and_nothing_to_find(scene, ground_truth_of, detections_of):
    truth, found = scene(2)
    nothing = calibration(truth, detections_of([]))
    assert nothing["LRP"] == nothing["LRP_fn"] == 1
    assert np.isnan([nothing[name] for name in ("LaECE", "LaACE", "LRP_loc", "LRP_fp")]).all()
    assert np.isnan(list(nothing["thresholds"].values())).all()

    no_objects = ground_truth_of([], truth.image_ids, truth.class_names)
    assert np.isnan(list(errors_of(calibration(no_objects, found)).values())).all()
    assert [len(column) for column in operating_point(no_objects, found, np.zeros(3))] == [0, 0]


def test_one_threshold_for_each_class_is_asked_for(scene):
    truth, found = scene(2)
    with pytest.raises(ValueError, match=r"array of shape \(2,\): \(3,\) was expected"):
        calibration(truth, found, np.zeros(2))


def test_curve_by_hand():
    scores = np.array([0.0, 0.25, 0.26, 0.5, 1.0, 0.9])
    ious = np.array([0.1, 0.3, 0.2, 0.4, 0.8, 0.6])
    mean_score, mean_iou, counts = calibration_curve(scores, ious, bins=4)
    # A bound belongs to the bin below it; 0 to the first one.
    np.testing.assert_array_equal(counts, [2, 2, 0, 2])
    np.testing.assert_allclose(mean_score, [0.125, 0.38, math.nan, 0.95])
    np.testing.assert_allclose(mean_iou, [0.2, 0.3, math.nan, 0.7])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30), st.integers(1, 25))
def test_curve_keeps_sums(pairs, bins):
    scores, ious = np.array(pairs).reshape(-1, 2).T
    mean_score, mean_iou, counts = calibration_curve(scores, ious, bins)
    assert counts.sum() == len(pairs)
    assert np.nansum(mean_score * counts) == pytest.approx(scores.sum())
    assert np.nansum(mean_iou * counts) == pytest.approx(ious.sum())
    bounds = np.arange(bins + 1) / bins
    filled = counts > 0
    assert np.all(mean_score[filled] >= bounds[:-1][filled] - 1e-9)
    assert np.all(mean_score[filled] <= bounds[1:][filled] + 1e-9)

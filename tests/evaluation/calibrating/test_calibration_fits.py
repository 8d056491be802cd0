"""Calibrated scores: against the same fits in NumPy, by what must hold, and of what cannot be."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.evaluation import (
    CALIBRATION_METHODS,
    calibration_and_ap,
    fit_calibration,
    lrp_optimal_thresholds,
    match,
)
from harmonic_tf.evaluation.calibrating import fitting
from harmonic_tf.evaluation.calibrating.fitting import POOLED
from harmonic_tf.evaluation.calibrating.table import KNOTS
from harmonic_tf.evaluation.metrics.calibration import PairedClass, paired_by_class

RAW_SHARE = 1e-3


def pooled_adjacent_violators(scores, ious):
    """The best curve that does not fall, by merging neighbours that do: (scores, values), float64.

    Source: Barlow et al., Statistical Inference under Order Restrictions, 1972.
    """
    values, where = np.unique(np.float64(scores), return_inverse=True)
    blocks = [
        [ious[where == i].mean(), np.sum(where == i), 1] for i in range(len(values))
    ]  # mean, weight, how many scores
    merged = []
    for block in blocks:
        merged.append(block)
        while len(merged) > 1 and merged[-2][0] >= merged[-1][0]:
            (mean, weight, count), (other, other_weight, other_count) = merged.pop(), merged.pop()
            total = weight + other_weight
            mean = (mean * weight + other * other_weight) / total
            merged.append([mean, total, count + other_count])
    return values, np.repeat([b[0] for b in merged], [b[2] for b in merged])


def many_scenes(scene, ground_truth_of, detections_of, count=60):
    """Random scenes as one set of pictures: objects of three classes, detections of most."""
    objects, rows = [], []
    for seed in range(count):
        truth, found = scene(seed, image_ids=(0,))
        columns = zip(truth.boxes, truth.classes, truth.difficult, truth.crowd)
        objects += [(seed, *row) for row in columns]
        rows += [(seed, *row) for row in zip(found.boxes, found.classes, found.scores)]
    names = ["ring", "star", "comb"]
    return ground_truth_of(objects, range(count), names), detections_of(rows)


@pytest.fixture(scope="module")
def found_in_val(scene, ground_truth_of, detections_of):
    return many_scenes(scene, ground_truth_of, detections_of)


@pytest.fixture(scope="module", params=CALIBRATION_METHODS)
def fitted(found_in_val, request):
    return fit_calibration(*found_in_val, request.param, "val")


def test_isotonic_calibration_is_that_of_pooled_adjacent_violators(found_in_val):
    calibration = fit_calibration(*found_in_val, "isotonic", "val")
    classes = paired_by_class(*found_in_val)
    columns = [(pairs.scores, pairs.ious) for pairs in classes]
    *own, of_all = (
        np.interp(KNOTS, *pooled_adjacent_violators(*pair))
        for pair in (*columns, [np.concatenate(column) for column in zip(*columns)])
    )
    for row, curve, count in zip(calibration.table, own, calibration.detections.values()):
        mean = (count * curve + POOLED * of_all) / (count + POOLED)
        expected = (1 - RAW_SHARE) * mean + RAW_SHARE * KNOTS
        np.testing.assert_allclose(row, expected, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_linear_calibration_is_the_least_squares_line(sign):
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 50)
    ious = np.clip(0.4 + sign * 0.3 * scores + rng.normal(0, 0.05, 50), 0, 1)
    slope, start = np.polyfit(scores, ious, 1) if sign > 0 else (0.0, ious.mean())
    line = np.clip(start + slope * KNOTS, 0, 1)
    table = fitting._table_of(fitting._FITS["linear"], [PairedClass(scores, ious, 50)])
    np.testing.assert_allclose(table, (1 - RAW_SHARE) * line + RAW_SHARE * KNOTS, atol=1e-9)


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_calibration_of_log_odds_finds_the_curve_that_ious_lie_on(method):
    scores = np.linspace(0.02, 0.98, 400)
    start = 0.7 if method == "platt" else 0.0
    ious = 1 / (1 + np.exp(-(0.5 * np.log(scores / (1 - scores)) + start)))
    table = fitting._table_of(fitting._FITS[method], [PairedClass(scores, ious, 400)])
    inside = slice(2, -2)  # within the scores that it was fitted to
    np.testing.assert_allclose(
        np.interp(scores, KNOTS[inside], table[inside]),
        (1 - RAW_SHARE) * ious + RAW_SHARE * scores,
        atol=2e-3,  # between knots lie straight lines
    )


def test_a_calibration_keeps_ap_and_lrp_and_lowers_the_error(fitted, found_in_val):
    truth, found = found_in_val
    after = calibration_and_ap(truth, fitted(found))
    for name in ("AP", "AP50", "LRP"):
        assert after[name] == pytest.approx(fitted.before[name], abs=1e-9)
    assert after["LaECE"] < fitted.before["LaECE"]
    assert {name: after[name] for name in fitted.after} == fitted.after


def test_calibrated_scores_have_the_order_of_the_raw_ones(fitted, found_in_val):
    truth, found = found_in_val
    before, after = match(truth, found), match(truth, fitted(found))
    np.testing.assert_array_equal(after.rows, before.rows)
    np.testing.assert_array_equal(after.order, before.order)


def test_counts_of_a_calibration_are_of_what_is_shown(fitted, found_in_val):
    thresholds = lrp_optimal_thresholds(*found_in_val)
    shown = [np.sum(p.scores >= t) for p, t in zip(paired_by_class(*found_in_val), thresholds)]
    assert list(fitted.detections.values()) == shown
    assert list(fitted.detections) == fitted.class_names == ["ring", "star", "comb"]
    assert fitted.fitted_on == "val"


def test_the_fewer_detections_the_more_a_class_is_calibrated_as_all_are(fitted, found_in_val):
    truth, found = found_in_val
    tables = {}
    for kept in (0, 15):
        rows = np.flatnonzero(found.classes == 2)[:kept]
        rare = found.take(np.union1d(np.flatnonzero(found.classes != 2), rows))
        calibration = fit_calibration(truth, rare, fitted.method, "val")
        pairs = paired_by_class(truth, rare)
        if fitted.method != "isotonic":
            pairs = [p.shown(t) for p, t in zip(pairs, lrp_optimal_thresholds(truth, rare))]
        own, of_all = (
            fitting._table_of(fitting._FITS[fitted.method], classes)
            for classes in (pairs[2:] if kept else pairs, pairs)
        )
        count = calibration.detections["comb"]
        assert 0 < count <= kept or count == kept
        expected = (count * own + POOLED * of_all) / (count + POOLED)
        np.testing.assert_allclose(calibration.table[2], expected, atol=1e-12)
        tables[kept] = calibration.table
    assert not np.array_equal(tables[0][2], tables[15][2])


pairs = st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1)), min_size=1, max_size=60)


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
@settings(deadline=None, max_examples=60)
@given(pairs=pairs)
def test_every_calibration_rises_strictly_within_0_and_1(method, pairs):
    scores, ious = np.array(pairs, np.float64).T
    table = fitting._table_of(fitting._FITS[method], [PairedClass(scores, ious, 1)])
    assert table.shape == KNOTS.shape
    assert np.all((table >= 0) & (table <= 1))
    assert np.all(np.diff(table) >= RAW_SHARE / 100 * 0.99)


def test_what_cannot_be_calibrated(found_in_val):
    truth, found = found_in_val
    with pytest.raises(ValueError, match="method = 'beta' is none of isotonic, linear, platt"):
        fit_calibration(truth, found, "beta", "val")
    nothing = found.take(np.zeros(len(found.scores), bool))
    assert fit_calibration(truth, nothing, "isotonic", "val") is None
    crowds = dataclasses.replace(truth, crowd=np.ones_like(truth.crowd))
    on_them = found.take(match(crowds, found, [0.5]).rows[0] >= 0)
    assert len(on_them.scores)
    assert fit_calibration(crowds, on_them, "isotonic", "val") is None
    outside = dataclasses.replace(found, scores=found.scores + 1)
    with pytest.raises(ValueError, match="scores"):
        fit_calibration(truth, outside, "isotonic", "val")


def test_scikit_learn_is_imported_only_where_a_calibration_is_fitted(source_tree):
    users = {
        (file, imported.deferred)
        for file in source_tree.files("harmonic_tf/**/*.py", "flags/**/*.py")
        for imported in source_tree.imports(file, source_tree.read(file))
        if imported.module.startswith("sklearn")
    }
    assert users == {("harmonic_tf/evaluation/calibrating/fitting.py", True)}

"""Precision and recall by the threshold on scores, against counting anew at each threshold."""

import numpy as np
import pytest

from harmonic_tf.evaluation import match, precision_recall_by_score
from tests.evaluation.conftest import make_detections, make_ground_truth, make_scene

THRESHOLDS = np.linspace(0, 1, 21)


def counted_anew(truth, found, threshold):
    """What is below the threshold is thrown away before anything is matched."""
    shown = found.take(found.scores.astype(np.float64) >= threshold)
    matches = match(truth, shown, [0.5])
    finds, ignored = matches.rows[0] >= 0, matches.ignored[0]
    true, false = sum(finds & ~ignored), sum(~finds & ~ignored)
    wanted = sum(~(truth.difficult | truth.crowd))
    nan = float("nan")
    return true / (true + false) if true + false else nan, true / wanted if wanted else nan


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_counting_anew_at_each_threshold_gives(seed):
    truth, found = make_scene(seed, tied_scores=seed % 2 == 0)
    curve = precision_recall_by_score(truth, found, THRESHOLDS)
    expected = [counted_anew(truth, found, threshold) for threshold in THRESHOLDS]
    np.testing.assert_allclose(np.stack(curve, axis=1), expected)
    assert np.all(np.diff(curve.recall[~np.isnan(curve.recall)]) <= 0)


def test_two_objects_one_found_and_a_false_alarm():
    near, far = [0, 0, 10, 10], [50, 50, 60, 60]
    objects = [(0, near, 0, False, False), (0, far, 0, False, False)]
    found = make_detections([(0, near, 0, 0.75), (0, [20, 20, 30, 30], 0, 0.5)])
    curve = precision_recall_by_score(make_ground_truth(objects), found, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(curve.precision, [0.5, 0.5, 1.0, np.nan])
    np.testing.assert_array_equal(curve.recall, [0.5, 0.5, 0.5, 0.0])


def test_without_objects_there_is_no_recall():
    found = make_detections([(0, [0, 0, 9, 9], 0, 0.5)])
    curve = precision_recall_by_score(make_ground_truth([]), found, [0.0])
    assert curve.precision == 0.0 and np.isnan(curve.recall)

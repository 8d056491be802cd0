"""Precision and recall of a run's validation split: known, or the reason why they are not."""

import re
import shutil

import numpy as np
import pytest

from harmonic_tf.demo.validation import THRESHOLDS, validation_of
from harmonic_tf.evaluation import fit_calibration, precision_recall_by_score
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.measuring import keep, measure_found
from tests.demo.conftest import data_of


@pytest.fixture
def calibration(val, found_in_val):
    return fit_calibration(ground_truth_of(val), found_in_val, "linear", val.name)


def assert_curve(validation, val, found):
    expected = precision_recall_by_score(ground_truth_of(val), found, THRESHOLDS)
    np.testing.assert_allclose(validation.curve.precision, expected.precision)
    np.testing.assert_allclose(validation.curve.recall, expected.recall)
    assert (
        0 < expected.recall[10] < 1 and f"in {len(val.annotations)} pictures of" in validation.note
    )


def test_it_is_that_of_the_detections_that_the_run_kept(measured_run, val, found_in_val):
    assert_curve(validation_of(measured_run, data_of(measured_run), None), val, found_in_val)


def test_raw_detections_are_calibrated_where_scores_are(
    measured_run, val, found_in_val, calibration
):
    validation = validation_of(measured_run, data_of(measured_run), calibration)
    assert_curve(validation, val, calibration(found_in_val))


def test_calibrated_detections_are_not_calibrated_once_more(
    measured_run, val, found_in_val, calibration
):
    measured = measure_found(val, found_in_val, calibration=calibration)
    keep(measured_run.evaluation("val"), measured)
    data = data_of(measured_run)
    assert_curve(validation_of(measured_run, data, calibration), val, calibration(found_in_val))
    isotonic = fit_calibration(ground_truth_of(val), found_in_val, "isotonic", val.name)
    for other in (None, isotonic):
        validation = validation_of(measured_run, data, other)
        assert validation.curve is None
        assert "val was measured with scores of another calibration" in validation.note


def test_the_split_that_training_reports_is_measured_in_the_run_itself(make_run, val, found_in_val):
    run = make_run("--val_split=val", "--test_split=val", checkpoint=False)
    keep(run.path, measure_found(val, found_in_val))
    assert_curve(validation_of(run, data_of(run), None), val, found_in_val)


def test_a_run_without_a_validation_split_says_so(make_run):
    run = make_run(checkpoint=False)
    assert validation_of(run, data_of(run), None) == ("The run has no validation split.", None)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda folder: shutil.rmtree(folder),
            "keeps no detections of val. To have it: .*--split=val",
        ),
        (
            lambda folder: (folder / "detections.json").write_text("{"),
            "detections.json: is not JSON",
        ),
        (lambda folder: (folder / "metrics.json").write_text("{"), "metrics.json is not JSON"),
        (lambda folder: (folder / "metrics.json").unlink(), "metrics.json: No such file"),
    ],
)
def test_what_is_missing_or_damaged_is_named(measured_run, tmp_path, spoil, words):
    spoil(tmp_path / "run" / "evaluation" / "val")
    validation = validation_of(measured_run, data_of(measured_run), None)
    assert validation.curve is None
    assert re.search(words, validation.note)


def test_a_data_set_that_is_gone_is_named(measured_run, scenes, tmp_path):
    settings = measured_run.settings()
    measured_run.write_settings({**settings, "dataset": f"scenes:{tmp_path}/gone"}, "")
    validation = validation_of(measured_run, data_of(measured_run), None)
    assert validation.curve is None and f"Not known: {tmp_path}/gone" in validation.note

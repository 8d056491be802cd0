"""Calibration of a run: on its validation split alone, kept, and applied where it is measured."""

import logging
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from flags import common
from harmonic_tf.evaluation import CalibrationError, lrp_optimal_thresholds, read_detections
from harmonic_tf.evaluation import calibration as calibration_metrics
from harmonic_tf.models import DetectionDecoder
from harmonic_tf.training.building import load_model
from harmonic_tf.training.calibrating import calibrate, reason_against
from harmonic_tf.training.inference import detect, prediction_function
from harmonic_tf.training.measuring import measure, report, validated
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DecoderSettings
from tests.training.conftest import KNOWN


@pytest.fixture(scope="module")
def model(tiny_detector):
    model = tiny_detector()
    model.prediction_decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
    return model


@pytest.fixture(scope="module")
def val(model, splits):
    return validated(prediction_function(model), splits[0], 64, 4)


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.write_class_names(KNOWN)
    return run


@pytest.mark.parametrize(
    ("val", "words"),
    [
        (None, "there is no validation split, .* Give --val_split or --val_fraction"),
        ("train", "--val_split=train is the --train_split too. Name another"),
        ("test", "--val_split=test is the --test_split too. Name another"),
    ],
)
def test_nothing_is_calibrated_on_what_is_trained_or_reported(val, words):
    settings = SimpleNamespace(val_part=val, train_split="train", test_split="test")
    assert re.search(words, reason_against(settings))
    settings.val_part = "val"
    assert reason_against(settings) is None


def test_a_calibration_is_of_the_scores_that_it_was_fitted_to(run, val, caplog):
    run.write_settings({"nms": "hard"}, "")
    calibrate(run, val, "linear")
    with flagsaver.flagsaver((common.RUN, run.path)):
        absl_flags.FLAGS.mark_as_parsed()
        assert common.calibration("hard") is not None
        with caplog.at_level(logging.INFO):
            assert common.calibration("vote") is None
        assert "after --nms=hard: not used after vote" in caplog.text
        with flagsaver.flagsaver((common.CHECKPOINT, "last")):
            assert common.calibration("hard") is None
        with flagsaver.flagsaver((common.CALIBRATED, False)):
            assert common.calibration("hard") is None


def test_a_calibration_is_kept_in_the_run(run, val):
    calibration = calibrate(run, val, "isotonic")
    assert calibration.fitted_on == val.name
    np.testing.assert_array_equal(run.calibration().table, calibration.table)
    with open(run.calibration_file, "w", encoding="utf-8") as file:
        file.write("{")
    with pytest.raises(CalibrationError, match=r"calibration\.json: is not JSON"):
        run.calibration()
    run.write_calibration(None)
    run.write_calibration(None)  # what is not there need not be removed
    assert run.calibration() is None


def test_a_new_run_does_not_take_the_calibration_of_an_earlier_one(run, val):
    calibrate(run, val, "linear")
    run.create(resume=True)
    assert run.calibration().method == "linear"
    run.create(overwrite=True)
    assert run.calibration() is None


def test_where_nothing_is_found_scores_are_not_calibrated(run, val, caplog):
    calibrate(run, val, "platt")
    nothing = val.found.take(np.zeros(len(val.found.scores), bool))
    with caplog.at_level(logging.WARNING):
        assert calibrate(run, val._replace(found=nothing), "platt") is None
    assert "nothing was found there that scores could be calibrated by" in caplog.text
    assert run.calibration() is None


def test_classes_calibrated_nearly_as_all_together_are_named(run, val, caplog):
    rare = val.found.take(np.flatnonzero(val.found.classes != 1))
    with caplog.at_level(logging.INFO):
        assert calibrate(run, val._replace(found=rare), "isotonic").detections["ring"] == 0
    assert "by fewer than 20 detections in" in caplog.text
    assert "ring" in caplog.text


def test_calibrated_scores_are_measured_beside_the_raw_ones(run, model, val, splits, tmp_path):
    calibration = calibrate(run, val, "isotonic")
    raw = measure(model, splits[1], 64, 4, val)
    measured = measure(model, splits[1], 64, 4, val, calibration)
    np.testing.assert_array_equal(measured.raw.scores, raw.found.scores)
    before, after = measured.metrics["before_calibration"], measured.metrics["calibration"]
    for name in ("LaECE", "LaACE", "LRP"):
        np.testing.assert_equal(before[name], raw.metrics["calibration"][name])
    np.testing.assert_allclose(
        [after["LRP"], measured.metrics["coco"]["AP"]],
        [before["LRP"], raw.metrics["coco"]["AP"]],
        atol=1e-6,
    )
    assert before["AP"] == pytest.approx(raw.metrics["coco"]["AP"])
    assert measured.metrics["calibrated_by"] == {"method": "isotonic", "fitted_on": val.name}
    expected = lrp_optimal_thresholds(val.truth, calibration(val.found))
    np.testing.assert_allclose([after["thresholds"][name] for name in KNOWN], expected)
    # Whether LaECE falls is chance on so few pictures; tests of the fits say where it does.
    scored = calibration_metrics(measured.truth, calibration(raw.found), expected)
    np.testing.assert_allclose(after["LaECE"], scored["LaECE"], rtol=1e-5)
    assert after["LaECE"] != before["LaECE"]

    report(RunDirectory(str(tmp_path)), measured, {}, [], 2)
    assert {"calibration.png", "calibration_before.png"} <= set(os.listdir(tmp_path))
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        for words in ("raw scores", "calibrated", "AP before and after", "isotonic, fitted on"):
            assert words in text, (name, words)
    kept = read_detections(
        str(tmp_path / "detections.json"), measured.truth, splits[1].category_ids
    )
    np.testing.assert_array_equal(kept.scores, measured.found.scores)


def test_a_loaded_detector_gives_calibrated_scores(run, model, val, splits):
    calibration = calibrate(run, val, "isotonic")
    run.save_model(model, "best")
    settings = DecoderSettings(0.0, 0.5, 20, "hard", False)
    loaded = load_model(run.checkpoint("best"), settings, run.calibration())
    found = detect(prediction_function(loaded), splits[0], 64, 4, progress=False)
    expected = calibration(val.found)
    by_picture = np.lexsort((-expected.scores, expected.image_index))
    np.testing.assert_allclose(found.scores, expected.scores[by_picture], atol=1e-6)
    assert load_model(run.checkpoint("best"), settings).prediction_decoder.calibration is None

    run.save_model(loaded, "last")  # a model that is saved calibrated stays so
    for again in (load_model(run.checkpoint("last")), load_model(run.checkpoint("last"), settings)):
        np.testing.assert_array_equal(again.prediction_decoder.calibration, calibration.table)


def test_no_validation_split_no_detections(model):
    assert validated(prediction_function(model), None, 64, 4) is None

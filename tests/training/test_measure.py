"""From a detector, or from what any detector found, to numbers, files and back."""

import json
import os

import numpy as np
import pytest

from harmonic_tf.evaluation import ResultsError, fit_calibration, lrp_optimal_thresholds
from harmonic_tf.models import DetectionDecoder
from harmonic_tf.training.inference import prediction_function
from harmonic_tf.training.measuring import (
    keep,
    measure,
    measure_found,
    measure_results,
    report,
    validated,
)
from harmonic_tf.training.run_directory import RunDirectory
from tests.training.conftest import KNOWN


@pytest.fixture(scope="module")
def measured(tiny_detector, splits):
    model = tiny_detector()
    model.prediction_decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
    val = validated(prediction_function(model), splits[0], 64, 4)
    return measure(model, splits[1], 64, 4, val)


def test_nms_leaves_a_part_of_the_candidates(measured):
    before = set(zip(measured.candidates.image_index, measured.candidates.scores))
    after = set(zip(measured.found.image_index, measured.found.scores))
    assert after < before
    assert measured.metrics["suppression"]["suppressed"] > 0


def test_operating_points_come_from_the_validation_split(measured, tiny_detector, splits):
    model = tiny_detector()
    model.prediction_decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
    val = measure(model, splits[0], 64, 4)
    expected = lrp_optimal_thresholds(val.truth, val.found)
    # The split that is measured does not count as another one.
    found_there = validated(prediction_function(model), splits[0], 64, 4)
    again = measure(model, splits[0], 64, 4, found_there)
    assert again.metrics["calibration"]["thresholds_from"] == "the same detections"
    found = measured.metrics["calibration"]["thresholds"]
    np.testing.assert_allclose([found[name] for name in KNOWN], expected, rtol=1e-6)


def test_a_report_can_be_measured_again(measured, tmp_path):
    report(RunDirectory(str(tmp_path)), measured, {}, [], 2)
    files = set(os.listdir(tmp_path))
    assert {"metrics.json", "detections.json", "report.md", "report.html"} <= files

    again = measure_results(measured.data, str(tmp_path / "detections.json"))
    for section in ("coco", "consistency", "voc"):
        np.testing.assert_equal(again.metrics[section], measured.metrics[section])
    rows = json.loads((tmp_path / "detections.json").read_text())
    # The annotation file numbers the classes otherwise than the detector.
    numbers = dict(zip(KNOWN, measured.data.category_ids))
    assert sorted(numbers.values()) != sorted(range(1, 4))
    assert {row["category_id"] for row in rows} <= set(numbers.values())


def test_what_was_found_already_is_measured_as_if_it_were_found_anew(
    tiny_detector, splits, tmp_path
):
    model = tiny_detector()
    model.prediction_decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
    anew = measure(model, splits[0], 64, 4)
    val = validated(prediction_function(model), splits[0], 64, 4)
    measured = measure_found(splits[0], val.found)
    np.testing.assert_equal(measured.metrics["coco"], anew.metrics["coco"])
    np.testing.assert_equal(measured.metrics["calibration"], anew.metrics["calibration"])
    calibration = fit_calibration(val.truth, val.found, "isotonic", val.name)
    calibrated = measure_found(splits[0], val.found, calibration=calibration)
    expected = measure(model, splits[0], 64, 4, calibration=calibration)
    assert calibrated.metrics["calibrated_by"]["fitted_on"] == splits[0].name
    np.testing.assert_equal(calibrated.metrics["calibration"], expected.metrics["calibration"])

    keep(str(tmp_path / "new" / "val"), measured)
    again = measure_results(splits[0], str(tmp_path / "new" / "val" / "detections.json"))
    np.testing.assert_equal(again.metrics["coco"], measured.metrics["coco"])


def test_detections_of_other_pictures_are_refused(measured, tmp_path):
    file = tmp_path / "found.json"
    row = {"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    file.write_text(json.dumps([row]))
    with pytest.raises(ResultsError, match="99"):
        measure_results(measured.data, str(file))

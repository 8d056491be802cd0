"""A calibration comes back from its file as it was; a damaged file is explained."""

import json

import numpy as np
import pytest

from harmonic_tf.evaluation import (
    Calibration,
    CalibrationError,
    read_calibration,
    write_calibration,
)

NAMES = ["Käfer", "cat"]


@pytest.fixture
def calibration():
    return Calibration(
        method="isotonic",
        class_names=NAMES,
        table=np.array([[0.0, 1 / 3, 0.5], [0.1, 0.2, 1.0]]),
        fitted_on="scenes val",
        detections={"Käfer": 7, "cat": 0},
        before={"LaECE": 0.25, "AP": float("nan")},
        after={"LaECE": 0.125, "AP": float("nan")},
    )


def test_a_calibration_comes_back(calibration, tmp_path):
    path = str(tmp_path / "calibration.json")
    write_calibration(path, calibration)
    read = read_calibration(path, NAMES)
    np.testing.assert_array_equal(read.table, calibration.table)
    for field in ("method", "class_names", "fitted_on", "detections"):
        assert getattr(read, field) == getattr(calibration, field)
    assert (read.before["LaECE"], read.after["LaECE"]) == (0.25, 0.125)
    assert [line.split() for line in read.summary().splitlines()] == [
        ["scenes", "val", "raw", "scores", "isotonic"],
        ["LaECE", "0.250", "0.125"],
        ["AP", "-", "-"],
    ]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("method", "magic", "method = 'magic' is none of isotonic"),
        ("class_names", ["cat", "Käfer"], r"class_names = .* are not the detector's, \['Käfer'"),
        ("table", [[0, 1]], "table = .* is not a list of 2 rows, one a class"),
        ("table", 7, "table = 7 is not a list"),
        ("table", [[0, 1], [0, 0.5, 1]], "row of 'cat' = .* as long as the others"),
        ("table", [[1], [1]], "row of 'Käfer' = .* at least 2 numbers"),
        ("table", [[0, 1], [0, "1"]], "row of 'cat' = '1' is not a number"),
        ("table", [[0, 1], [0, True]], "row of 'cat' = True is not a number"),
        ("table", [[0, 1], [0, 1.5]], "row of 'cat' = 1.5 is not a number in"),
        ("table", [[0, 1], [0, float("nan")]], "row of 'cat' = nan is not a number in"),
        ("table", [[0.5, 0.5], [0, 1]], r"row of 'Käfer' = \[0.5, 0.5\] does not rise"),
        ("fitted_on", None, "fitted_on = None is not a text"),
        ("detections", [1, 2], "detections = .* is not an object of numbers"),
        ("before", {"AP": "high"}, "before = .* is not an object of numbers"),
    ],
)
def test_a_damaged_calibration_is_explained(calibration, tmp_path, field, value, words):
    path = tmp_path / "calibration.json"
    write_calibration(str(path), calibration)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CalibrationError, match=words) as error:
        read_calibration(str(path), NAMES)
    assert str(error.value).startswith(f"{path}: {field}")
    assert "Fit it anew by `harmonic-tf calibrate --run=RUN`" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not JSON"),
        ('{"method": "isoto', "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"method": "isotonic"}', "class_names is missing"),
    ],
)
def test_what_is_no_calibration_is_explained(tmp_path, content, words):
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(CalibrationError, match=f"{path}: {words}.*Fit it anew"):
        read_calibration(str(path), NAMES)

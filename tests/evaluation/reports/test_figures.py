import os

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.evaluation import score_iou_scatter
from harmonic_tf.evaluation.reports.charts import (
    bars,
    calibration_diagram,
    confusion_matrix_chart,
    precision_recall_curves,
)

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # the first two of matplotlib's ten
NAMES = ["$odd$", "<b>&", "a name that goes on and on and on and does not end"]


def opened(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture.convert("RGB"))


def count(pixels, color):
    return int((pixels == color).all(axis=-1).sum())


@pytest.mark.parametrize("points", [0, 1, 5000])
def test_scatter(tmp_path, points):
    rng = np.random.default_rng(0)
    path = tmp_path / "scatter.png"
    score_iou_scatter(path, rng.random(points), rng.random(points))
    assert opened(path).shape == (600, 600, 3)
    assert os.listdir(tmp_path) == ["scatter.png"]


def test_curves(tmp_path):
    path = tmp_path / "curves.png"
    nothing, perfect = (np.zeros(0), np.zeros(0)), (np.array([0.5, 1.0]), np.array([1.0, 1.0]))
    precision_recall_curves(path, {"a": {"$x$": perfect, "y": nothing}, "b": {}})
    pixels = opened(path)
    assert pixels.shape == (460, 1080, 3)
    # Both classes are drawn, or at least named: a curve along the axis is hard to see.
    assert count(pixels, BLUE) > 200 and count(pixels, ORANGE) > 20
    right = pixels[:, 600:]
    assert count(right, BLUE) == 0 and count(right, (128, 128, 128)) > 10  # "nothing to show"


def test_of_many_classes_the_lowest_curves_are_named(tmp_path):
    recall = np.linspace(0.01, 1, 100)
    curves = {f"{k}": (recall, np.full(100, (k + 1) / 80)) for k in range(80)}
    path = tmp_path / "curves.png"
    precision_recall_curves(path, {"a": curves})
    pixels = opened(path)
    height = {  # where curves run from left to right: nearly the whole width in one colour
        color: np.flatnonzero((pixels == color).all(axis=-1).sum(axis=1) > 350)
        for color in (BLUE, (191, 191, 191), (0, 0, 0))
    }
    # Downwards: those left gray, the mean, and the ten lowest, the very lowest in blue.
    assert height[191, 191, 191].min() < height[BLUE].min()
    assert len(height[BLUE]) <= 3


def test_scores_that_mean_overlap_leave_no_gap(tmp_path):
    centers, counts = (np.arange(25) + 0.5) / 25, np.arange(25)
    path = tmp_path / "calibration.png"
    calibration_diagram(path, centers, centers, counts)
    calibrated = opened(path)
    with np.errstate(invalid="ignore"):
        calibration_diagram(path, centers, centers / 2, counts)
    gaps = opened(path)
    pink = (243, 190, 190)  # a third of the red over white
    near = [(np.abs(pixels.astype(int) - pink).max(axis=-1) < 4) for pixels in (calibrated, gaps)]
    assert near[0].sum() < 1500 < 10_000 < near[1].sum()  # the legend's sample is there always
    assert count(calibrated, BLUE) > 1.5 * count(gaps, BLUE)


def test_no_detections_to_calibrate(tmp_path):
    path = tmp_path / "calibration.png"
    empty = np.full(25, np.nan)
    calibration_diagram(path, empty, empty, np.zeros(25, int))
    assert opened(path).shape == (600, 600, 3)


@pytest.mark.parametrize("classes", [1, 3, 80, 200])
def test_confusion_matrix(tmp_path, classes):
    names = (NAMES * 70)[:classes]
    matrix = np.diag(np.arange(classes + 1))
    path = tmp_path / "confusion.png"
    confusion_matrix_chart(path, matrix, names)
    pixels = opened(path)
    assert max(pixels.shape) <= 1700
    filled = count(pixels, (8, 48, 107))  # the dark end of the scale: cells of share 1
    assert filled > 500


def test_a_bar_for_each_number(tmp_path):
    path = tmp_path / "bars.png"
    nan = float("nan")
    bars(
        path,
        {
            "one": (["a", "$b$\n(3)"], {"AP": [0.5, nan]}),
            "two": (["c"], {"AP": [nan], "other": [1.0]}),
        },
    )
    pixels = opened(path)
    left, right = pixels[:280, :540], pixels[:280, 540:]  # above the legend
    assert count(left, BLUE) > 5000 and count(left, ORANGE) == 0
    assert count(right, BLUE) == 0 and count(right, ORANGE) > 5000

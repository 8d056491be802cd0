"""Anchors that are fitted to what is trained on."""

import logging

import numpy as np
import pytest

from flags import model as flags
from harmonic_tf.anchors import AnchorGrid, best_iou
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.training.building import with_fitting_anchors
from harmonic_tf.training.settings import DecoderSettings, ModelSettings

SIZE = 320


def settings(**given):
    usual = {
        "name": "retinanet",
        "backbone": None,
        "backbone_weights": None,
        "start_from": None,
        "anchors": AnchorGrid(),
        "fit_anchors": True,
        "channels": 16,
        "head_depth": 0,
        "cosine_classifier": False,
        "positive_iou": 0.5,
        "negative_iou": 0.4,
        "freeze_batch_norm": False,
        "decoder": DecoderSettings(0.05, 0.5, 100, "hard", False),
    }
    return ModelSettings(**{**usual, **given})


def objects_of(*sides, size=SIZE):
    """An image with an object of each width and height."""
    boxes = np.array([[5, 5, 5 + w, 5 + h] for w, h in sides], np.float32)
    nothing = np.zeros(len(boxes), bool)
    annotation = Annotation(
        image_path="a.jpg",
        image_id=1,
        width=size,
        height=size,
        boxes=boxes,
        classes=np.zeros(len(boxes), np.int32),
        difficult=nothing,
        crowd=nothing,
    )
    return DetectionData("tiny", ("thing",), [annotation])


def matched(grid, data, threshold=0.5):
    return np.mean(best_iou(grid, data.annotations[0].boxes, SIZE, SIZE) >= threshold)


def test_small_objects_get_small_anchors():
    data = objects_of((8, 9), (10, 8), (12, 12), (9, 14), (16, 11))
    fitted = with_fitting_anchors(settings(), data, SIZE)
    assert matched(AnchorGrid(), data) == 0 and matched(fitted.anchors, data) == 1
    assert min(fitted.anchors.sizes) < 16
    assert fitted.anchors.per_cell == AnchorGrid().per_cell  # at the same cost
    assert not fitted.fit_anchors  # and so they stay


def test_objects_count_at_the_size_that_the_model_sees():
    data = objects_of((40, 45), (50, 40), (60, 60), (45, 70), size=5 * SIZE)
    fitted = with_fitting_anchors(settings(), data, SIZE)
    assert min(fitted.anchors.sizes) < 16


@pytest.mark.parametrize("given", [{"fit_anchors": False}, {"name": "yolov8_s"}])
def test_anchors_stay_where_they_are_given_or_there_are_none(given):
    data = objects_of((8, 9), (10, 8))
    assert with_fitting_anchors(settings(**given), data, SIZE).anchors == AnchorGrid()


def test_few_matches_are_a_warning_with_their_share(caplog):
    data = objects_of((8, 9), (64, 64))
    with caplog.at_level(logging.WARNING, "absl"):
        with_fitting_anchors(settings(fit_anchors=False), data, SIZE)
    assert "Anchors overlap only 50 % of the objects by 0.5 or more" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "absl"):
        with_fitting_anchors(settings(), data, SIZE)
    assert not caplog.text


def test_a_run_records_them_to_the_last_digit():
    grid = AnchorGrid(sizes=(9.51, 17.0, 30.123456789, 64, 128), scales=(1, 1.587401052))
    recorded = flags.flags_of_anchors(grid)
    assert [float(v) for v in recorded["anchor_sizes"]] == list(grid.sizes)
    assert [float(v) for v in recorded["anchor_scales"]] == list(grid.scales)
    assert [float(v) for v in recorded["anchor_ratios"]] == list(grid.aspect_ratios)

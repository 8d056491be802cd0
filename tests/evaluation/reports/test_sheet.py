import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonic_tf.colors import class_colors
from harmonic_tf.evaluation import detection_sheet
from harmonic_tf.evaluation.reports.canvas import Canvas
from harmonic_tf.evaluation.reports.layout import (
    Rectangle,
    fitted,
    justified_rows,
    place_label,
    shortened,
    window_around,
)

BLUE = (31, 119, 180)  # the first of matplotlib's ten
sizes = st.lists(st.tuples(st.integers(20, 900), st.integers(20, 900)), min_size=1, max_size=14)


def opened(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture.convert("RGB"))


def count(pixels, color):
    return int((pixels == color).all(axis=-1).sum())


@settings(deadline=None, max_examples=50)
@given(sizes, st.integers(1, 5))
def test_rows_fill_the_sheet_and_keep_shapes(shapes, columns):
    places = justified_rows(shapes, columns, width=1000, gap=5, max_height=400)
    columns = min(columns, len(shapes))
    bottom = -5.0
    for start in range(0, len(shapes), columns):
        row = places[start : start + columns]
        height = row[0].height
        assert height <= 400
        for place, (h, w) in zip(row, shapes[start:]):
            assert place.y == pytest.approx(bottom + 5)
            assert place.height == height
            assert place.width / place.height == pytest.approx(w / h)
        for left, right in zip(row, row[1:]):
            assert right.x == pytest.approx(left.x + left.width + 5)
        right_edge = row[-1].x + row[-1].width
        is_short = len(row) < columns
        if is_short:
            assert height <= places[start - 1].height
        assert right_edge == pytest.approx(1000) or height == 400 or is_short
        assert right_edge <= 1000 + 1e-6
        bottom = row[0].y + height


def test_labels_avoid_each_other_and_the_edge():
    frame, box = Rectangle(0, 0, 200, 100), Rectangle(50, 40, 60, 30)
    taken = []
    for _ in range(4):
        spot = place_label(box, (30, 10), frame, taken)
        for other in taken:
            apart_x = spot.x + 30 <= other.x or other.x + 30 <= spot.x
            apart_y = spot.y + 10 <= other.y or other.y + 10 <= spot.y
            assert apart_x or apart_y
        taken.append(spot)
    assert taken[0] == Rectangle(50, 30, 30, 10)  # just above the box, at its left edge
    corner = place_label(Rectangle(190, 0, 10, 10), (30, 10), frame, [])
    assert corner.x == 170 and corner.y >= 0


@settings(deadline=None, max_examples=100)
@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.tuples(*[st.floats(-100, 1000)] * 4),
    st.floats(0.5, 2),
)
def test_a_window_shows_the_box_and_its_surroundings(size, corners, shape):
    (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])
    height, width = size
    left, top, right, bottom = window_around((x1, y1, x2, y2), size, shape)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    for low, high, start, end, limit in (
        (x1, x2, left, right, width),
        (y1, y2, top, bottom, height),
    ):
        low, high = (min(max(value, 0), limit) for value in (low, high))
        assert start <= max(low - 8, 0) + 1e-6 and end >= min(high + 8, limit) - 1e-6
    frame = Rectangle(10, 20, 300, 200)
    place = fitted((bottom - top, right - left), frame)
    assert place.width / place.height == pytest.approx((right - left) / (bottom - top))
    assert place.width == pytest.approx(300) or place.height == pytest.approx(200)
    assert place.x + place.width / 2 == pytest.approx(160)
    assert place.y + place.height / 2 == pytest.approx(120)


def test_a_window_is_as_small_as_allowed():
    # A box of 40 x 20 with 10 around it is 60 x 40; of the asked shape, 60 x 60.
    assert window_around((50, 60, 90, 80), (200, 200), 1.0) == (40, 40, 100, 100)
    assert window_around((0, 0, 40, 20), (200, 200), 1.0) == (0, 0, 60, 60)
    assert window_around((50, 60, 90, 80), (50, 200), 1.0)[1::2] == (0, 50)


def test_long_names_are_cut():
    assert shortened("ring", 4) == "ring"
    assert shortened("rings", 4) == "rin\u2026"


def test_sheet(tmp_path, ground_truth_of, detections_of):
    rng = np.random.default_rng(0)
    shapes = [(120, 160), (300, 200), (64, 64), (500, 700), (90, 200)] * 2 + [(100, 100)]
    pictures = {i: rng.integers(0, 255, (*shape, 3), np.uint8) for i, shape in enumerate(shapes)}
    truth = ground_truth_of(
        [(i, (10, 10, 50, 50), i % 2, False, False) for i in range(11)],
        image_ids=range(11),
        class_names=["$odd$", "_even"],
    )
    found = detections_of([(i, (12, 9, 500, 55), i % 2, i / 11) for i in range(11)])
    path = tmp_path / "detections.png"
    detection_sheet(path, pictures, truth, found)
    pixels = opened(path)
    assert 1590 <= pixels.shape[1] <= 1630
    assert 600 <= pixels.shape[0] <= 2000
    assert os.listdir(tmp_path) == ["detections.png"]


def test_sheet_without_ground_truth_has_no_legend_for_it(
    tmp_path, ground_truth_of, detections_of, monkeypatch
):
    legends = []

    def save(canvas, path, **legend):
        legends.append(legend)

    monkeypatch.setattr(Canvas, "save", save)
    pictures, found = (
        {0: np.zeros((80, 80, 3), np.uint8)},
        detections_of([(0, (9, 9, 50, 50), 0, 0.1)]),
    )
    for objects in ([], [(0, (10, 10, 50, 50), 0, False, False)]):
        truth = ground_truth_of(objects)
        detection_sheet(str(tmp_path / "sheet.png"), pictures, truth, found, min_score=0.0)
        detection_sheet(str(tmp_path / "sheet.png"), pictures, truth, found, min_score=0.5)
    assert [legend["dashed"] is None for legend in legends] == [True, True, False, False]
    assert [legend["solid"] for legend in legends[:2]] == [
        "detection",
        "detection, score \u2265 0.5",
    ]
    assert [list(legend["classes"]) for legend in legends[:2]] == [["thing"], []]


def test_sheet_draws_what_is_confident_and_names_what_is_missed(
    tmp_path, ground_truth_of, detections_of
):
    pictures = {1: np.zeros((200, 200, 3), np.uint8)}
    box, other = (20, 50, 100, 150), (120, 50, 180, 150)
    truth = ground_truth_of(
        [(1, box, 0, False, False), (0, other, 0, False, False)], image_ids=["a", "b"]
    )

    def sheet(found, **options):
        detection_sheet(tmp_path / "x.png", pictures, truth, detections_of(found), **options)
        return opened(tmp_path / "x.png")

    hit = sheet([(1, box, 0, 0.4)])
    assert count(hit, BLUE) > 500
    shade = (64, 64, 64)
    missed = sheet([(1, box, 0, 0.2)])
    assert count(missed, BLUE) == 0
    assert count(missed, shade) > 100 > count(hit, shade)
    assert count(sheet([(1, box, 0, 0.2)], min_score=0.1), BLUE) > 500
    assert count(sheet([(0, box, 0, 0.9)]), BLUE) == 0  # in another picture
    # 200 pixels are shown as 640: the left edge of (10, 50, 100, 150) runs at 32, from 160 to 480.
    moved = sheet([(1, (10, 50, 100, 150), 0, 0.4)])
    edge = (moved[200:440, 30:40] == BLUE).all(axis=-1)
    assert edge.any(axis=1).all() and edge.sum(axis=1).max() <= 4


def test_sheet_without_pictures(tmp_path, scene):
    with pytest.raises(ValueError, match="pictures"):
        detection_sheet(tmp_path / "x.png", {}, *scene(1))


@pytest.mark.parametrize("classes", [0, 1, 10, 11, 80])
def test_classes_have_their_own_colors(classes):
    colors = class_colors(classes)
    assert len(set(colors)) == len(colors) == classes

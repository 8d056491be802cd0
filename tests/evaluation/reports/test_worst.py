import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.evaluation.reports.crops import draw_cases
from harmonic_tf.evaluation.reports.worst import worst_cases

BOX, FAR = (0, 0, 10, 10), (100, 100, 120, 110)
HALF = (0, 0, 10, 4)  # IoU 0.4 with BOX
MOST = (0, 0, 10, 8)  # IoU 0.8 with BOX


@pytest.fixture
def by_hand(ground_truth_of, detections_of):
    truth = ground_truth_of(
        [(picture, BOX, 0, False, False) for picture in range(4)]
        + [
            (4, BOX, 0, True, False),
            (5, BOX, 0, False, True),
            (6, (0, 0, 20, 20), 1, False, False),
        ],
        image_ids=list("abcdefg"),
        class_names=("ring", "star"),
    )
    found = detections_of(
        [
            (0, BOX, 0, 0.9),  # right
            (0, FAR, 0, 0.8),  # a false positive
            (0, FAR, 1, 0.85),  # a worse one in the same picture
            (1, HALF, 0, 0.7),  # misplaced, and so its object is missed
            (2, MOST, 0, 0.2),  # well placed, not confident: missed too
            (2, HALF, 0, 0.1),
            (3, BOX, 1, 0.95),  # the wrong class
            (4, FAR, 0, 0.3),  # the difficult object itself need not be found
            (5, BOX, 0, 0.99),  # in a crowd
        ]
    )
    return truth, found


def rows(cases):
    return [(case.detection, case.object, round(case.iou, 6)) for case in cases]


def test_by_hand(by_hand):
    cases = worst_cases(*by_hand)
    assert rows(cases["false_positives"]) == [(6, -1, 0), (2, -1, 0), (7, -1, 0)]
    assert rows(cases["misplaced"]) == [(3, 1, 0.4)]
    assert rows(cases["unconfident"]) == [(4, 2, 0.8)]
    assert rows(cases["missed"]) == [(-1, 6, 0), (3, 1, 0.4), (4, 2, 0.8), (-1, 3, 0)]
    assert [case.picture for case in cases["missed"]] == [6, 1, 2, 3]
    assert {
        kind: len(found) for kind, found in worst_cases(*by_hand, count=1).items()
    } == dict.fromkeys(cases, 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_detections_is_no_matter(scene, seed):
    truth, found = scene(seed)
    order = np.random.default_rng(seed).permutation(len(found.scores))
    fields = [field.name for field in dataclasses.fields(found)]
    shuffled = type(found)(*(getattr(found, field)[order] for field in fields))
    for kind, cases in worst_cases(truth, found).items():
        again = worst_cases(truth, shuffled)[kind]
        assert [case.picture for case in again] == [case.picture for case in cases]
        assert [order[case.detection] for case in again if case.detection >= 0] == [
            case.detection for case in cases if case.detection >= 0
        ]


def test_crops(by_hand, tmp_path):
    truth, found = by_hand
    cases = worst_cases(truth, found)
    asked = []

    def picture(index):
        asked.append(index)
        return np.full((1, 1, 3) if index == 3 else (60, 400, 3), 128, np.uint8)

    path = tmp_path / "missed.png"
    draw_cases(path, cases["missed"], picture, truth, found)
    assert asked == [6, 1, 2, 3]
    with Image.open(path) as sheet:
        assert 1100 < sheet.width < 1250 and 650 < sheet.height < 800
    assert os.listdir(tmp_path) == ["missed.png"]
    with pytest.raises(ValueError, match="cases"):
        draw_cases(path, [], picture, truth, found)


def test_a_crop_is_drawn_from_close_by(ground_truth_of, detections_of, tmp_path):
    truth = ground_truth_of([])
    found = detections_of([(0, (500, 500, 600, 600), 0, 0.9)])
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    pixels[500:600, 500:600] = (0, 255, 0)
    path = tmp_path / "x.png"
    draw_cases(path, worst_cases(truth, found)["false_positives"], lambda _: pixels, truth, found)
    with Image.open(path) as sheet:
        green = (np.array(sheet.convert("RGB")) == (0, 255, 0)).all(axis=-1)
    # The box with a quarter of it around is 150 high, shown as 285: its side is 190 pixels, of
    # which the outline and the label, inside or not, take a little.
    assert green.any(axis=1).sum() == pytest.approx(190, abs=6)
    assert green.any(axis=0).sum() == pytest.approx(190, abs=6)

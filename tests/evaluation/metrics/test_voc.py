import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.evaluation import voc_map
from harmonic_tf.evaluation.metrics.voc import (
    average_precision_11_point,
    average_precision_all_point,
    true_positives,
)


def test_hand_worked(ground_truth_of, detections_of):
    a, b = (0, 0, 10, 10), (20, 20, 30, 30)
    c, d = (0, 0, 10, 10), (20, 0, 30, 10)
    truth = ground_truth_of(
        [
            (0, a, 0, False, False),
            (0, b, 0, False, False),
            (1, c, 0, False, False),
            (1, d, 0, True, False),
        ],
        image_ids=["p", "q"],
        class_names=["thing", "absent"],
    )
    found = detections_of(
        [
            (0, (20, 20, 30, 24.9), 0, 0.4),  # b with IoU 49 / 100: false positive
            (0, a, 0, 0.9),  # a: true positive
            (1, d, 0, 0.8),  # d, difficult: neither
            (0, a, 0, 0.7),  # a again: false positive
            (1, (0, 0, 10, 5), 0, 0.6),  # c with IoU 50 / 100, just enough: true positive
            (1, (20, 0, 30, 9), 0, 0.5),  # d again, still neither
            (1, d, 1, 0.99),  # of a class without objects: not in any mean
        ]
    )
    # 3 objects to find (not d). By score, the neither ones left out: T F T F.
    # Precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3.
    # 11 points: 1 at recall 0, 0.1, 0.2, 0.3; 2/3 at 0.4, 0.5, 0.6; 0 from 0.7 on: (4 + 2) / 11.
    # All points: 1/3 of recall at 1 and 1/3 at 2/3: 5/9.
    result = voc_map(truth, found)
    assert result["VOC07"] == pytest.approx(6 / 11)
    assert result["VOC10"] == pytest.approx(5 / 9)
    assert result["per_class"]["thing"] == pytest.approx({"VOC07": 6 / 11, "VOC10": 5 / 9})
    assert np.isnan(list(result["per_class"]["absent"].values())).all()


def test_hand_worked_envelope():
    # F T T of 4 objects: precision 0, 1/2, 2/3 at recall 0, 1/4, 2/4. The envelope is 2/3 up to
    # recall 1/2: all points 1/2 * 2/3, 11 points 6 of them (0 to 0.5) at 2/3.
    hits = np.array([False, True, True])
    assert average_precision_all_point(hits, 4) == pytest.approx(1 / 3)
    assert average_precision_11_point(hits, 4) == pytest.approx(4 / 11)


def test_recall_of_three_tenths_counts_at_three_tenths():
    # 3 of 10 found, none wrong: precision 1 at recall 0, 0.1, 0.2 and 0.3 of the 11.
    assert average_precision_11_point(np.ones(3, bool), 10) == pytest.approx(4 / 11)


def test_a_detection_stays_with_its_best_object(ground_truth_of, detections_of):
    # The second detection overlaps the first object with 9 / 11 and the second with 8 / 12: it
    # goes to the first one, which is taken, and is a false positive for all its IoU with the other.
    truth = ground_truth_of(
        [(0, (0, 0, 10, 10), 0, False, False), (0, (3, 0, 13, 10), 0, False, False)]
    )
    found = detections_of([(0, (0, 0, 10, 10), 0, 0.9), (0, (1, 0, 11, 10), 0, 0.8)])
    # T F of 2 objects: precision 1 up to recall 1/2, then 0.
    assert voc_map(truth, found)["VOC10"] == pytest.approx(1 / 2)


def test_first_detection_takes_the_object():
    taken = np.array([4, -1, 4, 2, -1, 2, 0])
    assert true_positives(taken).tolist() == [True, False, False, True, False, False, True]
    assert true_positives(np.zeros(0, int)).tolist() == []


def iou_of(a, b):
    a, b = [int(v) for v in a], [int(v) for v in b]
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return Fraction(shared, area - shared)


def development_kit(truth, found, k, threshold):
    """VOCevaldet and VOCap of the VOC development kit, step by step, in exact arithmetic."""
    objects = [n for n in range(len(truth.classes)) if truth.classes[n] == k]
    count = sum(not truth.difficult[n] and not truth.crowd[n] for n in objects)
    if count == 0:
        return None
    rows = [d for d in range(len(found.classes)) if found.classes[d] == k]
    rows.sort(key=lambda d: -found.scores[d])
    detected = set()
    tp = fp = 0
    curve = []  # recall, precision
    for d in rows:
        largest, which = Fraction(0), None
        for n in objects:
            if truth.image_index[n] == found.image_index[d]:
                overlap = iou_of(found.boxes[d], truth.boxes[n])
                if overlap > largest:
                    largest, which = overlap, n
        if which is not None and largest >= threshold:
            if truth.difficult[which] or truth.crowd[which]:
                continue
            if which in detected:
                fp += 1
            else:
                tp += 1
                detected.add(which)
        else:
            fp += 1
        curve.append((Fraction(tp, count), Fraction(tp, tp + fp)))

    points = [max([p for r, p in curve if r >= Fraction(i, 10)], default=0) for i in range(11)]
    recalls = [Fraction(0), *(r for r, _ in curve), Fraction(1)]
    precisions = [Fraction(0), *(p for _, p in curve), Fraction(0)]
    for i in reversed(range(len(precisions) - 1)):
        precisions[i] = max(precisions[i], precisions[i + 1])
    area = sum((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls)))
    return {"VOC07": float(Fraction(sum(points), 11)), "VOC10": float(area)}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([Fraction(1, 2), Fraction(1, 4)]))
def test_against_the_development_kit(scene, seed, threshold):
    # A coarse grid: IoUs of exactly the threshold, and equal IoUs, do occur.
    truth, found = scene(seed, tied_scores=True, grid=6)
    result = voc_map(truth, found, float(threshold))
    expected = {
        name: development_kit(truth, found, k, threshold)
        for k, name in enumerate(truth.class_names)
    }
    known = [values for values in expected.values() if values]
    for rule in ("VOC07", "VOC10"):
        for name, values in expected.items():
            actual = result["per_class"][name][rule]
            assert actual == pytest.approx(values[rule]) if values else np.isnan(actual)
        mean = np.mean([values[rule] for values in known]) if known else np.nan
        assert result[rule] == pytest.approx(mean, nan_ok=True)


def test_perfect_empty_and_scaled(scene, ground_truth_of, detections_of):
    truth, found = scene(3)
    perfect = dataclasses.replace(
        found,
        image_index=truth.image_index,
        boxes=truth.boxes,
        scores=np.full(len(truth.classes), 0.5, np.float32),
        classes=truth.classes,
    )
    assert voc_map(truth, perfect, 1.0)["VOC07"] == voc_map(truth, perfect, 1.0)["VOC10"] == 1
    nothing = voc_map(truth, detections_of([]))
    assert nothing["VOC07"] == nothing["VOC10"] == 0
    no_objects = ground_truth_of([], truth.image_ids, truth.class_names)
    assert np.isnan(voc_map(no_objects, found)["VOC07"])
    scaled = voc_map(
        dataclasses.replace(truth, boxes=truth.boxes * 2),
        dataclasses.replace(found, boxes=found.boxes * 2),
    )
    assert scaled["VOC10"] == voc_map(truth, found)["VOC10"]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, float("nan")])
def test_threshold_out_of_range(scene, threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        voc_map(*scene(1), threshold)

"""NMS in NumPy: the decoder's own, and what it drops."""

import dataclasses

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.evaluation import (
    Detections,
    coco_metrics,
    ranking_before_nms,
    suppress,
    suppression,
)


def candidates_at_random(seed, pictures=3, boxes=60, classes=3):
    rng = np.random.default_rng(seed)
    count = pictures * boxes
    corner, size = rng.uniform(0, 60, (count, 2)), rng.uniform(10, 40, (count, 2))
    return Detections(
        image_index=np.repeat(np.arange(pictures), boxes),
        boxes=np.concatenate([corner, corner + size], axis=-1).astype(np.float32),
        scores=(1 + rng.permutation(count).astype(np.float32)) / count,
        classes=rng.integers(0, classes, count),
    )


def rows_of(detections, rows):
    return Detections(
        *(getattr(detections, field.name)[rows] for field in dataclasses.fields(Detections))
    )


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - shared
    return shared / union


def by_loops(found, threshold, limit):
    """The row that decides about each row, one picture and class after the other."""
    decides = np.full(len(found.scores), -1)
    boxes = found.boxes.astype(float)
    for image in set(found.image_index):
        kept_of_all = []
        for k in set(found.classes):
            rows = np.flatnonzero((found.image_index == image) & (found.classes == k))
            kept = []
            for row in sorted(rows, key=lambda row: -found.scores[row]):
                over = [other for other in kept if iou(boxes[row], boxes[other]) > threshold]
                if over:
                    decides[row] = over[0]
                elif len(kept) < limit:
                    decides[row] = row
                    kept.append(row)
            kept_of_all += kept
        kept_of_all.sort(key=lambda row: -found.scores[row])
        for row in kept_of_all[limit:]:
            decides[decides == row] = -1
    return decides


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("limit", [2, 7, 100])
def test_as_a_greedy_loop_does_it(threshold, limit):
    found = candidates_at_random(limit)
    shuffled = rows_of(found, np.random.default_rng(0).permutation(len(found.scores)))
    for table in (found, shuffled):
        decides = suppress(table, threshold, limit)
        np.testing.assert_array_equal(decides, by_loops(table, threshold, limit))
        # Whoever decides is kept, and at most so many are.
        assert np.all(decides[decides[decides >= 0]] == decides[decides >= 0])
        kept = decides == np.arange(len(decides))
        assert np.bincount(table.image_index[kept]).max() <= limit


@pytest.mark.parametrize("threshold, limit", [(0.3, 100), (0.5, 5), (0.5, 100), (0.8, 20)])
def test_as_the_decoder_does_it(threshold, limit):
    found = candidates_at_random(7)
    by_class = np.eye(3, dtype=np.float32)[found.classes] * found.scores[:, None]
    boxes, scores, classes, count = tf.image.combined_non_max_suppression(
        found.boxes.reshape(3, 60, 1, 4),
        by_class.reshape(3, 60, 3),
        max_output_size_per_class=limit,
        max_total_size=limit,
        iou_threshold=threshold,
        score_threshold=0.0,
        clip_boxes=False,
    )
    kept = np.flatnonzero(suppress(found, threshold, limit) == np.arange(180))
    kept = kept[np.lexsort((-found.scores[kept], found.image_index[kept]))]
    for image in range(3):
        rows, n = kept[found.image_index[kept] == image], int(count[image])
        np.testing.assert_array_equal(boxes[image][:n], found.boxes[rows])
        np.testing.assert_array_equal(scores[image][:n], found.scores[rows])
        np.testing.assert_array_equal(classes[image][:n], found.classes[rows])


def test_who_suppresses_whom_by_hand(detections_of):
    found = detections_of(
        [
            (0, (0, 0, 10, 6), 0, 0.7),  # IoU 0.6 with the best: suppressed
            (0, (0, 0, 10, 10), 0, 0.9),  # the best
            (0, (0, 0, 10, 10), 1, 0.8),  # another class: kept
            (1, (0, 0, 10, 10), 0, 0.3),  # another picture: kept
            (0, (0, 0, 10, 4), 0, 0.6),  # IoU 0.4 with the best; the first one is not kept: kept
            (0, (0, 0, 10, 5), 0, 0.1),  # 0.5 with the best, no more: but 0.8 with the fifth
            (1, (0, 0, 0, 0), 0, 0.2),  # nothing to overlap with, not even itself: kept
        ]
    )
    assert suppress(found, 0.5).tolist() == [1, 1, 2, 3, 4, 4, 6]
    # Two of a picture: the fifth goes, and with it what it would suppress.
    assert suppress(found, 0.5, max_detections=2).tolist() == [1, 1, 2, 3, -1, -1, 6]
    assert suppress(detections_of([]), 0.5).tolist() == []


def test_what_is_lost_by_hand(ground_truth_of, detections_of):
    box, other = (0, 0, 10, 10), (50, 0, 60, 10)
    crowd = (100, 0, 200, 10)
    truth = ground_truth_of(
        [(0, box, 0, False, False), (0, other, 0, False, False), (0, crowd, 0, False, True)]
    )
    found = detections_of(
        [
            (0, (0, 0, 10, 7), 0, 0.9),  # kept, IoU 0.7
            (0, (0, 0, 10, 9), 0, 0.8),  # suppressed, IoU 0.9: the best rival
            (0, (0, 0, 10, 8), 0, 0.7),  # suppressed, IoU 0.8
            (0, (50, 0, 60, 9), 0, 0.6),  # kept, IoU 0.9
            (0, (50, 0, 60, 7), 0, 0.5),  # suppressed, rightly
            (0, (30, 0, 40, 10), 0, 0.4),  # kept, alone: not contested
            (0, (150, 0, 160, 10), 0, 0.3),  # kept, on the crowd region: does not count
            (0, (150, 0, 160, 9), 0, 0.2),  # suppressed, on the crowd region
        ]
    )
    assert suppression(truth, found, 0.5) == pytest.approx(
        {"suppressed": 4, "contested": 2, "better_suppressed": 0.5, "iou_lost": 0.2}
    )


def test_nothing_suppressed_is_nan(scene, detections_of):
    truth, found = scene(3)
    for nothing in (suppression(truth, detections_of([]), 0.5), suppression(truth, found, 1.0)):
        assert nothing["suppressed"] == nothing["contested"] == 0
        assert np.isnan(nothing["better_suppressed"]) and np.isnan(nothing["iou_lost"])


def copies_of_objects(seed, scene):
    """A scene in which every object is found many times, by boxes of random score."""
    truth, _ = scene(seed, flags=False)
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(truth.classes)), 10)
    return truth, Detections(
        image_index=truth.image_index[rows],
        boxes=(truth.boxes[rows] + rng.normal(0, 4, (len(rows), 4))).astype(np.float32),
        scores=rng.uniform(0, 1, len(rows)).astype(np.float32),
        classes=truth.classes[rows],
    )


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_are_overlaps_lose_nothing(seed, scene):
    truth, found = copies_of_objects(seed, scene)
    before = suppression(truth, found, 0.5)
    assert before["better_suppressed"] > 0 and 0 < before["iou_lost"] <= 1
    assert before["suppressed"] > 0

    ranking = ranking_before_nms(truth, found, 0.5)
    kept = rows_of(found, suppress(found, 0.5) == np.arange(len(found.scores)))
    assert ranking["AP"] == pytest.approx(coco_metrics(truth, kept)["AP"])
    assert ranking["cost"] == pytest.approx(ranking["AP_oracle"] - ranking["AP"])
    assert ranking["cost"] > 0


def test_the_oracle_keeps_the_best_placed_by_hand(ground_truth_of, detections_of):
    truth = ground_truth_of([(0, (0, 0, 100, 100), 0, False, False)])
    found = detections_of([(0, (0, 0, 100, 72), 0, 0.9), (0, (0, 0, 100, 92), 0, 0.1)])
    # By score the box of IoU 0.72 is left, right at five of the ten thresholds; by overlap that of
    # IoU 0.92, right at nine.
    assert ranking_before_nms(truth, found, 0.5) == pytest.approx(
        {"AP": 0.5, "AP_oracle": 0.9, "cost": 0.4}
    )

"""Small sets of ground truth and detections, made by hand or at random."""

import numpy as np
import pytest

from harmonic_tf.evaluation import Detections, GroundTruth


def make_ground_truth(objects, image_ids=("a",), class_names=("thing",)):
    """From rows of (picture, box, class, difficult, crowd)."""
    pictures, boxes, classes, difficult, crowd = zip(*objects) if objects else ((),) * 5
    return GroundTruth(
        image_ids=list(image_ids),
        class_names=list(class_names),
        image_index=np.array(pictures, np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int64),
        difficult=np.array(difficult, bool),
        crowd=np.array(crowd, bool),
    )


def make_detections(found):
    """From rows of (picture, box, class, score)."""
    pictures, boxes, classes, scores = zip(*found) if found else ((),) * 4
    return Detections(
        image_index=np.array(pictures, np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        classes=np.array(classes, np.int64),
    )


def make_scene(seed, image_ids=(9, 4, 7, 1), flags=True, tied_scores=False, grid=None):
    """Random objects, most of them found somehow, and some false alarms; some objects ignored."""
    rng = np.random.default_rng(seed)
    class_names = ["ring", "star", "comb"]
    objects, found = [], []

    def random_box():
        if grid:
            corners = np.sort(rng.choice(grid + 1, (2, 2), replace=True), axis=0)
            return np.concatenate([corners[0], corners[1] + 1]).astype(float)
        top_left = rng.uniform(0, 200, 2)
        return np.concatenate([top_left, top_left + rng.uniform(5, 150, 2)])

    for _ in range(rng.integers(1, 25)):
        picture, box, k = rng.integers(len(image_ids)), random_box(), rng.integers(3)
        objects.append(
            (picture, box, k, flags and rng.random() < 0.2, flags and rng.random() < 0.1)
        )
        for _ in range(rng.integers(0, 3)):
            moved = box + (rng.integers(0, 2, 4) if grid else rng.normal(0, 8, 4))
            found.append((picture, moved, k))
    for _ in range(rng.integers(0, 10)):
        found.append((rng.integers(len(image_ids)), random_box(), rng.integers(3)))
    scores = rng.permutation(len(found)) / max(len(found), 1)
    if tied_scores:
        scores = np.round(scores, 1)
    rows = [(*row, score) for row, score in zip(found, scores)]
    rows = [row for row in rows if np.all(row[1][2:] > row[1][:2])]
    return make_ground_truth(objects, image_ids, class_names), make_detections(rows)


@pytest.fixture(scope="session")
def ground_truth_of():
    return make_ground_truth


@pytest.fixture(scope="session")
def detections_of():
    return make_detections


@pytest.fixture(scope="session")
def scene():
    return make_scene

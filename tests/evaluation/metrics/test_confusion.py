import numpy as np
import pytest

from harmonic_tf.evaluation import confusion_matrix
from harmonic_tf.evaluation.metrics.matching import pairwise_iou

LEFT, MIDDLE, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)


def greedily(truth, found, score_threshold, iou_threshold):
    """The same by the book: detection by detection, object by object."""
    count = len(truth.class_names)
    matrix = np.zeros((count + 1, count + 1), int)
    free = set(range(len(truth.classes)))
    for row in np.argsort(-found.scores, kind="stable"):
        if found.scores[row] < score_threshold:
            continue
        best, best_iou = None, iou_threshold
        for candidate in sorted(free):
            iou = pairwise_iou(found.boxes[[row]], truth.boxes[[candidate]])[0, 0]
            if truth.image_index[candidate] == found.image_index[row] and iou >= best_iou:
                best, best_iou = candidate, iou
        free.discard(best)
        annotated = count if best is None else truth.classes[best]
        matrix[annotated, found.classes[row]] += 1
    for row in free:
        matrix[truth.classes[row], count] += 1
    return matrix


@pytest.mark.parametrize("seed", range(8))
def test_against_plain_loops(scene, seed):
    truth, found = scene(seed, flags=False)
    for thresholds in ((0.5, 0.5), (0.0, 0.3), (0.2, 0.75)):
        np.testing.assert_array_equal(
            confusion_matrix(truth, found, *thresholds), greedily(truth, found, *thresholds)
        )


def test_by_hand(ground_truth_of, detections_of):
    truth = ground_truth_of(
        [
            (0, LEFT, 0, False, False),
            (0, MIDDLE, 1, False, False),
            (0, RIGHT, 0, False, False),
            (1, LEFT, 1, True, False),
            (1, MIDDLE, 0, False, True),
        ],
        image_ids=("a", "b"),
        class_names=("ring", "star"),
    )
    found = detections_of(
        [
            (0, LEFT, 1, 0.9),  # a ring taken for a star
            (0, MIDDLE, 0, 0.6),  # a second box on the star: the next one is surer
            (0, MIDDLE, 1, 0.8),
            (0, RIGHT, 0, 0.4),  # not confident: the ring counts as missed
            (1, LEFT, 0, 0.9),  # on a difficult object
            (1, MIDDLE, 1, 0.9),  # in a crowd
            (1, RIGHT, 1, 0.5),  # on nothing
        ]
    )
    np.testing.assert_array_equal(confusion_matrix(truth, found), [[0, 1, 1], [0, 1, 0], [1, 1, 0]])
    all_scores = confusion_matrix(truth, found, score_threshold=0.4)
    np.testing.assert_array_equal(all_scores, [[1, 1, 0], [0, 1, 0], [1, 1, 0]])


def test_the_best_of_two_overlapping_objects_is_taken(ground_truth_of, detections_of):
    truth = ground_truth_of(
        [(0, (0, 0, 10, 10), 0, False, False), (0, (0, 0, 10, 8), 1, False, False)],
        class_names=("ring", "star"),
    )
    found = detections_of([(0, (0, 0, 10, 8), 0, 0.9)])
    np.testing.assert_array_equal(confusion_matrix(truth, found), [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_nothing_at_all(ground_truth_of, detections_of):
    assert confusion_matrix(ground_truth_of([]), detections_of([])).tolist() == [[0, 0], [0, 0]]

"""What is taken for what: the confusion matrix of a detector."""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.coco_matching import match
from harmonic_tf.evaluation.metrics.consistency import CONFIDENT, WELL_PLACED


def confusion_matrix(
    ground_truth: GroundTruth,
    detections: Detections,
    score_threshold: float = CONFIDENT,
    iou_threshold: float = WELL_PLACED,
) -> np.ndarray:
    """Counts which class the objects of each class are found as.

    Boxes are matched whatever their classes: in descending score, a detection takes the free
    object of its picture that it overlaps most, by at least `iou_threshold`; each object is taken
    once. Difficult objects and crowd regions, and the detections that find them, do not count.

    The default thresholds are those from which on a detection claims to be right and is well
    placed wherever this package says so. A detector whose scores stay low needs a lower one here.

    Args:
        ground_truth: objects of C classes.
        detections: what was found.
        score_threshold: detections below it are left out, in [0, 1].
        iou_threshold: smallest overlap that makes a pair, in [0, 1].

    Returns:
        int64 [C + 1, C + 1]. Row: the object's class, column: that of the detection. The last
        column counts objects that nothing was matched with, the last row detections of nothing.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, detections)
    count = len(ground_truth.class_names)
    confident = np.flatnonzero(detections.scores >= score_threshold)
    found = dataclasses.replace(
        detections.take(confident), classes=np.zeros(len(confident), np.int64)
    )
    objects = dataclasses.replace(
        ground_truth, class_names=["object"], classes=np.zeros_like(ground_truth.classes)
    )
    matches = match(objects, found, [iou_threshold], max_detections=len(confident))

    rows, counts = matches.rows[0], ~matches.ignored[0]
    missed = matches.wanted.copy()
    missed[rows[rows >= 0]] = False
    annotated = np.append(ground_truth.classes, count)  # row -1 is the background
    matrix = np.zeros((count + 1, count + 1), np.int64)
    np.add.at(matrix, (annotated[rows[counts]], detections.classes[confident[counts]]), 1)
    np.add.at(matrix, (ground_truth.classes[missed], count), 1)
    return matrix

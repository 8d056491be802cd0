"""What it costs that scores do not say how well boxes are placed.

Average precision asks for the well placed boxes first. The same boxes, ranked by their true overlap
instead of their scores, show how much of it is lost to the ranking alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import (
    average_precision,
    mean_average_precision,
)
from harmonic_tf.evaluation.metrics.coco_matching import AREA_RANGES, Matcher
from harmonic_tf.evaluation.metrics.consistency import placement


def oracle_ranked(ground_truth: GroundTruth, detections: Detections) -> Detections:
    """The same boxes, each with its best IoU with an object of its class as its score.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, before or after NMS.

    Returns:
        The detections with other scores; 0 where the picture has no object of the class. Crowd
        regions offer no IoU: see `consistency.placement`.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, detections)
    ious, _ = placement(ground_truth, detections)
    return dataclasses.replace(detections, scores=ious.astype(np.float32))


def ranking_cost(ground_truth: GroundTruth, detections: Detections) -> dict[str, object]:
    """COCO's AP with detections ranked by score, the same ranked by the oracle, the difference.

    The boxes stay what they are: what AP_oracle is short of 1 is missed, misplaced or found more
    than once; what AP is short of AP_oracle is lost to scores that do not say how well boxes are
    placed. Where each detection overlaps one object at most, and each object one detection, no
    order is better than the oracle's.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.

    Returns:
        {"AP", "AP_oracle", "cost": AP_oracle - AP, "per_class": {class name: the same three},
        "by_size": {"small", "medium", "large": the same three}}. NaN where there is no object to
        ask for.

    Raises:
        ValueError: see `checks.check`.
    """
    rankings = detections, oracle_ranked(ground_truth, detections)
    matchers = [Matcher(ground_truth, table) for table in rankings]

    def precisions(area_range: tuple[float, float] | None = None) -> list[np.ndarray]:
        return [
            average_precision(ground_truth, table, matcher(area_range=area_range))
            for table, matcher in zip(rankings, matchers)
        ]

    by_score, by_iou = precisions()
    return {
        **costs(by_score, by_iou),
        "per_class": {
            name: costs(by_score[:, k], by_iou[:, k])
            for k, name in enumerate(ground_truth.class_names)
        },
        "by_size": {
            size: costs(*precisions(area_range)) for size, area_range in AREA_RANGES.items()
        },
    }


def costs(by_score: np.ndarray, by_iou: np.ndarray) -> dict[str, float]:
    """AP of both rankings and what lies between.

    Args:
        by_score: average precision, [T, C] or a part of that, ranked by score.
        by_iou: the same ranked by the oracle.

    Returns:
        {"AP", "AP_oracle", "cost": AP_oracle - AP}, NaN where all is NaN.
    """
    ap, ap_oracle = mean_average_precision(by_score), mean_average_precision(by_iou)
    return {"AP": ap, "AP_oracle": ap_oracle, "cost": ap_oracle - ap}

"""COCO metrics, computed by pycocotools.

Source: https://cocodataset.org/#detection-eval and Lin et al., "Microsoft COCO: Common Objects in
Context", ECCV 2014.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harmonic_tf.evaluation.checks import check
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.coco_matching import int_ids
from harmonic_tf.evaluation.metrics.matching import box_areas, object_areas

# Together in the order of `COCOeval.stats`.
AP_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
AR_METRICS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_metrics(ground_truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """The 12 COCO numbers.

    See `coco_evaluation`, which gives the same numbers per class as well.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them.

    Returns:
        Name to value, in [0, 1]: AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, AP of small
        (area up to 32^2 pixels), medium and large (from 96^2 on) objects as APs, APm, APl; recall
        with at most 1, 10, 100 detections as AR1, AR10, AR100, and by size as ARs, ARm, ARl. NaN
        where there is no object to ask for.
    """
    return coco_evaluation(ground_truth, detections)[0]


def coco_evaluation(
    ground_truth: GroundTruth, detections: Detections
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The 12 COCO numbers, and AP, AP50 and AP75 of each class, from one run of pycocotools.

    What pycocotools makes of the input:

    - Crowd regions and difficult objects are both given as `iscrowd`: nothing is lost by not
      finding them, and a detection that lies inside one (at least IoU threshold of the
      detection's own area) and matches no other object counts neither for nor against.
    - Of each class, the 100 detections with the highest scores in a picture count.
    - An object's size is its own area where `extras` knows it (in COCO's files that of its mask, so
      that the numbers by size are the official ones), else that of its box.

    Args:
        ground_truth: the annotated pictures.
        detections: what was found in them; none at all gives 0 wherever there is an object.

    Returns:
        The 12 numbers as `coco_metrics` gives them, and {class name: {"AP", "AP50", "AP75"}},
        NaN for a class without objects.

    Raises:
        ValueError: see `checks.check`.
    """
    check(ground_truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*_coco_pair(ground_truth, detections), iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    overall = {
        name: _or_nan(value) for name, value in zip(AP_METRICS + AR_METRICS, evaluation.stats)
    }

    # [IoU thresholds, recalls, classes], all sizes, at most 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    thresholds = evaluation.params.iouThrs
    rows = {
        "AP": slice(None),
        "AP50": np.isclose(thresholds, 0.5),
        "AP75": np.isclose(thresholds, 0.75),
    }
    per_class = {
        class_name: {name: _or_nan(precision[row, :, k].mean()) for name, row in rows.items()}
        for k, class_name in enumerate(ground_truth.class_names)
    }
    return overall, per_class


def _coco_pair(ground_truth: GroundTruth, detections: Detections) -> tuple[COCO, COCO]:
    """Both tables as indexed COCO objects with the same pictures and classes."""
    image_ids = int_ids(ground_truth.image_ids)
    images = [{"id": image_id} for image_id in image_ids]
    categories = [
        {"id": k, "name": name} for k, name in enumerate(ground_truth.class_names, start=1)
    ]
    ignored = (ground_truth.difficult | ground_truth.crowd).astype(int)
    objects = _annotations(ground_truth, image_ids, object_areas(ground_truth), iscrowd=ignored)
    areas = box_areas(detections.boxes)
    found = _annotations(detections, image_ids, areas, score=detections.scores)
    return _indexed(images, categories, objects), _indexed(images, categories, found)


def _annotations(
    table: GroundTruth | Detections, image_ids: Sequence[int], areas: np.ndarray, **more: np.ndarray
) -> list[dict]:
    """Rows of a table as COCO annotations; ids from 1 (0 means unmatched)."""
    corners = table.boxes.astype(np.float64)
    corners[:, 2:] = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    columns = {
        "id": range(1, len(corners) + 1),
        "image_id": [image_ids[image] for image in table.image_index.tolist()],
        "category_id": (table.classes + 1).tolist(),
        "bbox": corners.tolist(),
        "area": areas.tolist(),
        **{name: values.tolist() for name, values in more.items()},
    }
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def _indexed(images: list[dict], categories: list[dict], annotations: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _or_nan(value: float) -> float:
    """NaN for the -1 of pycocotools, which means that there is nothing to ask for."""
    return float(value) if value > -1 else float("nan")

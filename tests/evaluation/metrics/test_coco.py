import dataclasses
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harmonic_tf.evaluation import Detections, coco_evaluation, coco_metrics

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def through_files(truth, found, folder):
    """The way of the COCO tools: two JSON files on disk. Returns all 12 numbers, by class too."""
    ids = {image_id: 100 + i for i, image_id in enumerate(truth.image_ids)}
    to_id = [ids[image_id] for image_id in truth.image_ids]
    areas = truth.extras.get("area", np.full(len(truth.classes), np.nan)).astype(float).tolist()
    annotations = []
    for n, (x1, y1, x2, y2) in enumerate(truth.boxes.astype(float).tolist()):
        annotations.append(
            {
                "id": 1000 + n,
                "image_id": to_id[truth.image_index[n]],
                "category_id": 10 + int(truth.classes[n]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) if math.isnan(areas[n]) else areas[n],
                "iscrowd": int(truth.difficult[n] or truth.crowd[n]),
            }
        )
    instances = {
        "images": [{"id": i} for i in to_id],
        "categories": [{"id": 10 + k, "name": name} for k, name in enumerate(truth.class_names)],
        "annotations": annotations,
    }
    results = [
        {
            "image_id": to_id[found.image_index[n]],
            "category_id": 10 + int(found.classes[n]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(found.scores[n]),
        }
        for n, (x1, y1, x2, y2) in enumerate(found.boxes.astype(float).tolist())
    ]
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "results.json").write_text(json.dumps(results))
    truth_api = COCO(str(folder / "instances.json"))
    found_api = truth_api.loadRes(str(folder / "results.json"))

    def stats(categories):
        evaluation = COCOeval(truth_api, found_api, "bbox")
        evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return [math.nan if value == -1 else value for value in evaluation.stats]

    everything = [10 + k for k in range(len(truth.class_names))]
    return stats(everything), [stats([category]) for category in everything]


@pytest.mark.parametrize("image_ids", [(9, 4, 7, 1), ("x", "a", "07", "q/r")])
@pytest.mark.parametrize("seed", [3, 7, 12, 40])
def test_parity_with_pycocotools_on_files(scene, tmp_path, capsys, seed, image_ids):
    truth, found = scene(seed, image_ids=image_ids)
    assert len(found.scores)
    overall, per_class = coco_evaluation(truth, found)
    assert capsys.readouterr().out == ""
    expected, expected_per_class = through_files(truth, found, tmp_path)
    assert list(overall) == NAMES
    np.testing.assert_allclose(list(overall.values()), expected, rtol=0, atol=1e-12)
    assert list(per_class) == truth.class_names
    for values, stats in zip(per_class.values(), expected_per_class):
        assert list(values) == NAMES[:3]
        np.testing.assert_allclose(list(values.values()), stats[:3], rtol=0, atol=1e-12)
    assert coco_metrics(truth, found) == pytest.approx(overall, nan_ok=True)


@pytest.mark.parametrize("seed", [3, 7])
def test_sizes_are_those_of_the_masks(scene, tmp_path, seed):
    truth, found = scene(seed, flags=False)
    rng = np.random.default_rng(seed)
    boxes = np.prod(truth.boxes[:, 2:] - truth.boxes[:, :2], axis=1)
    areas = np.where(rng.random(len(boxes)) < 0.2, np.nan, boxes * rng.uniform(0.1, 0.9))
    masks = dataclasses.replace(truth, extras={"area": areas.astype(np.float32)})
    overall, _ = coco_evaluation(masks, found)
    np.testing.assert_allclose(
        list(overall.values()), through_files(masks, found, tmp_path)[0], rtol=0, atol=1e-12
    )
    of_boxes = coco_metrics(truth, found)
    assert overall["AP"] == of_boxes["AP"]
    assert any(overall[name] != of_boxes[name] for name in ("APs", "APm", "APl"))


def assert_same(actual, expected):
    overall, per_class = actual
    assert overall == pytest.approx(expected[0], nan_ok=True)
    for name, values in per_class.items():
        assert values == pytest.approx(expected[1][name], nan_ok=True)


def test_perfect_detections(scene):
    truth, _ = scene(5, flags=False)
    found = Detections(
        image_index=truth.image_index,
        boxes=truth.boxes,
        scores=np.linspace(0.2, 0.9, len(truth.classes), dtype=np.float32),
        classes=truth.classes,
    )
    metrics = coco_metrics(truth, found)
    for name in ("AP", "AP50", "AP75", "AR100"):
        assert metrics[name] == pytest.approx(1)
    assert all(np.isnan(value) or 0 <= value <= 1 for value in metrics.values())


def test_order_does_not_matter(scene):
    truth, found = scene(12)
    expected = coco_evaluation(truth, found)
    rng = np.random.default_rng(0)

    rows = rng.permutation(len(found.scores))
    shuffled = Detections(*(getattr(found, f.name)[rows] for f in dataclasses.fields(found)))
    assert_same(coco_evaluation(truth, shuffled), expected)

    places = rng.permutation(len(truth.image_ids))  # new position -> old position
    moved_truth = dataclasses.replace(
        truth,
        image_ids=[truth.image_ids[i] for i in places],
        image_index=np.argsort(places)[truth.image_index],
    )
    moved = dataclasses.replace(found, image_index=np.argsort(places)[found.image_index])
    assert_same(coco_evaluation(moved_truth, moved), expected)


def test_scale_does_not_matter_but_for_sizes(scene):
    truth, found = scene(12)
    expected = coco_metrics(truth, found)
    scaled = coco_metrics(
        dataclasses.replace(truth, boxes=truth.boxes * 4),
        dataclasses.replace(found, boxes=found.boxes * 4),
    )
    for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100"):
        assert scaled[name] == pytest.approx(expected[name])


def test_nothing_found_is_zero_and_nothing_to_find_is_nan(scene, ground_truth_of, detections_of):
    truth, found = scene(12, flags=False)
    overall, per_class = coco_evaluation(truth, detections_of([]))
    assert overall["AP"] == overall["AR100"] == 0
    assert {values["AP"] for values in per_class.values()} <= {0.0}

    empty = ground_truth_of([], truth.image_ids, truth.class_names)
    for detections in (found, detections_of([])):
        overall, per_class = coco_evaluation(empty, detections)
        assert np.isnan(list(overall.values())).all()
        assert all(np.isnan(list(values.values())).all() for values in per_class.values())
    assert np.isnan(coco_metrics(ground_truth_of([], []), detections_of([]))["AP"])


@pytest.mark.parametrize("difficult, crowd", [(True, False), (False, True)])
def test_ignored_objects_are_neither_asked_for_nor_punished(
    ground_truth_of, detections_of, difficult, crowd
):
    plain, ignored = (0, 0, 10, 10), (50, 50, 90, 90)
    truth = ground_truth_of(
        [(0, plain, 0, False, False), (0, ignored, 0, difficult, crowd)],
    )
    inside = (60, 60, 70, 70)  # wholly inside the ignored one
    for found in (
        [(0, plain, 0, 0.5)],
        [(0, plain, 0, 0.5), (0, ignored, 0, 0.9), (0, inside, 0, 0.8)],
    ):
        assert coco_metrics(truth, detections_of(found))["AP"] == pytest.approx(1)

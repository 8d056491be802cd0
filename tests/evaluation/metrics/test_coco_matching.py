import contextlib
import dataclasses
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harmonic_tf.evaluation import AREA_RANGES, Detections, Matcher, average_precision, match
from harmonic_tf.evaluation.metrics.coco_matching import int_ids


def reference(truth, found, thresholds=None, area_range=None, max_detections=100):
    """pycocotools' own decisions; gives rows, ignored, counted, wanted and precision [T, C]."""
    ids = int_ids(truth.image_ids)
    own = truth.extras.get("area", np.full(len(truth.classes), np.nan))

    def rows_of(table):
        for n, (x1, y1, x2, y2) in enumerate(table.boxes.astype(float).tolist()):
            row = {"id": n + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            row["image_id"] = ids[table.image_index[n]]
            row["category_id"] = int(table.classes[n])
            yield row

    objects, detections = list(rows_of(truth)), list(rows_of(found))
    for row, area, crowd in zip(objects, own, truth.difficult | truth.crowd):
        row["iscrowd"] = int(crowd)
        row["area"] = row["area"] if np.isnan(area) else float(area)
    for row, score in zip(detections, found.scores.tolist()):
        row["score"] = score
    tables = []
    for annotations in (objects, detections):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in ids],
            "categories": [{"id": k} for k in range(len(truth.class_names))],
            "annotations": annotations,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        tables.append(coco)
    evaluation = COCOeval(*tables, "bbox")
    if thresholds is not None:
        evaluation.params.iouThrs = np.array(thresholds)
    evaluation.params.areaRng = [list(area_range or (0, 1e10))]
    evaluation.params.maxDets = [max_detections]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()

    shape = (len(evaluation.params.iouThrs), len(detections))
    rows, ignored = np.full(shape, -1), np.zeros(shape, bool)
    counted, wanted = np.zeros(shape[1], bool), np.zeros(len(objects), bool)
    for image in evaluation.evalImgs:
        if image is not None:
            at = np.array(image["dtIds"], int) - 1
            counted[at] = True
            rows[:, at] = image["dtMatches"].astype(int) - 1
            ignored[:, at] = image["dtIgnore"]
            wanted[np.array(image["gtIds"], int) - 1] = image["gtIgnore"] == 0
    precision = evaluation.eval["precision"][:, :, :, 0, 0].mean(axis=1)
    return rows, ignored, counted, wanted, np.where(precision < 0, np.nan, precision)


def assert_as_pycocotools(truth, found, thresholds=None, **options):
    given = {} if thresholds is None else {"iou_thresholds": thresholds}
    matches = match(truth, found, **given, **options)
    rows, ignored, counted, wanted, precision = reference(truth, found, thresholds, **options)
    np.testing.assert_array_equal(matches.rows, rows)
    np.testing.assert_array_equal(matches.counted, counted)
    np.testing.assert_array_equal(matches.ignored[:, counted], ignored[:, counted])
    np.testing.assert_array_equal(matches.wanted, wanted)
    np.testing.assert_allclose(
        average_precision(truth, found, matches), precision, rtol=0, atol=1e-12
    )


def with_areas(truth, seed):
    """Objects smaller than their boxes, some of unknown area."""
    rng = np.random.default_rng(seed)
    boxes = np.prod(truth.boxes[:, 2:] - truth.boxes[:, :2], axis=1)
    areas = np.where(rng.random(len(boxes)) < 0.3, np.nan, boxes * rng.uniform(0.2, 1, len(boxes)))
    return dataclasses.replace(truth, extras={"area": areas.astype(np.float32)})


@pytest.mark.parametrize("grid", [None, 6])
@pytest.mark.parametrize("image_ids", [(9, 4, 7, 1), ("x", "a", "07", "q/r")])
@pytest.mark.parametrize("seed", range(12))
def test_every_decision_is_that_of_pycocotools(scene, seed, image_ids, grid):
    truth, found = scene(seed, image_ids=image_ids, tied_scores=seed % 2 == 0, grid=grid)
    truth = with_areas(truth, seed)
    assert_as_pycocotools(truth, found)
    assert_as_pycocotools(truth, found, thresholds=[0.0, 0.3, 1.0], max_detections=3)
    for area_range in [*AREA_RANGES.values(), (4, 9)]:
        assert_as_pycocotools(truth, found, area_range=area_range)


def test_more_than_a_hundred_detections_of_a_class(ground_truth_of, detections_of):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (60, 2))], axis=1)
    truth = ground_truth_of(
        [(n % 2, box, 0, n % 7 == 0, n % 11 == 0) for n, box in enumerate(boxes[:30])], [1, 2]
    )
    found = detections_of(
        [
            (n % 2, boxes[n % 60] + rng.normal(0, 2, 4) * (0, 0, 1, 1) + (0, 0, 9, 9), 0, score)
            for n, score in enumerate(np.round(rng.random(400), 2))
        ]
    )
    assert match(truth, found).counted.sum() == 200
    assert_as_pycocotools(truth, found)


def test_without_objects_or_detections(scene, ground_truth_of, detections_of):
    truth, found = scene(12)
    empty = ground_truth_of([], truth.image_ids, truth.class_names)
    for objects, detections in ((empty, found), (truth, detections_of([])), (empty, found)):
        assert_as_pycocotools(objects, detections)
    assert match(truth, found, iou_thresholds=[]).rows.shape == (0, len(found.scores))


def test_hand_worked(ground_truth_of, detections_of):
    """Two plain objects, a difficult one and a crowd region, side by side."""
    truth = ground_truth_of(
        [
            (0, (0, 0, 10, 10), 0, False, False),
            (0, (0, 0, 10, 8), 0, False, False),
            (0, (20, 0, 30, 10), 0, True, False),
            (0, (40, 0, 80, 40), 0, False, True),
        ]
    )
    found = detections_of(
        [
            (0, (0, 0, 10, 10), 0, 0.5),  # the object it overlaps most is taken: IoU 0.8 is left
            (0, (0, 0, 10, 10), 0, 0.9),  # first in score: takes the object that it covers
            (0, (0, 0, 10, 10), 0, 0.1),  # nothing is left
            (0, (20, 0, 30, 4), 0, 0.8),  # inside the difficult one, IoU 0.4, coverage 1
            (0, (20, 0, 30, 10), 0, 0.7),  # the difficult one once more
            (0, (35, 0, 45, 10), 0, 0.6),  # half inside the crowd region
        ]
    )
    matches = match(truth, found, [0.5, 0.85])
    assert matches.rows.tolist() == [[1, 0, -1, 2, 2, 3], [-1, 0, -1, 2, 2, -1]]
    assert matches.ignored.tolist() == [[False] * 3 + [True] * 3, [False] * 3 + [True, True, False]]
    np.testing.assert_allclose(matches.iou[0], [0.8, 1, 0, 1, 1, 0.5])
    np.testing.assert_allclose(matches.iou[1], [0, 1, 0, 1, 1, 0])
    assert matches.wanted.tolist() == [True, True, False, False]
    # At 0.5, in descending score: true, ignored x 3, true, false: all found with precision 1.
    # At 0.85: true, ignored x 2, false (0.6), false, false: recall 1/2 with precision 1, so 51 of
    # the 101 points.
    np.testing.assert_allclose(average_precision(truth, found, matches)[:, 0], [1, 51 / 101])


def test_objects_that_are_not_asked_for_come_last(ground_truth_of, detections_of):
    boxes = [(0, 0, 10, 10), (0, 0, 10, 6)]
    truth = ground_truth_of([(0, box, 0, False, False) for box in boxes])
    found = detections_of([(0, boxes[0], 0, 0.9), (0, boxes[0], 0, 0.8), (0, boxes[0], 0, 0.7)])
    matches = match(truth, found, [0.5], ignored=np.array([True, False]))
    # The first takes the one that is asked for though it lies worse; the second has the other.
    assert matches.rows.tolist() == [[1, 0, -1]]
    assert matches.ignored.tolist() == [[False, True, False]]


def test_boxes_need_not_touch_at_threshold_zero(ground_truth_of, detections_of):
    truth = ground_truth_of([(0, (0, 0, 1, 1), 0, False, False)])
    found = detections_of([(0, (5, 5, 6, 6), 0, 0.9), (0, (0, 0, 1, 1), 0, 0.8)])
    assert match(truth, found, [0.0]).rows.tolist() == [[0, -1]]


@pytest.mark.parametrize("seed", range(5))
def test_invariances(scene, seed):
    truth, found = scene(seed)
    matches = match(truth, found)
    precision = average_precision(truth, found, matches)
    rng = np.random.default_rng(seed)

    rows = rng.permutation(len(found.scores))
    shuffled = Detections(*(getattr(found, f.name)[rows] for f in dataclasses.fields(found)))
    again = match(truth, shuffled)
    np.testing.assert_array_equal(again.rows, matches.rows[:, rows])
    np.testing.assert_array_equal(average_precision(truth, shuffled, again), precision)

    places = rng.permutation(len(truth.image_ids))  # new position -> old position
    moved_truth = dataclasses.replace(
        truth,
        image_ids=[truth.image_ids[i] for i in places],
        image_index=np.argsort(places)[truth.image_index],
    )
    moved = dataclasses.replace(found, image_index=np.argsort(places)[found.image_index])
    again = match(moved_truth, moved)
    np.testing.assert_array_equal(again.rows, matches.rows)
    np.testing.assert_array_equal(average_precision(moved_truth, moved, again), precision)

    scaled_truth = dataclasses.replace(truth, boxes=truth.boxes * 4)
    scaled = dataclasses.replace(found, boxes=found.boxes * 4)
    np.testing.assert_array_equal(match(scaled_truth, scaled).rows, matches.rows)


def test_a_matcher_can_be_asked_again(scene):
    truth, found = scene(7)
    matcher = Matcher(truth, found)
    for _ in range(2):
        for options in ({}, {"area_range": (0, 2000)}, {"ignored": truth.classes == 1}):
            again, once = matcher(**options), match(truth, found, **options)
            for field in dataclasses.fields(once):
                np.testing.assert_array_equal(getattr(again, field.name), getattr(once, field.name))


@pytest.mark.parametrize("thresholds", [[0.5, 50], [-0.1], [np.nan]])
def test_thresholds_are_shares(scene, thresholds):
    with pytest.raises(ValueError, match="iou_thresholds"):
        match(*scene(3), iou_thresholds=thresholds)

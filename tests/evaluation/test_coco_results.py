"""COCO results: what is written is read again, by us and by pycocotools; bad files are refused."""

import contextlib
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from harmonic_tf.evaluation import (
    Detections,
    ResultsError,
    coco_metrics,
    read_detections,
    write_detections,
)

FIELDS = [field.name for field in dataclasses.fields(Detections)]

coordinate = st.floats(0, 4096, width=32)
row = st.tuples(
    st.integers(0, 3),
    st.tuples(coordinate, coordinate, coordinate, coordinate),
    st.integers(0, 2),
    st.floats(0, 1, width=32),
)


def assert_same(a, b):
    for field in FIELDS:
        one, other = getattr(a, field), getattr(b, field)
        assert one.dtype == other.dtype, field
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(row, max_size=8), named=st.booleans(), renumbered=st.booleans())
def test_round_trip(rows, named, renumbered, tmp_path_factory, ground_truth_of, detections_of):
    rows = [
        (image, (min(a, c), min(b, d), max(a, c), max(b, d)), k, score)
        for image, (a, b, c, d), k, score in rows
    ]
    image_ids = ["p/1", "ü", "3", ""] if named else [30, 10, 20, 0]
    truth = ground_truth_of([], image_ids, ["ring", "star", "comb"])
    category_ids = np.array([90, 7, 18]) if renumbered else None
    found = detections_of(rows)
    path = str(tmp_path_factory.mktemp("results") / "found.json")
    write_detections(path, truth, found, category_ids)
    assert_same(read_detections(path, truth, category_ids), found)

    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert len(lines) == len(rows) + 2  # the brackets
    for line, (image, _, k, _) in zip(lines[1:], rows):
        written = json.loads(line.rstrip(","))
        assert list(written) == ["image_id", "category_id", "bbox", "score"]
        assert written["image_id"] == image_ids[image]
        assert written["category_id"] == ([90, 7, 18] if renumbered else [1, 2, 3])[k]


def test_pycocotools_reads_the_same(scene, tmp_path):
    truth, found = scene(3)
    path = str(tmp_path / "found.json")
    write_detections(path, truth, found, category_ids=[5, 2, 9])
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in truth.image_ids],
        "categories": [{"id": k} for k in (5, 2, 9)],
        "annotations": [],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        loaded = coco.loadRes(path)
    annotations = [loaded.anns[key] for key in sorted(loaded.anns)]
    assert len(annotations) == len(found.scores) > 0
    xywh = np.array([annotation["bbox"] for annotation in annotations])
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=-1)
    np.testing.assert_array_equal(np.float32(xyxy), found.boxes)
    for row, annotation in enumerate(annotations):
        assert annotation["image_id"] == truth.image_ids[found.image_index[row]]
        assert annotation["category_id"] == (5, 2, 9)[found.classes[row]]
        assert annotation["score"] == found.scores[row]

    again = read_detections(path, truth, category_ids=[5, 2, 9])
    assert coco_metrics(truth, again) == pytest.approx(coco_metrics(truth, found), nan_ok=True)


def test_rows_of_other_detectors(tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    path.write_text(
        '[{"id": 7, "segmentation": [], "score": 1, "bbox": [1, 2, 3, 0], "image_id": 5,'
        ' "category_id": 2}]'
    )
    found = read_detections(str(path), ground_truth_of([], [4, 5], ["a", "b"]))
    assert found.image_index.tolist() == [1]
    assert found.boxes.tolist() == [[1, 2, 4, 2]]
    assert found.scores.tolist() == [1]
    assert found.classes.tolist() == [1]


GOOD = {"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"image_id": 6}, "row 1, image_id = 6: is no picture of the data set.*look like 4"),
        ({"image_id": "05"}, "row 1, image_id = '05': is no picture"),
        ({"image_id": [5]}, r"row 1, image_id = \[5\]: is no picture"),
        ({"image_id": None}, "row 1, image_id = None: is no picture"),
        ({"category_id": 0}, "row 1, category_id = 0: is no category.*one of 1, 2"),
        ({"category_id": True}, "row 1, category_id = True: is no category"),
        ({"bbox": [1, 2, 3]}, r"row 1, bbox = \[1, 2, 3\]: is not a box.*four finite numbers"),
        ({"bbox": "1 2 3 4"}, "row 1, bbox = '1 2 3 4': is not a box"),
        ({"bbox": [1, 2, 3, None]}, "row 1, bbox = .*: is not a box"),
        ({"bbox": [1, 2, 3, float("nan")]}, "row 1, bbox = .*: is not a box"),
        ({"bbox": [1, 2, float("inf"), 4]}, "row 1, bbox = .*: is not a box"),
        ({"bbox": [10**400, 2, 3, 4]}, r"row 1, bbox = \[10+\.\.\.: is not a box"),
        ({"bbox": [5, 5, -3, 4]}, r"row 1, bbox = \[5, 5, -3, 4\]: has a negative width or height"),
        ({"score": 1.5}, r"row 1, score = 1\.5: is not in \[0, 1\].*not a logit"),
        ({"score": -0.1}, "row 1, score = -0.1: is not in"),
        ({"score": "high"}, "row 1, score = 'high': is not in"),
        ({"score": "nan"}, "row 1, score = nan: is not in"),
        ({"score": float("nan")}, "row 1, score = nan: is not in"),
    ],
)
def test_bad_rows_are_refused(changes, said, tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([GOOD, {**GOOD, **changes}]))
    with pytest.raises(ResultsError, match=said) as caught:
        read_detections(str(path), ground_truth_of([], [4, 5], ["a", "b"]))
    assert str(caught.value).startswith(f"{path}: row 1, ")
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("image_ids, image", [([4, 5], "5"), (["4", "5"], 5), ([4, 5], 5.0)])
def test_numbers_as_text(image_ids, image, tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    row = {"image_id": image, "category_id": "2", "bbox": ["1", "2.5", 3, "4"], "score": "0.5"}
    path.write_text(json.dumps([row]))
    found = read_detections(str(path), ground_truth_of([], image_ids, ["a", "b"]))
    assert (found.image_index.tolist(), found.classes.tolist()) == ([1], [1])
    assert (found.boxes.tolist(), found.scores.tolist()) == ([[1, 2.5, 4, 6.5]], [0.5])


def test_an_id_as_it_stands_goes_first(tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**GOOD, "image_id": image} for image in ("5", 5)]))
    found = read_detections(str(path), ground_truth_of([], [5, "5"], ["a"]))
    assert found.image_index.tolist() == [1, 0]


def test_many_categories_are_not_all_named(tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**GOOD, "category_id": 99}]))
    truth = ground_truth_of([], [5], [f"class {i}" for i in range(30)])
    with pytest.raises(ResultsError, match=r"Use one of 1, 2, .*, 20 and 10 more\.$"):
        read_detections(str(path), truth)


# A grid of boxes of 20 x 10 px in pictures of 200 x 100, as corner and sides.
GRID = [[x, y, 20, 10] for x in range(0, 200, 20) for y in range(0, 100, 10)]


@pytest.mark.parametrize(
    "box_of, said",
    [
        (lambda x, y, w, h: [x, y, w, h], None),
        (lambda x, y, w, h: [x + 9, y + 4, w, h], None),  # a little beyond the picture
        # x + x + 20 > 220 for 4 of 10 columns, y + y + 10 > 110 for 4 of 10 rows: 100 - 36.
        (
            lambda x, y, w, h: [x, y, x + w, y + h],
            r"64 of 100 boxes \(64.0 %\) end beyond .* corners, \[x1, y1, x2, y2\]. Write \[x, y",
        ),
        (
            lambda x, y, w, h: [x / 200, y / 100, w / 200, h / 100],
            r"100 of 100 boxes \(100.0 %\) are no larger than a pixel.* fractions of the picture",
        ),
        (
            lambda x, y, w, h: [x / 200, y / 100, (x + w) / 200, (y + h) / 100],
            "fractions of the picture",  # in the last row and column they are 1
        ),
        (lambda x, y, w, h: [20 * x + 300, y, 20 * w, h], "pixels of another size"),
    ],
)
def test_boxes_that_are_likely_meant_otherwise(box_of, said, tmp_path, ground_truth_of, caplog):
    truth = ground_truth_of(
        [(0, (x, y, x + w, y + h), 0, False, False) for x, y, w, h in GRID], [5], ["a"]
    )
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**GOOD, "bbox": box_of(*box)} for box in GRID]))
    with caplog.at_level("WARNING", logger="absl"):
        found = read_detections(str(path), truth)
    assert len(found.scores) == 100  # all the same
    assert len(caplog.messages) == (said is not None)
    if said:
        assert caplog.messages[0].startswith(f"{path}: ")
        assert re.search(said, caplog.messages[0])


@pytest.mark.parametrize("field", GOOD)
def test_missing_fields_are_refused(field, tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{name: GOOD[name] for name in GOOD if name != field}]))
    with pytest.raises(ResultsError, match=f"row 0, {field} = .*: is missing. Every row needs"):
        read_detections(str(path), ground_truth_of([], [4, 5], ["a", "b"]))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is not JSON"),
        (b"image_id,score", "is not JSON"),
        (b"\xff\xfe[]", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"images": []}', r"= \{'images': \[\]\}: is not a list of detections.*not annotations"),
        (b"[1]", "row 0 = 1: is not an object"),
    ],
)
def test_other_files_are_refused(content, said, tmp_path, ground_truth_of):
    path = tmp_path / "found.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=said) as caught:
        read_detections(str(path), ground_truth_of([], [4, 5], ["a", "b"]))
    assert str(caught.value).startswith(str(path))


def test_nothing_found_is_fine(tmp_path, ground_truth_of, detections_of):
    truth = ground_truth_of([], [4], ["a"])
    path = tmp_path / "found.json"
    path.write_text("[]")
    assert_same(read_detections(str(path), truth), detections_of([]))


@pytest.mark.parametrize("category_ids", [[1], [1, 2, 3], [4, 4]])
def test_category_ids_must_be_one_a_class(category_ids, tmp_path, ground_truth_of, detections_of):
    truth = ground_truth_of([], [4], ["a", "b"])
    path = str(tmp_path / "found.json")
    with pytest.raises(ValueError, match=r"category_ids = .*: 2 different ones were expected"):
        write_detections(path, truth, detections_of([]), category_ids)
    with pytest.raises(ValueError, match=r"category_ids = .*: 2 different ones were expected"):
        read_detections(path, truth, category_ids)


def test_a_failed_write_leaves_the_old_file(tmp_path, ground_truth_of, detections_of):
    truth = ground_truth_of([], [4], ["a"])
    path = tmp_path / "found.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not in \\[0, 1\\]"):
        write_detections(str(path), truth, detections_of([(0, (0, 0, 1, 1), 0, 2.0)]))
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1

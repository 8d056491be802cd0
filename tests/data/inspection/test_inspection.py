"""What an inspection counts, on data sets small enough to be counted by hand."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf import tables
from harmonic_tf.anchors import AnchorGrid, best_iou
from harmonic_tf.data.example import Annotation, DataError
from harmonic_tf.data.inspection.files import (
    picture_files,
    repeated_pictures,
    shared_pictures,
)
from harmonic_tf.data.inspection.findings import inspect
from harmonic_tf.data.inspection.sheet import choose_pictures
from harmonic_tf.data.inspection.survey import (
    near_duplicates,
    objects_of,
    size_groups,
    survey,
)
from harmonic_tf.data.pipeline.transforms import letterbox


def annotation(boxes, classes=None, width=200, height=100, crowd=None, name="a.jpg"):
    count = len(boxes)
    return Annotation(
        image_path=f"/pictures/{name}",
        image_id=name,
        width=width,
        height=height,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.zeros(count, np.int32) if classes is None else np.array(classes, np.int32),
        difficult=np.zeros(count, bool),
        crowd=np.zeros(count, bool) if crowd is None else np.array(crowd, bool),
    )


def voc_spec(voc, **lists):
    for name, ids in lists.items():
        (voc.split.parent / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
    return f"voc:{voc.folder}"


def test_pictures_in_several_splits_count_once(voc):
    spec = voc_spec(voc, train=["p1"], val=["p2"])
    found = survey(spec, ["train", "trainval", "val"])
    assert [a.image_id for a in found.annotations] == ["p1", "p2"]
    assert {name: rows.tolist() for name, rows in found.splits.items()} == {
        "train": [0],
        "trainval": [0, 1],
        "val": [1],
    }
    assert [found.picture_name(row) for row in (0, 1)] == ["p1.jpg", "p2.jpg"]


def test_the_same_picture_is_seen_under_any_name(voc, make_picture):
    make_picture(voc.images / "p3.jpg", width=50)
    shutil.copy(voc.images / "p3.jpg", voc.images / "p4.jpg")
    make_picture(voc.images / "p1.jpg", width=60)
    make_picture(voc.images / "p2.jpg", width=70)
    for name, width in (("p1", 60), ("p2", 70), ("p3", 50), ("p4", 50)):
        voc.write(name, voc.element("dog", 1, 1, 9, 9), width=width)
    spec = voc_spec(voc, train=["p1", "p3"], val=["p2", "p4"], all=["p4", "p2", "p3"])
    found = survey(spec, ["train", "val", "all"])
    files = picture_files(found.annotations)
    shared = shared_pictures(found.splits, files)
    assert shared == [("train", "val", 1), ("train", "all", 1), ("val", "all", 2)]
    (same,) = repeated_pictures(found.splits, files)
    assert [found.picture_name(row) for row in same] == ["p4.jpg", "p3.jpg"]


def test_classes_of_all_splits_are_joined(voc):
    voc.write("p1", voc.element("zebra", 2, 3, 11, 22))
    found = survey(voc_spec(voc, train=["p1"], val=["p2"]), ["train", "val"])
    assert found.class_names == ("zebra", "dog")
    assert [a.classes.tolist() for a in found.annotations] == [[0], [1]]


def test_every_problem_is_listed_once(voc):
    voc.write(
        "p1",
        voc.element("cat", 5, 5, 5, 5),
        voc.element("cat", 2, 3, 11, 22),
        voc.element("cat", 30, 3, 50, 22),
    )
    (voc.images / "p2.jpg").write_bytes(b"no picture")
    found = survey(voc_spec(voc, train=["p1", "p3"], val=["p2"]), ["train", "trainval", "val"])
    listed = sorted((p.file.split("/")[-1], p.field) for p in found.problems)
    assert listed == [
        ("p1.xml", "object[0]/bndbox"),
        ("p1.xml", "object[2]/bndbox"),
        ("p2.jpg", "file"),
        ("p3.xml", "file"),
    ]
    assert [len(a.boxes) for a in found.annotations] == [1]
    assert found.splits["val"].tolist() == []


def test_a_broken_split_does_not_hide_the_others(voc):
    spec = voc_spec(voc, val=["p7"])
    found = survey(spec, ["trainval", "val"])
    assert list(found.splits) == ["trainval"]
    assert any("is empty" in p.problem for p in found.problems)
    with pytest.raises(DataError, match="p7"):
        survey(spec, ["val"])


def test_crowds_are_no_objects():
    objects = objects_of([annotation([[0, 0, 9, 9], [5, 5, 9, 9]], [0, 1], crowd=[1, 0])], 64)
    assert objects.classes.tolist() == [1]
    np.testing.assert_array_equal(objects.boxes, [[5, 5, 9, 9]])


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([64, 257]))
def test_boxes_are_seen_as_the_model_sees_them(width, height, size):
    box = np.array([[0.1, 0.2, 0.7, 0.9]], np.float32) * [width, height, width, height]
    example = {
        "image": np.zeros((height, width, 3), np.uint8),
        "boxes": box.astype(np.float32),
    }
    expected = letterbox(example, size)["boxes"].numpy()
    objects = objects_of([annotation(box, width=width, height=height)], size)
    np.testing.assert_allclose(objects.seen, expected, rtol=1e-5)


def test_coco_size_groups():
    sides = [31.9, 32, 95.9, 96, 500]
    boxes = np.array([[0, 0, side, side] for side in sides])
    assert size_groups(boxes).tolist() == [0, 1, 1, 2, 2]


def test_near_duplicates_are_of_one_class_and_no_crowd():
    box, near, far = [0, 0, 100, 100], [0, 0, 100, 95], [0, 0, 100, 85]
    pictures = [
        annotation([box, far, near], [1, 1, 1]),
        annotation([box, near], [0, 1]),
        annotation([box, near], crowd=[0, 1]),
        annotation([]),
        annotation([box, box, box]),
    ]
    found = [tuple(d)[:4] for d in near_duplicates(pictures)]
    assert found == [(0, 0, 2, 1), (4, 0, 1, 0), (4, 0, 2, 0), (4, 1, 2, 0)]
    assert next(near_duplicates(pictures)).iou == pytest.approx(0.95)


@pytest.fixture
def findings(coco):
    """With a third class that is in one picture alone, one without objects, and a crowd."""
    coco.document["categories"].append({"id": 11, "name": "fox"})
    coco.document["images"].append({"id": 8, "file_name": "c.jpg", "width": 40, "height": 30})
    coco.document["annotations"] += [
        {"id": 4, "image_id": 3, "category_id": 11, "bbox": [1, 1, 20, 20], "iscrowd": 1},
        {"id": 5, "image_id": 3, "category_id": 11, "bbox": [1, 1, 20, 20]},
    ]
    (coco.images / "c.jpg").write_bytes((coco.images / "a.jpg").read_bytes())
    coco.file.write_text(json.dumps(coco.document))
    return inspect(f"coco:{coco.file}", ["all"], image_size=64, grid=AnchorGrid())


def test_counts(findings):
    assert findings.survey.class_names == ("dog", "cat", "fox")
    assert findings.boxes_per_class.tolist() == [2, 1, 1]
    assert findings.pictures_per_class.tolist() == [2, 1, 1]
    assert findings.boxes_per_picture.tolist() == [2, 2, 0]
    assert findings.empty_pictures.tolist() == [2]
    assert [file.format for file in findings.files] == ["JPEG, RGB", "PNG, RGB", "JPEG, RGB"]


def test_fit_is_measured_at_the_size_that_the_model_sees(findings):
    seen = np.concatenate([a.boxes for a in findings.survey.annotations[:2]]) * 64 / 40
    seen = np.delete(seen, 3, axis=0)  # the crowd
    np.testing.assert_allclose(
        findings.fit.overlaps, best_iou(findings.fit.grid, seen, 64, 64), atol=1e-6
    )
    assert findings.fit.matched.tolist() == (findings.fit.overlaps >= 0.5).tolist()


def test_cells_of_yolov8(coco):
    coco.document["annotations"][1]["bbox"] = [5.5, 9, 3, 2]
    coco.file.write_text(json.dumps(coco.document))
    fit = inspect(f"coco:{coco.file}", ["all"], image_size=40).fit
    # The second box lies between the centres: 4 and 12 in x, 8 and 24 in y.
    assert fit.matched.tolist() == [True, False, True]


def test_the_sheet_shows_every_class(findings):
    two = choose_pictures(findings, 2)
    shown = {k for row in two for k in findings.survey.annotations[row].classes.tolist()}
    assert sorted(two) == [0, 1] and shown == {0, 1, 2}
    assert sorted(choose_pictures(findings, 9)) == [0, 1, 2]


@pytest.mark.parametrize(
    "part, shown", [(0, "0.0 %"), (1, "0.1 %"), (9999, "99.9 %"), (10000, "100.0 %")]
)
def test_all_and_nothing_are_said_of_just_these(part, shown):
    assert tables.share(part, 10000) == shown
    assert tables.share(0, 0) == "-"


def test_markdown_shows_names_as_they_stand():
    shown = tables.markdown_table(["class", "boxes"], [["a|b\n*c*_<d>`$&~", 3]])
    row = shown.splitlines()[2]
    assert row == r"| a\|b \*c\*\_\<d\>\`\$\&\~ | 3 |"

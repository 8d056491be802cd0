"""COCO files are read as they are meant."""

import numpy as np
import pytest
from pycocotools.coco import COCO


def test_boxes_become_corners(coco):
    first, second = coco.read().annotations
    # x, y, x + width, y + height
    np.testing.assert_array_equal(first.boxes, [[1, 2, 11, 22], [5.5, 6.25, 8.5, 10.25]])
    np.testing.assert_array_equal(second.boxes, [[0, 0, 40, 30]])
    assert first.boxes.dtype == np.float32


def test_pictures_keep_the_files_order(coco):
    first, second = coco.read().annotations
    assert (first.image_id, second.image_id) == (7, 3)
    assert first.image_path == str(coco.images / "a.jpg")
    assert (first.width, first.height) == (40, 30)


def test_classes_follow_the_category_ids(coco):
    data = coco.read()
    assert data.class_names == ("dog", "cat")
    assert data.category_ids == [4, 9]
    np.testing.assert_array_equal(data.annotations[0].classes, [1, 0])
    assert data.annotations[0].classes.dtype == np.int32


def test_given_classes_set_the_order(coco):
    data = coco.read(class_names=["bird", "cat", "dog"])
    assert data.class_names == ("bird", "cat", "dog")
    assert data.category_ids == [10, 9, 4]  # no category is a bird
    np.testing.assert_array_equal(data.annotations[0].classes, [1, 2])


def test_agrees_with_pycocotools(coco):
    data = coco.read(name="mine")
    reference = COCO(str(coco.file))
    assert data.name == "mine"
    for annotation in data.annotations:
        rows = reference.loadAnns(reference.getAnnIds(imgIds=[annotation.image_id]))
        names = [reference.cats[row["category_id"]]["name"] for row in rows]
        sides = annotation.boxes[:, 2:] - annotation.boxes[:, :2]
        np.testing.assert_allclose(
            np.concatenate([annotation.boxes[:, :2], sides], axis=1), [row["bbox"] for row in rows]
        )
        assert [data.class_names[index] for index in annotation.classes] == names


def test_crowd_and_extras(coco):
    coco.document["annotations"][0].update(iscrowd=1, occlusion=0.25)
    coco.document["annotations"][1].update(iscrowd=0, irregularity=0.5)
    annotation = coco.read().annotations[0]
    np.testing.assert_array_equal(annotation.crowd, [True, False])
    np.testing.assert_array_equal(annotation.difficult, [False, False])
    np.testing.assert_array_equal(annotation.extras["occlusion"], np.float32([0.25, np.nan]))
    np.testing.assert_array_equal(annotation.extras["irregularity"], np.float32([np.nan, 0.5]))


@pytest.mark.parametrize(
    ("fields", "area", "irregularity"),
    (
        ({}, np.nan, np.nan),
        ({"area": 150}, 150, np.nan),  # of what, the file does not say
        ({"area": 150, "segmentation": []}, 150, np.nan),
        ({"area": 150, "segmentation": [[1, 2, 11, 2, 11, 22]]}, 150, 0.25),  # box: 10 x 20
        ({"area": 50, "segmentation": {"counts": [9, 50, 1141], "size": [30, 40]}}, 50, 0.75),
        ({"area": 150, "segmentation": [[1, 2, 3]], "irregularity": 0.5}, 150, 0.5),
        ({"area": 201, "segmentation": [[1, 2, 3]]}, 201, 0),  # rounded up
        ({"segmentation": [[1, 2, 3]]}, np.nan, np.nan),
    ),
)
def test_masks_say_how_irregular_an_object_is(coco, fields, area, irregularity):
    coco.document["annotations"][0].update(fields)
    extras = coco.read().annotations[0].extras
    np.testing.assert_array_equal(extras["area"], np.float32([area, np.nan]))
    np.testing.assert_array_equal(extras["irregularity"], np.float32([irregularity, np.nan]))


def test_picture_without_objects_is_kept(coco):
    del coco.document["annotations"][2]
    annotation = coco.read().annotations[1]
    assert annotation.boxes.shape == (0, 4)
    assert annotation.classes.shape == annotation.crowd.shape == (0,)
    assert annotation.extras["occlusion"].shape == (0,)


@pytest.mark.parametrize("bbox", ([-0.5, 0, 10, 10], [0, -1, 10, 10], [31, 21, 10, 10]))
def test_rounding_is_clipped(coco, bbox):
    coco.document["annotations"][2]["bbox"] = bbox
    (x1, y1, x2, y2) = coco.read().annotations[1].boxes[0]
    assert (x1, y1) == (max(bbox[0], 0), max(bbox[1], 0))
    assert (x2, y2) == (min(bbox[0] + bbox[2], 40), min(bbox[1] + bbox[3], 30))

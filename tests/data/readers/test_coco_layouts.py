"""COCO files are found wherever tools put them, and so are their pictures."""

import copy
import json

import numpy as np
import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.readers.coco import splits_of_coco
from harmonic_tf.data.sources import load

# What lies where: annotation file, folder of pictures, file_name of a.jpg, what is named, splits.
LAYOUTS = {
    "COCO": ("annotations/instances_val2017.json", "val2017", "a.jpg", "", ["val2017"]),
    "COCO, one folder": ("annotations/instances_val.json", "images", "a.jpg", "", ["val"]),
    "COCO, images/": ("annotations/instances_val2017.json", "images/val2017", "a.jpg", "", ...),
    "year of the pictures": ("annotations/instances_val.json", "images/val2017", "a.jpg", "", ...),
    "year of the file": ("annotations/instances_val2017.json", "images/val", "a.jpg", "", ...),
    "other split names": ("annotations/instances_north.json", "north", "a.jpg", "", ["north"]),
    "scenes": ("val/annotations.json", "val/images", "a.jpg", "", ["val"]),
    "Roboflow": ("val/_annotations.coco.json", "val", "a.jpg", "", ["val"]),
    "Roboflow, a file": (
        *("val/_annotations.coco.json", "val", "a.jpg"),
        *("val/_annotations.coco.json", ["val"]),
    ),
    "beside": ("val/annotations.json", "val", "a.jpg", "", ["val"]),
    "Label Studio": ("result.json", "images", "images/a.jpg", "", ["all"]),
    "Label Studio, Windows": ("result.json", "images", "..\\images\\a.jpg", "", ["all"]),
    "Label Studio, a file": ("result.json", "images", "images\\a.jpg", "result.json", ["all"]),
    "Label Studio, a split": ("val/result.json", "val/images", "images/a.jpg", "", ["val"]),
    "Label Studio, a folder further": ("fish/result.json", "fish/images", "a.jpg", "", ["all"]),
    "CVAT": ("annotations/instances_default.json", "images", "a.jpg", "", ["all"]),
    "CVAT, a folder": (
        "annotations/instances_default.json",
        "images/default",
        "a.jpg",
        "",
        ["all"],
    ),
    "CVAT, key points": (
        *("annotations/person_keypoints_default.json", "images/default", "a.jpg"),
        *("", ["all"]),
    ),
    "CVAT, a task a split": (
        *("val/annotations/instances_default.json", "val/images", "a.jpg"),
        *("", ["val"]),
    ),
    "CVAT, subsets": ("annotations/instances_val.json", "images/val", "a.jpg", "", ["val"]),
    "FiftyOne": ("labels.json", "data", "a.jpg", "", ["all"]),
    "labelme2coco": ("annotations.json", "JPEGImages", "JPEGImages/a.jpg", "", ["all"]),
    "VGG annotator": ("via_export_coco.json", "", "a.jpg", "", ["all"]),
    "Supervisely": ("annotations/instances.json", "images", "a.jpg", "", ["all"]),
    "MMDetection": ("val/annotation_coco.json", "val", "a.jpg", "", ["val"]),
    "file of a split": ("annotations/val.json", "images/val", "a.jpg", "", ["val"]),
    "file of a split, one folder": ("annotations/val.json", "images", "a.jpg", "", ["val"]),
    "labels/": ("labels/val.json", "val", "a.jpg", "", ["val"]),
    "files in the folder": ("val.json", "images", "a.jpg", "", ["val"]),
    "own folder": ("val.json", "val", "a.jpg", "", ["val"]),
    "words in the name": ("val_annotations.coco.json", "images", "a.jpg", "", ["val"]),
    "no split": ("annotations.json", "images", "a.jpg", "", ["all"]),
    "no split, no folder": ("annotations.json", "", "a.jpg", "", ["all"]),
    "any name": ("2024-05-01 export.json", "images", "a.jpg", "", ["all"]),
    "one file": ("some.json", "images", "a.jpg", "some.json", ["all"]),
    "one file of COCO": (
        *("annotations/instances_val2017.json", "val2017", "a.jpg"),
        *("annotations/instances_val2017.json", ["val2017"]),
    ),
}


@pytest.fixture
def lay_out(coco, tmp_path, make_picture):
    """Writes a COCO file and its pictures into a folder."""
    root = tmp_path / "data"

    def write(annotation_file, image_folder, name="a.jpg", document=None):
        document = copy.deepcopy(document or coco.document)
        for row in document["images"]:
            make_picture(root / image_folder / row["file_name"])
        document["images"][0]["file_name"] = name
        (root / annotation_file).parent.mkdir(exist_ok=True, parents=True)
        (root / annotation_file).write_text(json.dumps(document))
        return root

    return write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_tools(lay_out, layout):
    file, folder, name, path, splits = LAYOUTS[layout]
    root = lay_out(file, folder, name)
    spec = root / path
    splits = [file.split("_")[1][: -len(".json")]] if splits is ... else splits
    assert splits_of_coco(str(spec)) == splits
    data = load(f"coco:{spec}", splits[0])
    assert [a.image_path for a in data.annotations] == [
        str(root / folder / name) for name in ("a.jpg", "b.png")
    ]
    np.testing.assert_array_equal(
        data.annotations[0].boxes, [[1, 2, 11, 22], [5.5, 6.25, 8.5, 10.25]]
    )
    assert [a.classes.tolist() for a in data.annotations] == [[1, 0], [0]]


def test_each_split_has_its_own_pictures(lay_out, coco):
    """Of the same names, in folders beside each other."""
    for split, width in (("train", 10), ("valid", 12), ("test", 14)):
        coco.document["annotations"][0]["bbox"] = [1, 2, width, 20]
        root = lay_out(f"{split}/_annotations.coco.json", split)
    assert sorted(splits_of_coco(str(root))) == ["test", "train", "valid"]
    for split, width in (("train", 10), ("valid", 12), ("test", 14)):
        first = load(f"coco:{root}", split).annotations[0]
        assert first.image_path == str(root / split / "a.jpg")
        assert first.boxes[0].tolist() == [1, 2, 1 + width, 22]
    with pytest.raises(DataError, match=r"split = dev: .*Use one of test, train, valid\."):
        load(f"coco:{root}", "dev")


def test_only_instances_count_beside_other_tasks(lay_out, tmp_path):
    for name in ("captions_val", "person_keypoints_val", "instances_val", "instances_default"):
        root = lay_out(f"annotations/{name}.json", "images")
    assert sorted(splits_of_coco(str(root))) == ["default", "val"]


def test_files_of_one_split_keep_their_names(lay_out):
    for name in ("train", "labels_train", "fold1"):
        root = lay_out(f"annotations/{name}.json", "images")
    assert sorted(splits_of_coco(str(root))) == ["fold1", "labels_train", "train"]
    assert len(load(f"coco:{root}", "labels_train").annotations) == 2


@pytest.mark.parametrize("split", ["all", "default"])
def test_cvats_default_is_all(lay_out, split):
    root = lay_out("annotations/instances_default.json", "images/default")
    assert len(load(f"coco:{root}", split).annotations) == 2


ROBOFLOW = [
    {"id": 0, "name": "animals", "supercategory": "none"},
    {"id": 4, "name": "dog", "supercategory": "animals"},
    {"id": 9, "name": "cat", "supercategory": "animals"},
]


def test_roboflows_empty_super_category_is_left_out(lay_out, coco):
    coco.document["categories"] = ROBOFLOW
    for split in ("train", "test"):
        root = lay_out(f"{split}/_annotations.coco.json", split)
    data = load(f"coco:{root}", "train")
    assert data.class_names == ("dog", "cat")
    assert data.category_ids == [4, 9]
    note = "category 0 (animals) is the super-category of others and has no object: left out"
    assert data.notes == {note: 1}
    assert load(f"coco:{root}", "test", data.class_names).notes == {}


def test_a_super_category_with_an_object_in_any_split_stays_in_all(lay_out, coco):
    coco.document["categories"] = ROBOFLOW
    root = lay_out("train/_annotations.coco.json", "train")
    coco.document["annotations"][2]["category_id"] = 0
    lay_out("test/_annotations.coco.json", "test")
    for split, second in (("train", 1), ("test", 0)):
        data = load(f"coco:{root}", split)
        assert data.class_names == ("animals", "dog", "cat")
        assert data.annotations[1].classes.tolist() == [second]
        assert data.notes == {}


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1, "name": "person", "supercategory": "person"}, *ROBOFLOW[1:]],  # of itself alone
        [{"id": 1, "name": "none"}, {**ROBOFLOW[1], "supercategory": "none"}, ROBOFLOW[2]],
        [{"id": 1, "name": "bird"}, *ROBOFLOW[1:]],
    ],
)
def test_other_classes_without_objects_stay(coco, categories):
    coco.document["categories"] = categories
    assert coco.read().class_names == (categories[0]["name"], "dog", "cat")


def test_an_unknown_layout_says_what_was_looked_for(lay_out):
    root = lay_out("deep/deeper/val.json", "deep/images")
    assert splits_of_coco(str(root)) == []
    with pytest.raises(DataError) as caught:
        load(f"coco:{root}", "val")
    for words in (
        "neither annotations/instances_val.json nor annotations/val.json nor val/annotations.json",
        "val/_annotations.coco.json nor val.json nor annotations/instances_default.json",
        "of JSON files it has 1: deep/deeper/val.json",
    ):
        assert words in str(caught.value)


def test_pictures_that_are_nowhere(lay_out, tmp_path):
    root = lay_out("annotations/instances_val.json", "pictures/of/val")
    with pytest.raises(DataError, match=r"file_name = a.jpg: .*all others.*looked for in .*data"):
        load(f"coco:{root}", "val", on_bad_example="skip")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"shapes": []}', b'{"images": [], "annotations": []}', b"\xff\xfe"]
)
def test_other_json_is_none(tmp_path, content):
    (tmp_path / "train.json").write_bytes(content)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.json").write_bytes(content)
    assert splits_of_coco(str(tmp_path)) == []
    assert splits_of_coco(str(tmp_path / "nowhere")) == []
    assert splits_of_coco(__file__) == []

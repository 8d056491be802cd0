"""The splits of a data set are found, whatever its kind."""

import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.splits import find_splits


def touch(folder, *names, text=""):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_voc_lists_of_pictures_not_of_classes(voc):
    main = voc.split.parent
    touch(main, "test.txt", "fold_1.txt", text="p1\n")
    touch(main, "cat_train.txt", text="p1  1\np2 -1\n")
    touch(main, "empty.txt")
    assert find_splits(f"voc:{voc.folder}") == ["trainval", "test", "fold_1"]


def test_vocdevkit_names_the_year(tmp_path):
    touch(tmp_path / "VOC2012" / "ImageSets" / "Main", "val.txt", "train.txt", text="a\n")
    touch(tmp_path / "VOC2007" / "ImageSets" / "Main", "test.txt", text="a\n")
    assert find_splits(f"voc:{tmp_path}") == ["2007_test", "2012_train", "2012_val"]


def test_coco_layouts_of_which_pictures_are_there(tmp_path):
    touch(tmp_path / "annotations", "instances_val2017.json", "instances_train2017.json")
    touch(tmp_path, "val2017/1.jpg", "test/annotations.json")
    assert find_splits(f"coco:{tmp_path}") == ["test", "val2017"]
    assert find_splits(f"coco:{tmp_path / 'annotations' / 'instances_val2017.json'}") == ["val2017"]
    assert find_splits(f"scenes:{tmp_path}") == ["test"]


@pytest.mark.parametrize("name", ["", "data.yaml"])
def test_yolo_keys(tmp_path, name):
    text = (
        "path: .\ntrain: images/train\nval:\n  - images/a\n  - images/b\ntest: # none\nnames: [a]\n"
    )
    touch(tmp_path, "data.yaml", text=text)
    assert find_splits(f"yolo:{tmp_path / name}") == ["train", "val"]


def test_tfrecord_shards(tmp_path):
    names = ["train-00000-of-00002", "train-00001-of-00002", "val-00000-of-00001"]
    touch(tmp_path / "a[b]", *(f"{name}.tfrecord" for name in names), "manifest.json")
    touch(tmp_path, "birds_test.record", "birds_dev.record", "fish_val.record")
    assert find_splits(f"tfrecord:{tmp_path}/a[b]") == ["train", "val"]
    assert find_splits(f"tfrecord:{tmp_path}/birds_{{split}}.record") == ["test", "dev"]
    assert find_splits(f"tfrecord:{tmp_path.parent}/*/*_{{split}}.rec*") == ["val", "test", "dev"]
    assert find_splits(f"tfrecord:{tmp_path}/birds_*.record") == ["all"]


def test_joined_sources_have_common_splits(tmp_path):
    touch(tmp_path, "a/train/annotations.json", "a/val/annotations.json")
    touch(tmp_path, "b/val/annotations.json", "b/test/annotations.json")
    assert find_splits(f"scenes:{tmp_path}/a,coco:{tmp_path}/b") == ["val"]


@pytest.mark.parametrize(
    "spec, words",
    [
        ("birds:x", "no such kind"),
        ("voc:", "no such kind"),
        ("voc:nowhere", "no split is found"),
        ("yolo:nowhere", "cannot be read"),
        ("tfrecord:nowhere/*", "no split is found"),
    ],
)
def test_nothing_found_is_said(spec, words):
    with pytest.raises(DataError, match=words):
        find_splits(spec)

"""The splits of a data set are found, whatever its kind."""

import dataclasses
import logging

import pytest

from harmonic_tf.data import sources
from harmonic_tf.data.example import DataError
from harmonic_tf.data.partition import Cut
from harmonic_tf.data.splits import (
    Parts,
    check_choice,
    find_splits,
    whole_split,
    with_missing_cut,
)


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
    touch(tmp_path, "c/valid/annotations.json", "c/train/annotations.json")
    assert find_splits(f"{tmp_path}/a,coco:{tmp_path}/c") == ["train", "val"]


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


@pytest.mark.parametrize(
    ("asked", "there", "own"),
    (
        ("val", ["train", "valid"], "valid"),
        ("valid", ["train", "validation"], "validation"),
        ("validation", ["val"], "val"),
        ("val", ["val", "valid"], "val"),
        ("val", ["valid", "validation"], "val"),  # which one is meant cannot be told
        ("test", ["valid"], "test"),
        ("train", [], "train"),
    ),
)
def test_validation_has_three_names(asked, there, own):
    assert sources.own_name(asked, there) == own


def test_the_other_name_is_read(voc):
    (voc.split.parent / "valid.txt").write_text("p2\n")
    data = sources.load(str(voc.folder), "val")
    assert data.name == "voc:voc/valid"
    assert [a.image_id for a in data.annotations] == ["p2"]


@pytest.fixture
def many(voc, make_picture):
    """A VOC folder of ten pictures, of which only trainval is a split."""
    for number in range(10):
        voc.write(f"q{number}", voc.element("cat", 1, 1, 9, 9 + number))
        make_picture(voc.images / f"q{number}.jpg", width=20 + number)
    voc.split.write_text("".join(f"q{number}\n" for number in range(10)))
    return voc


def test_parts_are_read_as_splits_are(many):
    cut = Cut("trainval", val_fraction=0.2, test_fraction=0.3, test_split="2007_test")
    parts = Parts(str(many.folder), cut=cut)
    read = {name: parts.load(name) for name in ("train", "val", "test")}
    assert [len(part.annotations) for part in read.values()] == [5, 2, 3]
    shown = {a.image_id for part in read.values() for a in part.annotations}
    assert shown == {f"q{number}" for number in range(10)}
    assert parts.load("trainval") is read["train"] and parts.load("2007_test") is read["test"]
    assert find_splits(str(many.folder), cut) == ["train", "val", "test"]
    again = Parts(f"voc:{many.folder}", "skip", cut).load("test", ["cat"])
    assert [a.image_id for a in again.annotations] == [a.image_id for a in read["test"].annotations]
    assert len(Parts(str(many.folder)).load("trainval").annotations) == 10


def test_splits_that_are_there_stay(many):
    (many.split.parent / "test.txt").write_text("p1\n")
    cut = Cut("trainval", val_fraction=0.2)
    parts = Parts(str(many.folder), cut=cut)
    assert [a.image_id for a in parts.load("test").annotations] == ["p1"]
    assert len(parts.load("train").annotations) == 8
    assert find_splits(str(many.folder), cut) == ["train", "val", "test"]
    with pytest.raises(DataError, match="test_split = test: is there, and is to be cut off too"):
        Parts(str(many.folder), cut=Cut("trainval", test_fraction=0.2))


def test_a_data_set_without_splits_is_cut_whatever_the_training_split_is_called(coco, tmp_path):
    coco.read()
    touch(tmp_path, "x.record")
    assert whole_split(f"coco:{coco.file}", "trainval") == "all"
    assert whole_split(f"tfrecord:{tmp_path}/*.record", "train") == "all"
    assert whole_split(f"{coco.file},{tmp_path}/x.record", "train") == "all,all"
    parts = Parts(str(coco.file), cut=Cut(test_fraction=0.5))
    assert [len(parts.load(name).annotations) for name in ("train", "test")] == [1, 1]
    assert find_splits(str(coco.file)) == ["all"]
    assert find_splits(str(coco.file), Cut(test_fraction=0.5)) == ["train", "test"]


NO_CUT = Cut()


@pytest.mark.parametrize(
    ("splits", "cut", "words"),
    (
        (("train", None, "test"), NO_CUT, None),
        (("train", "val", "valid"), NO_CUT, None),
        (("train", "train", "train"), NO_CUT, None),
        (("train", None, "dev"), Cut(test_fraction=0.1), None),
        (("train", None, "test+valid"), NO_CUT, None),  # for the reader to say
        (("big", None, "test"), NO_CUT, "train_split = big: no such split; there are train, valid"),
        (("train", "dev", "test"), NO_CUT, r"val_split = dev: .*--val_split= --val_fraction=0.1"),
        (("train", None, "dev"), NO_CUT, r"Name one with --test_split.* --test_fraction=0.2"),
    ),
)
def test_a_run_s_splits_are_there(splits, cut, words, tmp_path):
    touch(tmp_path, *(f"{name}/annotations.json" for name in ("train", "valid", "test")))
    if words is None:
        check_choice(str(tmp_path), *splits, cut)
        return
    with pytest.raises(DataError, match=words):
        check_choice(str(tmp_path), *splits, cut)


def test_a_file_is_not_both_trained_and_measured_on_unasked(coco):
    coco.read()
    words = "annotations.json: test_split = test: the data set has no splits. Let it be cut: "
    words += "--val_fraction=0.1 --test_fraction=0.2; --split_by=REGEX keeps frames"
    with pytest.raises(DataError, match=words):
        check_choice(f"{coco.file}", "train", None, "test", NO_CUT)
    check_choice(f"{coco.file}", "train", None, "train", NO_CUT)
    check_choice(f"{coco.file}", "train", None, "test", Cut(test_fraction=0.2))


@pytest.mark.parametrize(
    ("there", "val_split", "given", "missing"),
    (
        (("train", "valid", "test"), "val", NO_CUT, {}),
        (("train", "test"), "val", NO_CUT, {"val": 0.1}),
        (("train", "test"), None, NO_CUT, {}),
        (("train",), "val", NO_CUT, {"val": 0.1, "test": 0.2}),
        (("train",), None, Cut(val_fraction=0.3, test_fraction=0.4), {}),
        (("train", "val"), "val", Cut(test_split="dev", seed=3), {"test": 0.2}),
    ),
)
def test_splits_that_are_missing_are_cut_off_where_asked_for(
    there, val_split, given, missing, tmp_path, caplog
):
    touch(tmp_path, *(f"{name}/annotations.json" for name in there))
    with caplog.at_level(logging.INFO, "absl"):
        cut = with_missing_cut(str(tmp_path), val_split, given)
    expected = {f"{name}_fraction": share for name, share in missing.items()}
    assert cut == dataclasses.replace(given, **expected)
    for name in ("val", "test"):
        assert (f"--{name}_fraction=" in caplog.text) == (name in missing)


def test_all_splits_are_missing_from_a_file(coco):
    coco.read()
    cut = with_missing_cut(str(coco.file), "val", NO_CUT)
    assert cut.fractions == {"val": 0.1, "test": 0.2}

"""What takes no part is counted and said; a split with nothing to learn from is an error."""

import numpy as np
import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.inspection.findings import inspect
from harmonic_tf.data.inspection.report import headlines
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.data.unused import check_something_to_learn, takes_no_part

CROWD = "crowd region: not trained on, ignored in evaluation"
DIFFICULT = "object marked difficult: trained on, ignored in evaluation"
BACKGROUND = "picture without objects: background alone"


def mark(coco, *crowds):
    for row, crowd in zip(coco.document["annotations"], crowds):
        row["iscrowd"] = crowd


def test_all_takes_part(coco, voc):
    for data in (coco.read(), voc.read()):
        assert takes_no_part(data) == {}
        check_something_to_learn(data)


def test_crowds_are_counted_and_their_classes_too(coco):
    mark(coco, 1, 0, 1)  # the only cat, one dog, and the only dog of picture 3
    coco.document["categories"].append({"id": 11, "name": "emu"})
    expected = {CROWD: 2, BACKGROUND: 1, "class without objects: cat, emu": 2}
    assert takes_no_part(coco.read(class_names=["cat", "dog", "emu"])) == expected


def test_what_is_counted_is_what_training_leaves_out(coco):
    """Against the batches themselves: crowds are missing there, what is difficult is not."""
    mark(coco, 1, 0, 1)
    data = coco.read()
    data.annotations[0].difficult[:] = True
    assert takes_no_part(data) == {
        CROWD: 2,
        DIFFICULT: 1,
        BACKGROUND: 1,
        "class without objects: cat": 1,
    }
    _, targets = next(iter(training_batches(data, 32, 2, seed=0, augmentation=None)))
    per_picture = np.sum(targets["classes"].numpy() >= 0, axis=1)
    assert sorted(per_picture) == [0, 1]


def test_difficult_objects(voc):
    difficult = voc.element("dog", 6, 7, 9, 11, more="<difficult>1</difficult>")
    voc.write("p1", voc.element("cat", 2, 3, 11, 22), difficult)
    data = voc.read()
    assert takes_no_part(data) == {DIFFICULT: 1}
    check_something_to_learn(data)


def test_pictures_without_objects_are_background(voc):
    voc.write("p2")
    assert takes_no_part(voc.read()) == {BACKGROUND: 1}


def test_many_classes_are_cut_short(coco):
    names = ["cat", "dog", *(f"c{number:02d}" for number in range(13))]
    (sentence,) = takes_no_part(coco.read(class_names=names))
    assert sentence.endswith("c08, c09 and 3 more")


def test_nothing_but_crowds(coco):
    mark(coco, 1, 1, 1)
    with pytest.raises(DataError, match=r"2 pictures, 3 crowd regions.*nothing to learn from"):
        check_something_to_learn(coco.read())


def test_inspection_says_it(coco):
    mark(coco, 1, 0, 0)
    coco.read()
    lines = headlines(inspect(f"coco:{coco.file}", ["train"], image_size=64))
    assert f"train: 1 x {CROWD}" in lines
    assert "train: 1 x class without objects: cat" in lines

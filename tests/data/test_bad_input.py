"""Each kind of bad data: one clear error, or left out and listed."""

import json
import math

import numpy as np
import pytest

from harmonic_tf.data.example import DataError, Problem
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.sources import load


def test_long_texts_of_others_lose_their_middle():
    problem = Problem("a.json", "x" * 10**5, "1", "y" * 10**5, "z" * 10**5)
    assert len(str(Problem("x" * 10**5, "b", "c", "d", "e"))) < 4000
    assert len(str(problem)) < 4000 and str(problem).startswith("a.json: xxx")
    assert str(Problem("a", "b", "c", "d", "e")) == "a: b = c: d. e."


def _set(table, index, key, value):
    def change(coco):
        coco.document[table][index][key] = value

    return change


def _delete(table, index, key):
    def change(coco):
        del coco.document[table][index][key]

    return change


# What is done to the file: the field that the error names, what it says, the objects that are
# left in each picture.
BAD_COCO = {
    "no area": (
        _set("annotations", 1, "bbox", [5, 5, 0, 3]),
        "annotations[1].bbox",
        "area",
        [1, 1],
    ),
    "outside": (
        _set("annotations", 1, "bbox", [35, 5, 7, 3]),
        "annotations[1].bbox",
        "ins",
        [1, 1],
    ),
    "all out": (
        _set("annotations", 1, "bbox", [41, 5, 7, 3]),
        "annotations[1].bbox",
        "ins",
        [1, 1],
    ),
    "NaN": (_set("annotations", 1, "bbox", [math.nan, 5, 7, 3]), "[1].bbox", "finite", [1, 1]),
    "infinite": (_set("annotations", 1, "bbox", [5, 5, math.inf, 3]), "[1].bbox", "finite", [1, 1]),
    "words": (_set("annotations", 1, "bbox", ["left", 5, 7, 3]), "[1].bbox", "finite", [1, 1]),
    "three": (_set("annotations", 1, "bbox", [5, 5, 7]), "[1].bbox", "four", [1, 1]),
    "no bbox": (_delete("annotations", 1, "bbox"), "annotations[1].bbox", "required", [1, 1]),
    "category": (_set("annotations", 1, "category_id", 5), "category_id", "categories", [1, 1]),
    "extra": (_set("annotations", 1, "occlusion", "much"), "[1].occlusion", "finite", [1, 1]),
    "area": (_set("annotations", 1, "area", [4]), "annotations[1].area", "finite", [1, 1]),
    "negative area": (_set("annotations", 1, "area", -4), "[1].area", "negative", [1, 1]),
    "flag": (_set("annotations", 1, "iscrowd", "no"), "[1].iscrowd", "neither 0 nor 1", [1, 1]),
    "unknown image": (_set("annotations", 1, "image_id", 99), "[1].image_id", "no such", [1, 1]),
    "list as id": (_set("annotations", 1, "image_id", [7]), "[1].image_id", "not an", [1, 1]),
    "missing picture": (_set("images", 0, "file_name", "c.jpg"), "file_name", "missing", [1]),
    "upwards": (_set("images", 0, "file_name", "../images/c.jpg"), "file_name", "missing", [1]),
    "absolute": (_set("images", 0, "file_name", "/etc/passwd"), "file_name", "missing", [1]),
    "windows": (_set("images", 0, "file_name", "C:\\c.jpg"), "file_name", "missing", [1]),
    "only upwards": (_set("images", 0, "file_name", ".."), "file_name", "below", [1]),
    "no name": (_delete("images", 0, "file_name"), "images[0].file_name", "below", [1]),
    "text as height": (_set("images", 0, "height", "tall"), "images[0].height", "finite", [1]),
    "zero height": (_set("images", 0, "height", 0), "images[0].height", "side", [1]),
    "half a pixel": (_set("images", 0, "width", 40.5), "images[0].width", "side", [1]),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_bad_coco(coco, case):
    change, field, problem, left = BAD_COCO[case]
    change(coco)
    with pytest.raises(DataError) as caught:
        coco.read()
    found = caught.value.problem
    assert found.file == str(coco.file)
    assert field in found.field
    assert problem in found.problem
    assert "on_bad_example=skip" in found.remedy
    for part in (found.file, found.field, found.value, found.problem, found.remedy):
        assert part and part in str(caught.value)

    data = coco.read(on_bad_example="skip")
    assert [len(annotation.boxes) for annotation in data.annotations] == left
    assert [(p.field, p.problem) for p in data.skipped] == [(found.field, found.problem)]


def test_coco_class_not_in_the_list(coco):
    with pytest.raises(DataError, match=r"annotations\[0\].category_id = 9 \(cat\)"):
        coco.read(class_names=["dog"])
    data = coco.read(class_names=["dog"], on_bad_example="skip")
    assert [len(annotation.boxes) for annotation in data.annotations] == [1, 1]
    assert len(data.skipped) == 1


def test_coco_duplicate_image_ids_drop_both(coco):
    """Whose the objects are cannot be known."""
    coco.document["images"].append({**coco.document["images"][1], "id": 7})
    with pytest.raises(DataError, match=r"images\[0\].id = 7: id is not unique"):
        coco.read()
    data = coco.read(on_bad_example="skip")
    assert [annotation.image_id for annotation in data.annotations] == [3]
    assert [problem.field for problem in data.skipped] == ["images[0].id", "images[2].id"]


def test_error_counts_the_others(coco):
    for row, bbox in zip(coco.document["annotations"], ([0, 0, 0, 0], [0, 0, 0, 9], [0, 0, 99, 9])):
        row["bbox"] = bbox
    with pytest.raises(DataError, match=r"annotations\[0\].*1 more like it, 1 of other kinds"):
        coco.read()
    with pytest.raises(DataError, match="is empty"):
        coco.read(on_bad_example="skip")


@pytest.mark.parametrize("mode", ("error", "skip"))
class TestNoDataAtAll:
    """What makes the whole set unusable is an error in both modes."""

    @pytest.mark.parametrize(
        ("text", "message"),
        (
            ('{"images": [', "does not parse as JSON"),
            ("[" * 100_000, "does not parse as JSON"),
            ("[1, 2]", "not a COCO instances file"),
            ('{"images": [], "annotations": []}', "categories = missing"),
            ('{"images": [], "annotations": [], "categories": []}', "no classes"),
            (
                '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
                "is empty",
            ),
            (
                '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"},'
                '{"id": 1, "name": "b"}]}',
                r"categories\[1\]",
            ),
        ),
        ids=("cut", "deep", "list", "no categories", "no classes", "empty", "twice"),
    )
    def test_coco_file(self, coco, mode, text, message):
        coco.file.write_text(text)
        with pytest.raises(DataError, match=message):
            load(f"coco:{coco.file}", "train", on_bad_example=mode)

    def test_coco_names_twice(self, coco, mode):
        with pytest.raises(DataError, match="'dog': is empty or not unique"):
            coco.read(class_names=["dog", "dog"], on_bad_example=mode)

    def test_coco_without_its_folder(self, coco, mode):
        coco.images.rename(coco.folder / "pictures")
        with pytest.raises(DataError, match=r"image folder = .*images: is missing"):
            coco.read(on_bad_example=mode)

    def test_missing_path(self, tmp_path, mode):
        for kind in ("coco", "voc", "yolo"):
            with pytest.raises(DataError, match=r"nowhere.*is missing"):
                load(f"{kind}:{tmp_path / 'nowhere'}", "train", on_bad_example=mode)

    def test_path_without_the_format(self, tmp_path, mode):
        with pytest.raises(DataError, match=r"neither annotations/instances_train.json nor"):
            load(f"coco:{tmp_path}", "train", on_bad_example=mode)
        with pytest.raises(DataError, match=r"neither ImageSets nor VOC2007.*VOCdevkit"):
            load(f"voc:{tmp_path}", "2007_train", on_bad_example=mode)

    def test_scenes_not_rendered(self, tmp_path, mode):
        with pytest.raises(DataError, match=r"train: .* not rendered yet.*render\('.*train'"):
            load(f"scenes:{tmp_path}", "train", on_bad_example=mode)

    @pytest.mark.parametrize("spec", ("csv:/data", "coco", "voc:", "", "tfds:", "csv:b,coco:a"))
    def test_unknown_kind(self, spec, mode):
        with pytest.raises(
            DataError, match="KIND is one of coco, voc, yolo, tfrecord, tfds, scenes"
        ):
            load(spec, "train", on_bad_example=mode)

    def test_voc_split(self, voc, mode):
        with pytest.raises(DataError, match=r"val\.txt: split = val .*: cannot be read"):
            voc.read("val", on_bad_example=mode)
        voc.split.write_text("\n")
        with pytest.raises(DataError, match="is empty"):
            voc.read(on_bad_example=mode)

    def test_voc_without_objects(self, voc, mode):
        voc.write("p1")
        voc.write("p2")
        with pytest.raises(DataError, match="2 pictures, 0 objects"):
            voc.read(on_bad_example=mode)


def test_unknown_mode(coco):
    with pytest.raises(DataError, match="on_bad_example = ignore"):
        coco.read(on_bad_example="ignore")


def _objects(*elements):
    def change(voc):
        voc.write("p1", voc.element("cat", 2, 3, 11, 22), *(voc.element(*e) for e in elements))

    return change


def _text(text):
    def change(voc):
        (voc.annotations / "p1.xml").write_text(text)

    return change


def _filename(name):
    def change(voc):
        voc.write("p1", voc.element("cat", 2, 3, 11, 22), filename=name)

    return change


BOMB = '<!DOCTYPE a [<!ENTITY b "cat"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
SIZE = "<annotation><size><width>{}</width><height>30</height></size></annotation>"

BAD_VOC = {
    "no area": (_objects(("dog", 5, 6, 5, 9)), "object[1]/bndbox", "area", [1, 1]),
    "reversed": (_objects(("dog", 9, 6, 5, 9)), "object[1]/bndbox", "area", [1, 1]),
    "outside": (_objects(("dog", 5, 6, 42, 9)), "object[1]/bndbox", "inside", [1, 1]),
    "below zero": (_objects(("dog", -1, 6, 9, 9)), "object[1]/bndbox", "inside", [1, 1]),
    "NaN": (_objects(("dog", 5, "nan", 9, 9)), "object[1]/bndbox/ymin", "finite", [1, 1]),
    "words": (_objects(("dog", 5, 6, "far", 9)), "object[1]/bndbox/xmax", "finite", [1, 1]),
    "nothing": (_objects(("dog", 5, 6, "", 9)), "object[1]/bndbox/xmax", "finite", [1, 1]),
    "no name": (_objects((" ", 5, 6, 9, 9)), "object[1]/name", "required", [1, 1]),
    "cut": (_text("<annotation><object>"), "file", "parse as XML", [1]),
    "no XML": (_text("xmin 1"), "file", "parse as XML", [1]),
    "encoding": (_text('<?xml version="1.0" encoding="no"?><a/>'), "file", "parse as XML", [1]),
    "bomb": (_text(BOMB), "file", "parse as XML", [1]),
    "no VOC": (_text("<annotations/>"), "file", "is not an <annotation> of VOC", [1]),
    "no number for a size": (_text(SIZE.format("wide")), "size/width", "finite", [1]),
    "size below zero": (_text(SIZE.format("-4")), "size/width", "side", [1]),
    "no annotation": (lambda v: (v.annotations / "p1.xml").unlink(), "file", "cannot be", [1]),
    "no picture": (lambda v: (v.images / "p1.jpg").unlink(), "filename", "missing", [1]),
    "another's picture": (_filename("p2.jpg"), "filename", "names another image", [1]),
}


@pytest.mark.parametrize("case", BAD_VOC)
def test_bad_voc(voc, case):
    change, field, problem, left = BAD_VOC[case]
    change(voc)
    with pytest.raises(DataError) as caught:
        voc.read()
    found = caught.value.problem
    assert found.file == str(voc.annotations / "p1.xml")
    assert found.field == field
    assert problem in found.problem
    assert "on_bad_example=skip" in found.remedy

    data = voc.read(on_bad_example="skip")
    assert [len(annotation.boxes) for annotation in data.annotations] == left
    assert [(p.field, p.problem) for p in data.skipped] == [(found.field, found.problem)]


def test_voc_class_not_in_the_list(voc):
    with pytest.raises(DataError, match=r"p1.xml: object\[0\]/name = cat: class is not in"):
        voc.read(class_names=["dog"])
    data = voc.read(class_names=["dog"], on_bad_example="skip")
    assert [len(annotation.boxes) for annotation in data.annotations] == [1, 1]


@pytest.mark.parametrize(
    ("line", "problem"),
    (("p1", "not unique"), ("../p1", "below"), ("/etc/passwd", "below")),
)
def test_voc_bad_line_in_split(voc, line, problem):
    voc.split.write_text(f"p1\np2\n{line}\n")
    with pytest.raises(DataError, match=rf"trainval\.txt: line 3 = .*{problem}"):
        voc.read()
    data = voc.read(on_bad_example="skip")
    assert [annotation.image_id for annotation in data.annotations] == ["p1", "p2"]
    assert len(data.skipped) == 1


def test_picture_that_is_cut_off(coco):
    picture = coco.images / "a.jpg"
    picture.write_bytes(picture.read_bytes()[:-20])
    _check_first_picture_is_bad(coco, picture, "does not decode")


def test_picture_that_is_none(coco):
    picture = coco.images / "a.jpg"
    picture.write_text("<html>404</html>")
    _check_first_picture_is_bad(coco, picture, "format that cannot be read")


def test_picture_without_bytes(coco):
    picture = coco.images / "a.jpg"
    picture.write_bytes(b"")
    _check_first_picture_is_bad(coco, picture, "picture is empty")


def test_picture_of_another_size(coco, make_picture):
    picture = coco.images / "a.jpg"
    make_picture(picture, width=30, height=40)
    _check_first_picture_is_bad(coco, picture, "30 x 40, annotated 40 x 30")


def test_picture_that_vanished(coco):
    data = coco.read()
    (coco.images / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: .*cannot be read"):
        check_pictures(data)


def _check_first_picture_is_bad(coco, picture, message):
    coco.document["annotations"][0]["bbox"] = [0, 0, 0, 0]  # listed before the picture
    data = coco.read(on_bad_example="skip")
    with pytest.raises(DataError, match=message) as caught:
        check_pictures(data)
    assert caught.value.problem.file == str(picture)
    checked = check_pictures(data, on_bad_example="skip")
    assert [annotation.image_id for annotation in checked.annotations] == [3]
    assert [problem.file for problem in checked.skipped] == [str(coco.file), str(picture)]
    assert checked.class_names == data.class_names


@pytest.mark.parametrize("mode", ("error", "skip"))
def test_good_pictures_pass(coco, voc, mode):
    for data in (coco.read(), voc.read()):
        checked = check_pictures(data, mode)
        assert [a.image_id for a in checked.annotations] == [a.image_id for a in data.annotations]
        assert not checked.skipped


def test_no_picture_decodes(coco):
    for row in coco.document["images"]:
        (coco.images / row["file_name"]).write_text("?")
    with pytest.raises(DataError, match="0 pictures, 0 objects, 2 bad ones"):
        check_pictures(coco.read(), on_bad_example="skip")


def test_json_numbers_beyond_floats(coco):
    text = json.dumps(coco.document).replace("5.5", "1" + "0" * 400)
    coco.file.write_text(text)
    with pytest.raises(DataError, match=r"annotations\[1\].bbox.*finite"):
        load(f"coco:{coco.file}", "train")


def test_what_is_kept_is_sound(coco):
    coco.document["annotations"] += [
        {"image_id": 7, "category_id": 4, "bbox": [x, y, w, h]}
        for x in (-2, -1, 0, 39.5, 40, math.nan)
        for y in (-1.5, -0.5, 29)
        for w in (-1, 0, 1e-9, 1, 41, 1e300)
        for h in (0, 0.5, 30, 33)
    ]
    data = coco.read(on_bad_example="skip")
    boxes = data.annotations[0].boxes
    assert len(boxes) + len(data.skipped) == 2 + 6 * 3 * 6 * 4
    assert np.isfinite(boxes).all() and (boxes >= 0).all() and (boxes <= [40, 30, 40, 30]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()

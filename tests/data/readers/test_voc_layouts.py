"""VOC's XML files are found where labelling tools leave them, and the splits with them."""

import numpy as np
import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.finding import RENAMED
from harmonic_tf.data.readers.voc import read_voc, splits_of_voc

OBJECT = (
    "<annotation><filename>{}.jpg</filename>"
    "<size><width>40</width><height>30</height></size><object><name>cat</name>"
    "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>{}</xmax><ymax>22</ymax></bndbox></object>"
    "</annotation>"
)
UNANNOTATED = "an image without an XML file is left out"


@pytest.fixture
def lay_out(tmp_path, make_picture):
    """Makes images and XML files; the box of the nth is [1, 2, 10 + n, 22]."""

    def make(**files):
        folder = tmp_path / "set"
        for number, (xml_file, image) in enumerate(files.items()):
            path = folder / xml_file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(OBJECT.format(path.stem, 10 + number))
            make_picture(folder / image)
        return folder

    return make


def check(folder, split, images):
    """The split's images, and their boxes in the order in which `lay_out` made them."""
    data = read_voc(str(folder), split)
    assert [a.image_path for a in data.annotations] == [str(folder / image) for image in images]
    assert data.class_names == ("cat",)
    return data


def boxes(data):
    return np.concatenate([a.boxes for a in data.annotations]).tolist()


@pytest.mark.parametrize(
    ("xml", "images"),
    (
        ("{}.xml", "{}.jpg"),  # labelImg
        ("{}.jpg.xml", "{}.jpg"),
        ("annots/{}.xml", "images/{}.jpg"),
        ("Annotations/{}.xml", "JPEGImages/{}.JPG"),
        ("annotations/{}.xml", "imgs/{}.png"),
        ("labels/{}.xml", "images/{}.jpg"),
        ("xml/{}.xml", "img/{}.jpg"),
        ("XML/{}.XML", "Images/{}.jpg"),
        ("annotations/xmls/{}.xml", "images/{}.jpg"),  # Oxford-IIIT Pet
        ("annots/{}.xml", "{}.jpg"),
        ("{}.xml", "images/{}.jpg"),
        ("images/{}.xml", "images/{}.jpg"),
        ("cam1/{}.xml", "cam1/{}.jpg"),
        ("annots/day/{}.xml", "images/day/{}.jpg"),
    ),
)
def test_one_folder_without_splits(lay_out, xml, images):
    folder = lay_out(**{xml.format(name): images.format(name) for name in "ab"})
    (folder / "notes.txt").write_text("no list")
    assert splits_of_voc(str(folder)) == ["all"]
    data = check(folder, "all", [images.format("a"), images.format("b")])
    # Pixels counted from 1, the last one included: 2 to 10 are the span from 1 to 10.
    assert boxes(data) == [[1, 2, 10, 22], [1, 2, 11, 22]]
    assert data.notes == ({} if images.endswith(".jpg") else {RENAMED: 2})


@pytest.mark.parametrize(
    ("xml", "images"),
    (
        ("{split}/{}.xml", "{split}/{}.jpg"),  # Roboflow
        ("{split}/annots/{}.xml", "{split}/images/{}.jpg"),
        ("annotations/{split}/{}.xml", "images/{split}/{}.jpg"),
        ("annotations/{split}/{}.xml", "images/{}.jpg"),
        ("annotations/{split}/{}.xml", "{split}/{}.jpg"),
        ("annotations/{split}/{}.xml", "{split}/images/{}.jpg"),
    ),
)
def test_a_folder_for_each_split(lay_out, xml, images):
    names = {"train": "ab", "valid": "c", "test": "d"}
    folder = lay_out(
        **{
            xml.format(name, split=split): images.format(name, split=split)
            for split, letters in names.items()
            for name in letters
        }
    )
    assert sorted(splits_of_voc(str(folder))) == ["test", "train", "valid"]
    paths = [images.format(name, split="train") for name in "ab"]
    data = check(folder, "train", paths)
    assert boxes(data) == [[1, 2, 10, 22], [1, 2, 11, 22]]
    assert [a.image_id for a in data.annotations] == ["a", "b"]
    data = check(folder, "train+valid", [*paths, images.format("c", split="valid")])
    assert boxes(data)[2] == [1, 2, 12, 22]
    assert not data.notes
    with pytest.raises(DataError, match=r"split = all .*Name one of"):
        read_voc(str(folder), "all")


@pytest.mark.parametrize("line", ("a", "a.jpg", "a.xml"))
@pytest.mark.parametrize("place", ("ImageSets/Main", "ImageSets"))
def test_lists_of_other_folders(lay_out, line, place):
    folder = lay_out(**{"annotations/a.xml": "images/a.jpg", "annotations/b.xml": "images/b.jpg"})
    (folder / place).mkdir(parents=True)
    (folder / place / "default.txt").write_text(f"{line}\n")  # CVAT
    assert splits_of_voc(str(folder)) == ["default"]
    data = check(folder, "default", ["images/a.jpg"])
    assert data.annotations[0].image_id == "a"
    with pytest.raises(DataError, match=r"split = all .*Name one of default"):
        read_voc(str(folder), "all")


@pytest.mark.parametrize(
    ("name", "line"),
    (
        ("train.txt", "a"),
        ("train.txt", "images/a.jpg"),
        ("train_list.txt", "./images/a.jpg ./annots/a.xml"),  # PaddleDetection
        ("test.txt", "images\\a.jpg annots\\a.xml"),
    ),
)
def test_lists_beside_the_folders(lay_out, name, line):
    folder = lay_out(**{"annots/a.xml": "images/a.jpg", "annots/b.xml": "images/b.jpg"})
    (folder / name).write_text(f"{line}\n")
    (folder / "label_list.txt").write_text("cat\n")
    split = name[: -len(".txt")]
    assert splits_of_voc(str(folder)) == [split]
    data = check(folder, split, ["images/a.jpg"])
    assert data.annotations[0].image_id == "a"


def test_the_folder_of_the_xml_files_alone(lay_out):
    folder = lay_out(**{"Annotations/a.xml": "JPEGImages/a.jpg"})
    assert splits_of_voc(str(folder / "Annotations")) == ["all"]
    (annotation,) = read_voc(str(folder / "Annotations"), "all").annotations
    assert annotation.image_path == str(folder / "JPEGImages" / "a.jpg")


def test_years_without_lists(lay_out):
    folder = lay_out(**{"VOC2007/Annotations/a.xml": "VOC2007/JPEGImages/a.jpg"})
    assert splits_of_voc(str(folder)) == ["2007_all"]
    check(folder, "2007_all", ["VOC2007/JPEGImages/a.jpg"])


def test_a_list_whose_name_has_parts(make_voc, tmp_path):
    voc = make_voc(tmp_path / "VOCdevkit" / "VOC2007")
    voc.split.rename(voc.split.with_name("fold_1.txt"))
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        assert splits_of_voc(str(root)) == ["2007_fold_1"]
        assert len(read_voc(str(root), "2007_fold_1").annotations) == 2


def test_a_folder_around_the_data_set(make_voc, lay_out, tmp_path):
    """Its splits are not poured together."""
    make_voc(tmp_path / "zip" / "birds")
    assert splits_of_voc(str(tmp_path / "zip")) == ["trainval"]
    assert len(read_voc(str(tmp_path / "zip"), "trainval").annotations) == 2
    folder = lay_out(**{f"{s}/train/{s}.xml": f"{s}/train/{s}.jpg" for s in ("birds", "fish")})
    assert splits_of_voc(str(folder)) == ["birds_train", "fish_train"]
    check(folder, "fish_train", ["fish/train/fish.jpg"])


def test_empty_image_sets_are_no_splits(lay_out):
    folder = lay_out(**{"Annotations/a.xml": "JPEGImages/a.jpg"})
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    assert splits_of_voc(str(folder)) == ["all"]
    check(folder, "all", ["JPEGImages/a.jpg"])


def test_images_without_xml_are_said(lay_out, make_picture):
    folder = lay_out(**{"train/a.xml": "train/a.jpg"})
    make_picture(folder / "train" / "b.png")
    make_picture(folder / "train" / "c.png")
    assert read_voc(str(folder), "train").notes == {UNANNOTATED: 2}


def test_ids_of_folders_are_unique(lay_out):
    folder = lay_out(**{"annots/a.xml": "images/a.jpg", "xml/a.xml": "images/a.jpg"})
    with pytest.raises(DataError, match=r"xml/a\.xml: file = a: id is not unique"):
        read_voc(str(folder), "all")


@pytest.mark.parametrize(
    "files", ({}, {"train.txt": "x"}, {"annotations.xml": "<annotations></annotations>"})
)
def test_folders_of_another_kind(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert splits_of_voc(str(tmp_path)) == []
    held = ", ".join(files) or "nothing"
    with pytest.raises(DataError, match=f"split = train .the folder holds {held}.*ImageSets/Main"):
        read_voc(str(tmp_path), "train")
    assert splits_of_voc(str(tmp_path / "nowhere")) == []


def test_xml_of_another_kind_is_named(lay_out):
    folder = lay_out(**{"a.xml": "a.jpg"})
    (folder / "cvat.xml").write_text("<annotations/>")
    with pytest.raises(DataError, match=r"cvat\.xml: file = <annotations>: .*as Pascal VOC"):
        read_voc(str(folder), "all")
    assert len(read_voc(str(folder), "all", on_bad_example="skip").annotations) == 1

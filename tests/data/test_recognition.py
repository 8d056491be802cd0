"""A path alone is read as what it is, or refused with what was found and what is nearest."""

import dataclasses
import json
import pathlib

import pytest

from harmonic_tf.data import sources
from harmonic_tf.data.example import DataError
from harmonic_tf.data.kinds import KINDS
from harmonic_tf.data.scenes import rendering
from harmonic_tf.data.splits import described, find_splits

VOC = "<annotation><filename>a.jpg</filename></annotation>"


def touch(folder, *names, text=""):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def coco_folder(folder):
    touch(folder, "annotations/instances_train.json", "annotations/instances_val.json", text="{}")
    touch(folder, "train/1.jpg", "val/2.jpg")


def voc_folder(folder):
    touch(folder, "ImageSets/Main/trainval.txt", "ImageSets/Main/test.txt", text="a\n")
    touch(folder, "Annotations/a.xml", text=VOC)
    touch(folder, "JPEGImages/a.jpg")


def yolo_folder(folder):
    touch(folder, "data.yaml", text="train: images/train\nval: images/val\nnames: [cat]\n")
    touch(folder, "images/train/a.jpg", "images/val/b.jpg")


def record_folder(folder):
    touch(folder, "train-00000-of-00001.tfrecord", "label_map.pbtxt")


def devkit(folder):
    touch(folder, "VOC2007/ImageSets/Main/train.txt", text="a\n")


FOLDERS = {
    "coco": (coco_folder, ["train", "val"]),
    "voc": (voc_folder, ["trainval", "test"]),
    "yolo": (yolo_folder, ["train", "val"]),
    "tfrecord": (record_folder, ["train"]),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_of_the_one_kind_that_is_found(kind, tmp_path):
    make, splits = FOLDERS[kind]
    make(tmp_path / "mine")
    path = f"{tmp_path}/mine"
    assert sources.identified(path) == f"{kind}:{path}"
    assert find_splits(path) == splits
    assert described(path) == [f"{path}: read as {kind}, splits {', '.join(splits)}"]
    assert described(f"{kind}:{path}") == []


def test_a_devkit(tmp_path):
    devkit(tmp_path)
    assert described(str(tmp_path)) == [f"{tmp_path}: read as voc, splits 2007_train"]


@pytest.mark.parametrize(
    ("name", "kind"),
    (
        ("a.json", "coco"),
        ("a.JSON", "coco"),
        ("a.yaml", "yolo"),
        ("a.yml", "yolo"),
        ("a.tfrecord", "tfrecord"),
        ("a.record", "tfrecord"),
        ("*.record", "tfrecord"),
        ("{split}-of-3", "tfrecord"),
    ),
)
def test_a_file_is_what_its_ending_says(name, kind, tmp_path):
    touch(tmp_path, "a.json", "a.JSON", "a.yaml", "a.yml", "a.tfrecord", "a.record")
    assert sources.identified(f"{tmp_path}/{name}") == f"{kind}:{tmp_path}/{name}"


def test_scenes_are_read_as_the_coco_that_they_are(tmp_path):
    rendering.render(str(tmp_path / "train"), 2, seed=0, image_size=(64, 64))
    read, named = sources.load(str(tmp_path), "train"), sources.load(f"scenes:{tmp_path}", "train")
    assert read.name == f"coco:{tmp_path.name}/train"
    for found, expected in zip(read.annotations, named.annotations):
        assert found.image_path == expected.image_path
        assert found.boxes.tolist() == expected.boxes.tolist()


def test_values_are_those_of_the_kind(coco, voc):
    coco.read()  # writes the file
    data = sources.load(f"{coco.file},{voc.folder}", "trainval")
    assert data.name == f"coco:annotations.json/trainval,voc:{voc.folder.name}/trainval"
    assert [a.image_id for a in data.annotations] == [7, 3, "p1", "p2"]
    assert data.annotations[0].boxes.tolist() == [[1, 2, 11, 22], [5.5, 6.25, 8.5, 10.25]]
    assert data.annotations[2].boxes.tolist() == [[1, 2, 11, 22], [5, 6, 9, 11]]


def test_classes_txt_beside_xml_is_voc(tmp_path, monkeypatch):
    voc_folder(tmp_path)
    both = dataclasses.replace(KINDS["yolo"], splits=lambda path: ["all"])
    monkeypatch.setitem(KINDS, "yolo", both)
    touch(tmp_path, "classes.txt", text="cat\n")
    assert sources.identified(str(tmp_path)) == f"voc:{tmp_path}"
    touch(tmp_path, "data.yaml", text="names: [cat]\n")
    with pytest.raises(DataError, match=r"Say which: voc:.* or yolo:"):
        sources.identified(str(tmp_path))


def test_several_kinds_are_named(tmp_path):
    coco_folder(tmp_path)
    yolo_folder(tmp_path)
    words = (
        rf"kind = coco \(splits train, val\); yolo \(splits train, val\): several kinds .* "
        rf"Say which: coco:{tmp_path} or yolo:{tmp_path}"
    )
    with pytest.raises(DataError, match=words):
        sources.load(str(tmp_path), "train")
    assert find_splits(f"coco:{tmp_path}") == ["train", "val"]


def json_file(value):
    return lambda folder: touch(folder, "labels/a.json", text=json.dumps(value))


def cvat_xml(folder):
    touch(folder, "annotations.xml", text="<?xml version='1.0'?><annotations><version/>")


UNKNOWN = {
    "nothing": (lambda folder: None, "neither pictures nor annotations"),
    "pictures": (lambda f: touch(f, "pics/a.jpg"), "1 picture in pics, but no annotations"),
    "cvat xml": (cvat_xml, "1 .xml file in ., of CVAT. Export them as COCO"),
    "labelme": (json_file({"shapes": [], "imagePath": "a"}), "of LabelMe. Export them as COCO"),
    "via": (json_file({"_via_settings": {}}), "1 .json file in labels, of VIA"),
    "json": (json_file([1]), "not of COCO"),
    "txt": (
        lambda f: touch(f, "labels/a.txt", "images/a.jpg"),
        "Nearest is yolo. .*1 .txt file in labels, but no data.yaml",
    ),
    "records": (
        lambda f: touch(f, "train/a.tfrecord", "valid/b.tfrecord"),
        "Nearest is tfrecord. .*like tfrecord:.*/{split}/\\*.tfrecord",
    ),
    "csv": (lambda f: touch(f, "train.csv"), "boxes in tables are not read"),
    "zip": (lambda f: touch(f, "a.zip"), "Unpack a.zip"),
}


@pytest.mark.parametrize("layout", UNKNOWN)
def test_no_kind_is_said_with_what_was_looked_for(layout, tmp_path):
    make, words = UNKNOWN[layout]
    folder = tmp_path / "around" / "mine"
    folder.mkdir(parents=True)
    make(folder)
    with pytest.raises(DataError, match=f"mine: kind = .*no known layout.*{words}") as error:
        sources.load(str(folder), "train")
    for kind in ("coco: ", "voc: ", "yolo: ", "tfrecord: "):
        assert kind in str(error.value).partition("Looked for ")[2]


def test_data_around_a_folder_is_named(tmp_path):
    coco_folder(tmp_path / "zip" / "mine")
    with pytest.raises(DataError, match=r"Name .*zip/mine \(coco, splits train, val\)\. Looked"):
        sources.load(str(tmp_path / "zip"), "train")


@pytest.mark.parametrize(
    ("path", "words"),
    (
        ("nowhere", "nowhere: PATH = .*is missing"),
        ("voc/2007", "is missing. Check the path; .*tfds:NAME"),
        ("C:\\nowhere", "is missing"),
        ("a.zip", "no file that names a data set. .*unpacked"),
    ),
)
def test_a_path_of_nothing(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.zip")
    with pytest.raises(DataError, match=words):
        sources.load(path, "train")


def test_a_folder_that_is_called_as_a_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    coco_folder(tmp_path / "voc")
    coco_folder(tmp_path / "at:home")
    assert sources.identified("voc") == "coco:voc"
    assert sources.identified("at:home") == "coco:at:home"


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    coco_folder(tmp_path / "mine")
    assert sources.identified("~/mine") == f"coco:{tmp_path}/mine"


def test_a_kind_that_is_not_there_is_said_with_what_is(tmp_path):
    coco_folder(tmp_path)
    with pytest.raises(DataError, match=f"no split is found. .*{tmp_path} is read as coco"):
        find_splits(f"voc:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "expected"),
    (
        ("a", "{here}/a"),
        ("coco:a", "coco:{here}/a"),
        ("a,voc:b,tfds:voc/2007", "{here}/a,voc:{here}/b,tfds:voc/2007"),
        ("x/../*.record", "{here}/*.record"),
        ("coco:c:x", "coco:{here}/c:x"),
    ),
)
def test_absolute(spec, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources.absolute(spec) == expected.format(here=pathlib.Path.cwd())


def test_a_drive_is_no_kind():
    assert sources.parts("coco:a,c:\\b,voc:d") == ["coco:a,c:\\b", "voc:d"]
    assert not sources.is_named("c:\\b")
    assert sources.is_named("coco:b")

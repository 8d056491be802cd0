"""YOLO's labels, classes and splits are found where tools leave them."""

import numpy as np
import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.readers.yolo import read_yolo, splits_of_yolo

END = "a path that is not there is found by its end, below the data set's folder"
PATH = "the `path` of the data set is not there: the description's own folder is taken"


@pytest.fixture
def lay_out(tmp_path, make_picture):
    """Makes images of 40 x 30 pixels, labels for them, and other files.

    The nth label is of class n % 2, centred, half as wide and a tenth of n + 1 as high.
    """

    def make(labels=(), text=None):
        folder = tmp_path / "set"
        for number, (image, label) in enumerate(labels):
            make_picture(folder / image)
            row = f"{number % 2} 0.5 0.5 0.5 {(number + 1) / 10}\n"
            _write(folder / label, row)
        for name, content in (text or {}).items():
            _write(folder / name, content)
        return folder

    return make


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def check(folder, split, images, first=0, **options):
    """The split has these images, with the boxes that `lay_out` gave them from `first` on."""
    data = read_yolo(str(folder), split, **options)
    assert [a.image_path for a in data.annotations] == [str(folder / image) for image in images]
    assert data.class_names == ("cat", "dog")
    for number, annotation in enumerate(data.annotations, start=first):
        assert annotation.classes.tolist() == [number % 2]
        half = 1.5 * (number + 1)  # of 30 pixels
        np.testing.assert_allclose(annotation.boxes, [[10, 15 - half, 30, 15 + half]], atol=1e-4)
    return data


LABELS_OF_IMAGES = (
    ("{}.jpg", "{}.txt"),
    ("{}.jpg", "labels/{}.txt"),
    ("images/{}.jpg", "labels/{}.txt"),
    ("images/{}.jpg", "images/{}.txt"),
    ("Images/{}.JPG", "Labels/{}.txt"),
    ("JPEGImages/{}.png", "labels/{}.txt"),
    ("imgs/{}.jpg", "annotations/{}.txt"),
    ("img/day/{}.jpg", "labels/day/{}.txt"),
    ("images/day/{}.jpg", "labels/{}.txt"),
    ("photos/{}.jpg", "labels/{}.jpg.txt"),
    ("obj_train_data/{}.jpg", "obj_train_data/{}.txt"),
)


@pytest.mark.parametrize(("images", "labels"), LABELS_OF_IMAGES[:-1])
@pytest.mark.parametrize("classes", ("classes.txt", "labels/classes.txt", "obj.names", "my.names"))
def test_one_folder_without_splits(lay_out, images, labels, classes):
    files = [(images.format(name), labels.format(name)) for name in "ab"]
    folder = lay_out(files, {classes: "cat\ndog\n\n", "notes.json": "{}"})
    assert splits_of_yolo(str(folder)) == ["all"]
    assert not check(folder, "all", [image for image, _ in files]).notes


@pytest.mark.parametrize(("images", "labels"), LABELS_OF_IMAGES)
def test_labels_of_described_images(lay_out, images, labels):
    files = [(images.format(name), labels.format(name)) for name in "ab"]
    text = f"names: [cat, dog]\ntrain: {images.rpartition('/')[0] or '.'}\n"
    folder = lay_out(files, {"data.yaml": text})
    assert splits_of_yolo(str(folder)) == ["train"]
    assert not check(folder, "train", [image for image, _ in files]).notes


SPLITS = {
    "images/{split}": ("images/{split}/{}.jpg", "labels/{split}/{}.txt"),
    "{split}/images": ("{split}/images/{}.jpg", "{split}/labels/{}.txt"),
    "beside": ("{split}/{}.jpg", "{split}/{}.txt"),
    "labels apart": ("{split}/{}.jpg", "labels/{split}/{}.txt"),
    "labels within": ("{split}/{}.jpg", "{split}/labels/{}.txt"),
}


def _split_files(layout):
    image, label = SPLITS[layout]
    return [
        (image.format(name, split=split), label.format(name, split=split))
        for split, names in (("train", "ab"), ("valid", "c"))
        for name in names
    ]


@pytest.mark.parametrize("layout", SPLITS)
@pytest.mark.parametrize("yaml", (None, "names: [cat, dog]"))
def test_folders_called_like_splits(lay_out, layout, yaml):
    files = _split_files(layout)
    text = {"data.yaml": yaml} if yaml else {"classes.txt": "cat\ndog"}
    folder = lay_out(files, text)
    assert splits_of_yolo(str(folder)) == ["train", "valid"]
    assert not check(folder, "train", [files[0][0], files[1][0]]).notes
    for name in ("valid", "val"):
        assert not check(folder, name, [files[2][0]], first=2).notes
    with pytest.raises(DataError, match=r"split = all .*Name one of train, valid"):
        read_yolo(str(folder), "all")


@pytest.mark.parametrize("key", ("val", "valid", "validation"))
def test_names_of_the_validation_split(lay_out, key):
    files = _split_files("{split}/images")
    text = f"names: [cat, dog]\ntrain: train/images\n{key}: valid/images\nnc: 2\n"
    folder = lay_out(files, {"data.yaml": text})
    assert splits_of_yolo(str(folder)) == ["train", key]
    for name in ("val", "valid", "validation"):
        check(folder, name, [files[2][0]], first=2)


@pytest.mark.parametrize("file", ("data.yml", "dataset.yaml", "birds.yaml"))
def test_other_names_of_the_description(lay_out, file):
    files = _split_files("images/{split}")
    text = {file: "names: [cat, dog]\ntrain: images/train", "args.yaml": "epochs: 3"}
    folder = lay_out(files, text)
    assert splits_of_yolo(str(folder)) == ["train"]
    check(folder, "train", [files[0][0], files[1][0]])


@pytest.mark.parametrize(
    ("entry", "notes"),
    (
        ("../train/images", {}),
        ("../../somewhere/train/images", {END: 1}),
        ("/home/x/set/train/images", {END: 1}),
        ("C:\\\\Users\\\\x\\\\train\\\\images", {END: 1}),
        ("data/train/images", {END: 1}),
        ("train\\\\images", {END: 1}),
    ),
)
def test_paths_of_other_machines(lay_out, entry, notes):
    files = _split_files("{split}/images")
    folder = lay_out(files, {"data.yaml": f'names: [cat, dog]\ntrain: "{entry}"\n'})
    assert check(folder, "train", [files[0][0], files[1][0]]).notes == notes


@pytest.mark.parametrize("path", ("/home/x/set", "../datasets/set", "C:\\x\\set"))
def test_path_of_another_machine(lay_out, path):
    files = _split_files("{split}/images")
    folder = lay_out(files, {"data.yaml": f"path: {path}\nnames: [cat, dog]\ntrain: train/images"})
    assert check(folder, "train", [files[0][0], files[1][0]]).notes == {PATH: 1}


def test_a_missing_split_is_not_taken_for_another(lay_out):
    files = [("images/a.jpg", "labels/a.txt")]
    text = "names: [cat, dog]\ntrain: images\ntest: ../test/images\n"
    folder = lay_out(files, {"data.yaml": text})
    assert splits_of_yolo(str(folder)) == ["train"]
    notes = check(folder, "train", ["images/a.jpg"]).notes
    assert notes == {"of the split test, which data.yaml names, nothing is there": 1}
    with pytest.raises(DataError, match=r"test = \.\./test/images: is missing.*looked for"):
        read_yolo(str(folder), "test")


@pytest.mark.parametrize("prefix", ("", "./", "data/", "/content/darknet/data/"))
@pytest.mark.parametrize("description", ("obj.data", None))
def test_darknet(lay_out, prefix, description):
    files = [(f"obj_train_data/{name}.jpg", f"obj_train_data/{name}.txt") for name in "abc"]
    images = [image for image, _ in files]
    text = {
        "obj.names": "cat\ndog\n",
        "train.txt": "\n".join(prefix + image for image in images[:2]),
        "valid.txt": prefix + images[2],
    }
    if description:
        lists = f"train = {prefix}train.txt\nvalid={prefix}valid.txt\nnames = data/obj.names"
        text[description] = f"classes = 2\n{lists}\nbackup = backup/\n"
    folder = lay_out(files, text)
    assert splits_of_yolo(str(folder)) == ["train", "valid"]
    found_by_end = prefix in ("data/", "/content/darknet/data/")
    assert bool(check(folder, "train", images[:2]).notes) == found_by_end
    check(folder, "val", images[2:], first=2)


def test_darknet_without_lists(lay_out):
    folder = lay_out([("obj_train_data/a.jpg", "obj_train_data/a.txt")], {"obj.names": "cat\ndog"})
    assert splits_of_yolo(str(folder)) == ["train"]
    check(folder, "train", ["obj_train_data/a.jpg"])


def test_labels_in_two_places_are_not_mixed(lay_out):
    """What has no labels where the others have theirs, has none."""
    files = [("images/train/a.jpg", "labels/train/a.txt"), ("images/c.jpg", "labels/c.txt")]
    folder = lay_out(files, {"data.yaml": "names: [cat, dog]\ntrain: images/train"})
    (folder / "images" / "train" / "c.jpg").write_bytes((folder / "images/c.jpg").read_bytes())
    first, second = read_yolo(str(folder), "train").annotations
    assert (len(first.boxes), len(second.boxes)) == (1, 0)


def test_classes_of_several_files(lay_out):
    files = _split_files("beside")
    folder = lay_out(files, {"train/classes.txt": "cat\ndog\n", "valid/classes.txt": "cat\n"})
    check(folder, "valid", [files[2][0]], first=2)
    (folder / "valid" / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(DataError, match=r"valid/classes\.txt: classes = dog, cat: contradicts"):
        read_yolo(str(folder), "train")


def test_classes_that_nothing_names(lay_out):
    folder = lay_out([("images/a.jpg", "labels/a.txt")])
    assert splits_of_yolo(str(folder)) == ["all"]
    with pytest.raises(DataError, match=r"names = NoneType: no classes.*classes\.txt"):
        read_yolo(str(folder), "all")
    check(folder, "all", ["images/a.jpg"], class_names=["cat", "dog"])


def test_polygons_are_said(lay_out):
    polygon = "1 0.25 0.5 0.5 0.2 0.75 0.8\n0 0.5 0.5 0.5 0.5"
    folder = lay_out([("a.jpg", "a.txt")], {"a.txt": polygon, "classes.txt": "cat\ndog"})
    data = read_yolo(str(folder), "all")
    expected = [[10, 6, 30, 24], [10, 7.5, 30, 22.5]]
    np.testing.assert_allclose(data.annotations[0].boxes, expected, atol=1e-4)
    assert data.notes == {"the tight box of a polygon is taken": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ({"my_labels/a.txt": "0 1 1 1 1"}, r"no image has a file of labels.*a\.txt beside a\.jpg"),
        ({"my_labels/a.txt": "0 1 1 1 1"}, r"there are .*1 x my_labels/\*\.txt"),
        (
            {"labels/a.txt": "\n"},
            r"labels/a\.txt is empty: no image has an object. Add rows to .* 1",
        ),
    ),
)
def test_no_object_at_all(lay_out, make_picture, text, message):
    folder = lay_out((), {**text, "data.yaml": "names: [cat, dog]\ntrain: images"})
    make_picture(folder / "images" / "a.jpg")
    with pytest.raises(DataError, match=message):
        read_yolo(str(folder), "train")


@pytest.mark.parametrize(
    "text",
    (
        {},
        {"a.txt": "x,y"},
        {"a.txt": "1 2 3"},
        {"data.yaml": "- a"},
        {"data.yaml": "epochs: 3"},
        {"classes.txt": "cat", "a.xml": "<annotation/>"},
        {"train.txt": "a\n", "x.data": "\0\1"},
        {"annotations/instances_train.json": "{}"},
        {"annotations/a.txt": "684,8,273,116,0,0,0,0"},  # VisDrone
        {"a.txt": "0 0.5 left 0.5 0.5"},
        {"a.txt": "inf 0.5 0.5 0.5 0.5"},
        {"a.txt": "nan 0.5 0.5 0.5 0.5"},
    ),
)
def test_folders_of_another_kind(lay_out, make_picture, text):
    folder = lay_out((), text)
    make_picture(folder / "a.jpg")
    make_picture(folder / "images" / "a.jpg")
    assert splits_of_yolo(str(folder)) == []
    assert splits_of_yolo(str(folder / "a.jpg")) == []


@pytest.mark.parametrize("text", ("names: [cat, dog]\ntrain: train/images\nvalid: valid", None))
def test_a_folder_around_the_data_set(lay_out, text):
    """Its splits are not poured together."""
    files = [tuple(f"birds/{path}" for path in pair) for pair in _split_files("{split}/images")]
    described = {"birds/data.yaml": text} if text else {"birds/classes.txt": "cat\ndog"}
    folder = lay_out(files, described)
    assert splits_of_yolo(str(folder)) == ["train", "valid"]
    check(folder, "train", [files[0][0], files[1][0]])
    lay_out([("fish/train/a.jpg", "fish/train/a.txt")])
    assert splits_of_yolo(str(folder)) == []
    with pytest.raises(DataError, match=r"the folder holds birds, fish.*names no pictures"):
        read_yolo(str(folder), "train")


def test_several_descriptions(lay_out):
    text = {name: "names: [cat, dog]\ntrain: images" for name in ("a.yaml", "b.yaml")}
    folder = lay_out([("images/a.jpg", "labels/a.txt")], text)
    with pytest.raises(DataError, match=r"a\.yaml, b\.yaml: several files.*Name the one"):
        read_yolo(str(folder), "train")
    assert len(read_yolo(str(folder / "a.yaml"), "train").annotations) == 1

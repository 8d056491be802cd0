"""YOLO folders are read as the YOLO tools read them."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonic_tf.data import checks
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.images.finding import RENAMED
from harmonic_tf.data.readers.yolo import read_yolo
from harmonic_tf.data.sources import load

WIDTH, HEIGHT = 40, 30


class YoloFolder:
    """A folder with `data.yaml`: pictures a.jpg (2 objects), b.png (1) and c.jpg (none)."""

    def __init__(self, folder, make_picture):
        self.folder = folder
        self.images = folder / "images" / "train"
        self.labels = folder / "labels" / "train"
        self.document = {"names": ["cat", "dog"], "train": "images/train"}
        for name in ("a.jpg", "b.png", "c.jpg"):
            make_picture(self.images / name, WIDTH, HEIGHT)
        self.labels.mkdir(parents=True)
        self.write("a", "1 0.5 0.5 0.5 0.2", "0 0.25 0.5 0.1 1")
        self.write("b", "1 0.5 0.5 1 1")

    def write(self, name, *rows):
        (self.labels / f"{name}.txt").write_text("\n".join(rows) + "\n")

    def read(self, split="train", **options):
        (self.folder / "data.yaml").write_text(yaml.safe_dump(self.document))
        return read_yolo(str(self.folder), split, **options)


@pytest.fixture
def yolo(tmp_path, make_picture):
    return YoloFolder(tmp_path / "yolo", make_picture)


def test_boxes_become_corners(yolo):
    first, second, third = yolo.read().annotations
    # 40 x 30 pixels: centre +- half the side
    np.testing.assert_allclose(first.boxes, [[10, 12, 30, 18], [8, 0, 12, 30]], atol=1e-5)
    np.testing.assert_array_equal(first.classes, [1, 0])
    np.testing.assert_array_equal(second.boxes, [[0, 0, 40, 30]])
    assert third.boxes.shape == (0, 4) and third.boxes.dtype == np.float32
    for annotation in (first, second, third):
        assert (annotation.width, annotation.height) == (WIDTH, HEIGHT)
        assert not annotation.difficult.any() and not annotation.crowd.any()


def test_ids_names_and_paths(yolo):
    data = yolo.read()
    assert [a.image_id for a in data.annotations] == [
        f"images/train/{name}" for name in ("a.jpg", "b.png", "c.jpg")
    ]
    assert data.annotations[0].image_path == str(yolo.images / "a.jpg")
    assert data.class_names == ("cat", "dog")
    assert load(f"yolo:{yolo.folder}", "train").name == "yolo:yolo/train"
    assert len(load(f"yolo:{yolo.folder / 'data.yaml'}", "train").annotations) == 3


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(*[st.floats(0.05, 0.95)] * 2), min_size=3, max_size=8))
def test_a_polygon_becomes_its_tight_box(tmp_path_factory, make_picture, points):
    """The same as the box of its extremes, written as a box."""
    (x1, y1), (x2, y2) = np.min(points, axis=0), np.max(points, axis=0)
    if min(x2 - x1, y2 - y1) < 1e-3:
        return
    yolo = YoloFolder(tmp_path_factory.mktemp("yolo"), make_picture)
    yolo.write("a", "1 " + " ".join(f"{x:.9f} {y:.9f}" for x, y in points))
    yolo.write("b", f"1 {(x1 + x2) / 2:.9f} {(y1 + y2) / 2:.9f} {x2 - x1:.9f} {y2 - y1:.9f}")
    polygon, box, _ = yolo.read().annotations
    np.testing.assert_allclose(polygon.boxes, box.boxes, atol=1e-4)
    assert polygon.boxes.shape == (1, 4)


def test_missing_labels_are_counted_not_refused(yolo):
    data = yolo.read()
    assert data.notes == {"an image without a file of labels has no objects": 1}
    assert not data.skipped


def test_labels_without_an_image_are_counted(yolo):
    yolo.write("z", "1 0.5 0.5 0.5 0.5")
    yolo.write("classes", "cat", "dog")
    assert yolo.read().notes["a file of labels without an image is not read"] == 1


def test_an_empty_label_file_is_a_picture_without_objects(yolo):
    yolo.write("c", "")
    assert len(yolo.read().annotations[2].boxes) == 0


def test_names_by_number(yolo):
    yolo.document["names"] = {1: "dog", 0: "cat"}
    assert yolo.read().class_names == ("cat", "dog")
    yolo.document["names"] = {7: "cat", 1: "dog"}
    yolo.write("a", "7 0.5 0.5 0.5 0.2")
    data = yolo.read()
    assert data.class_names == ("dog", "cat")
    np.testing.assert_array_equal(data.annotations[0].classes, [1])


@pytest.mark.parametrize("names", ({"0": "cat", "1": "dog"}, {0: "cat", 1: "dog"}))
@pytest.mark.parametrize("nc", (2, "2", None))
def test_numbers_as_text(yolo, names, nc):
    yolo.document.update(names=names, nc=nc)
    assert yolo.read().class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "row",
    ("1,0.5,0.5,0.5,0.2", "1, 0.5, 0.5, 0.5, 0.2", "1;0.5;0.5;0.5;0.2", "1.0\t.5 .5 5e-1  0.2"),
)
def test_columns(yolo, row):
    yolo.write("a", row)
    first = yolo.read().annotations[0]
    np.testing.assert_allclose(first.boxes, [[10, 12, 30, 18]], atol=1e-5)
    np.testing.assert_array_equal(first.classes, [1])


def test_given_classes_set_the_order(yolo):
    data = yolo.read(class_names=["bird", "dog", "cat"])
    np.testing.assert_array_equal(data.annotations[0].classes, [1, 2])
    with pytest.raises(DataError, match=r"a.txt: line 2 = .*\(cat\): class is not in the list"):
        yolo.read(class_names=["dog"])


def _elsewhere(yolo):
    yolo.document["path"] = str(yolo.folder)
    moved = yolo.folder.parent / "moved"
    moved.mkdir()
    yolo.folder = moved  # where data.yaml is written


def _relative(yolo):
    yolo.document.update(path="images", train="train")


def _wrong_path(yolo):
    yolo.document["path"] = "../datasets/not_here"


def _exporter(yolo):
    yolo.document["train"] = "../images/train"


def _absolute(yolo):
    yolo.document["train"] = str(yolo.images)


def _list(yolo):
    other = yolo.folder / "images" / "more"
    other.mkdir()
    (yolo.images / "c.jpg").rename(other / "c.jpg")
    yolo.document["train"] = ["images/train", "images/more"]


def _text_file(yolo):
    lines = [f"./images/train/{name}" for name in ("a.jpg", "b.png")]
    (yolo.folder / "train.txt").write_text("\n".join([*lines, "", str(yolo.images / "c.jpg")]))
    yolo.document["train"] = "train.txt"


def _parent(yolo):
    yolo.document["train"] = "images"  # pictures are in a folder of it


def _suffix(yolo):
    (yolo.images / "c.jpg").rename(yolo.images / "c.JPG")
    (yolo.images / "notes.md").write_text("no picture")
    (yolo.images / "._c.jpg").write_text("of a file system")


@pytest.mark.parametrize(
    "layout",
    (
        *(_elsewhere, _relative, _wrong_path, _exporter, _absolute),
        *(_list, _text_file, _parent, _suffix),
    ),
)
def test_layouts(yolo, layout):
    layout(yolo)
    data = yolo.read()
    assert [len(a.boxes) for a in data.annotations] == [2, 1, 0]
    assert len({a.image_id for a in data.annotations}) == 3


@pytest.mark.parametrize("orientation", (1, 3, 6, 8))
def test_sizes_are_those_that_a_person_sees(yolo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (WIDTH, HEIGHT)).save(yolo.images / "a.jpg", exif=exif)
    checked = check_pictures(yolo.read()).annotations[0]
    size = (HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT)
    assert (checked.width, checked.height) == size
    assert checked.orientation == orientation
    assert decoding.picture(checked).shape[1::-1] == size
    np.testing.assert_allclose(checked.boxes[0, :2], [0.25 * size[0], 0.4 * size[1]], atol=1e-5)


# The row, what is wrong with it.
BAD_ROWS = {
    "too few": ("1 0.5 0.5 0.5", "neither a box nor a polygon"),
    "only a class": ("1", "neither a box nor a polygon"),
    "a score": ("1 0.5 0.5 0.5 0.5 0.9", "detection with a confidence.*drop the sixth column"),
    "a decimal comma": ("1 0,5 0,5 0,5 0,5", "not a finite number"),
    "two points and a half": ("1 0.1 0.1 0.9 0.1 0.9 0.9 0.5", "neither a box nor a polygon"),
    "words": ("1 left 0.5 0.5 0.5", "not a finite number"),
    "NaN": ("1 nan 0.5 0.5 0.5", "not a finite number"),
    "infinite": ("1 0.5 0.5 inf 0.5", "not a finite number"),
    "no area": ("1 0.5 0.5 0 0.5", "no area"),
    "negative": ("1 0.5 0.5 0.5 -0.5", "no area"),
    "flat polygon": ("1 0.1 0.5 0.5 0.5 0.9 0.5", "no area"),
    "pixels": ("1 20 15 10 10", "not inside"),
    "outside": ("1 0.9 0.5 0.5 0.5", "not inside"),
    "unknown class": ("2 0.5 0.5 0.5 0.5", "no such class"),
    "half a class": ("0.5 0.5 0.5 0.5 0.5", "no such class"),
    "negative class": ("-1 0.5 0.5 0.5 0.5", "no such class"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows(yolo, case):
    row, cause = BAD_ROWS[case]
    yolo.write("a", "0 0.5 0.5 0.5 0.5", "", row)
    with pytest.raises(DataError, match=cause) as caught:
        yolo.read()
    found = caught.value.problem
    assert (found.file, found.field) == (str(yolo.labels / "a.txt"), "line 3")
    data = yolo.read(on_bad_example="skip")
    assert [len(a.boxes) for a in data.annotations] == [1, 1, 0]
    assert [p.part for p in data.skipped] == ["object"]


def _text(name, content):
    return lambda yolo: (yolo.labels / name).write_bytes(content)


BAD_PICTURES = {
    "labels of other bytes": (_text("a.txt", b"\xff\xfe0\0"), "cannot be read as text"),
    "zero bytes": (lambda yolo: (yolo.images / "a.jpg").write_bytes(b""), "is empty"),
    "PPM": (lambda y: Image.new("RGB", (4, 4)).save(y.images / "a.jpg", "PPM"), "format"),
    "a header alone": (
        lambda y: (y.images / "a.jpg").write_bytes((y.images / "a.jpg").read_bytes()[:30]),
        "header",
    ),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures(yolo, case):
    change, cause = BAD_PICTURES[case]
    change(yolo)
    with pytest.raises(DataError, match=cause):
        yolo.read()
    data = yolo.read(on_bad_example="skip")
    assert [len(a.boxes) for a in data.annotations] == [1, 0]
    assert [p.part for p in data.skipped] == ["picture"]


def test_listed_pictures_that_are_missing_or_twice(yolo):
    (yolo.folder / "train.txt").write_text("images/train/a.jpg\nimages/train/z.jpg\n" * 2)
    yolo.document["train"] = "train.txt"
    data = yolo.read(on_bad_example="skip")
    assert [a.image_id for a in data.annotations] == ["images/train/a.jpg"]
    assert checks.count_by_cause(data.skipped) == {
        "picture is missing": 2,
        "picture is not unique": 1,
    }


@pytest.mark.parametrize("folder", ("images/train/", "/home/me/images/train/"))
def test_a_listed_picture_of_another_suffix(yolo, folder):
    """Or there is none that can be read, and it is said what there is."""
    (yolo.folder / "train.txt").write_text(f"{folder}a.jpg\n")
    yolo.document["train"] = "train.txt"
    (yolo.images / "a.jpg").rename(yolo.images / "a.JPG")
    data = yolo.read()
    assert [a.image_id for a in data.annotations] == ["images/train/a.JPG"]
    assert len(data.annotations[0].boxes) == 2
    assert data.notes[RENAMED] == 1
    (yolo.images / "a.JPG").rename(yolo.images / "a.heic")
    with pytest.raises(DataError, match=r"a.jpg: picture is missing.* there is a.heic"):
        yolo.read()
    (yolo.images / "a.heic").unlink()
    with pytest.raises(DataError, match=r"a.jpg: picture is missing.* there is b.png next to it"):
        yolo.read()


@pytest.mark.parametrize("mode", ("error", "skip"))
class TestDataYaml:
    """What makes the whole set unusable is an error in both modes."""

    @pytest.mark.parametrize(
        ("change", "message"),
        (
            ({"names": None}, "names = NoneType: no classes"),
            ({"names": []}, "no classes"),
            ({"names": [["a"], "b"]}, "not a number and a name"),
            ({"names": ["cat", False]}, "not a number and a name.*quotes"),
            ({"names": {"first": "cat"}}, "not a number and a name"),
            ({"names": ["cat", "cat"]}, "not unique"),
            ({"train": "images/nowhere"}, "images/nowhere: is missing"),
            ({"train": None, "val": "images/train"}, "names no pictures. Name one of val"),
            ({"train": 3}, "names no pictures"),
            ({"kpt_shape": [17, 3]}, "key points"),
            ({"train": "labels"}, r"= labels: holds no images. Looked for \.jpg.*2 x images/"),
            ({"nc": 3}, "nc = 3, and 2 names: cat, dog: contradicts `names`"),
            ({"nc": "1"}, "nc = 1, and 2 names"),
            ({"nc": [2]}, "nc = list, and 2 names"),
        ),
    )
    def test_entries(self, yolo, mode, change, message):
        yolo.document.update(change)
        with pytest.raises(DataError, match=message) as caught:
            yolo.read(on_bad_example=mode)
        assert caught.value.problem.file == str(yolo.folder / "data.yaml")

    @pytest.mark.parametrize(
        ("content", "message"),
        (
            (b"names: [", "does not parse as YAML"),
            (b"!!python/object/apply:os.system [exit]", "does not parse as YAML"),
            (b"[" * 10_000, "does not parse as YAML"),
            (b"\xff\xff", "does not parse as YAML"),
            (b"- a", "is not a YOLO data set"),
            (b"", "is not a YOLO data set"),
        ),
    )
    def test_files(self, yolo, mode, content, message):
        file = yolo.folder / "data.yaml"
        file.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_yolo(str(file), "train", on_bad_example=mode)

    def test_aliases_do_not_explode(self, yolo, mode):
        lines = ["a0: &a0 [x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
        file = yolo.folder / "data.yaml"
        for last, message in (
            ("names: *a39", "not a number and a name"),
            ("names: [a]\ntrain: *a39", "train = list: is not a path"),
            ("names: [a]\ntrain: a\npath: *a39", "path = list: is not a path"),
        ):
            file.write_text("\n".join([*lines, last]))
            with pytest.raises(DataError, match=message):
                read_yolo(str(file), "train", on_bad_example=mode)

    def test_no_file(self, tmp_path, mode):
        (tmp_path / "a.csv").write_text("x")
        with pytest.raises(DataError, match=r"the folder holds a\.csv.*Looked for data\.yaml"):
            read_yolo(str(tmp_path), "train", on_bad_example=mode)
        with pytest.raises(DataError, match=r"a\.csv: is not a YOLO data set. Name the data set's"):
            read_yolo(str(tmp_path / "a.csv"), "train", on_bad_example=mode)

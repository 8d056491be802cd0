"""What tools write otherwise than COCO does is read where it can mean one thing only."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.finding import RENAMED

BY_ITS_END = "picture is found by the end of its file_name"


@pytest.mark.parametrize(
    "name, path, noted",
    [
        ("camera\\a.jpg", "camera/a.jpg", False),
        (".\\a.jpg", "a.jpg", False),
        ("my%20cat.jpg", "my cat.jpg", False),
        ("100%25.jpg", "100%25.jpg", False),  # as it stands goes first
        ("C:\\Users\\me\\camera\\a.jpg", "camera/a.jpg", True),
        ("/home/me/pictures/a.jpg", "a.jpg", True),
        ("../../upload/a.jpg", "a.jpg", True),
        ("https://somewhere.org/camera/my%20a.jpg?key=1&b=2", "camera/my a.jpg", True),
        ("/data/local-files/?d=camera/a.jpg", "camera/a.jpg", True),
        ("/data/local-files/?d=a.jpg", "a.jpg", True),
    ],
)
def test_file_names(coco, make_picture, name, path, noted):
    for row in coco.document["images"]:
        (coco.images / row["file_name"]).unlink()
    make_picture(coco.images / path)
    make_picture(coco.images / "b.png")
    coco.document["images"][0]["file_name"] = name
    data = coco.read()
    assert data.annotations[0].image_path == str(coco.images / path)
    assert data.notes == ({BY_ITS_END: 1} if noted else {})


@pytest.mark.parametrize("name", ["/x/b.png", "other\\b.png", "%62.png", "./b.png"])
def test_two_entries_of_one_picture(coco, name):
    """Whose boxes are right cannot be known."""
    coco.document["images"][0]["file_name"] = name
    with pytest.raises(DataError, match=r"images\[0\].file_name = .*b.png, as 'b.png' does"):
        coco.read()
    coco.document["images"].append({"id": 5, "file_name": "a.jpg"})
    coco.document["annotations"].append({"image_id": 5, "category_id": 4, "bbox": [0, 0, 3, 3]})
    data = coco.read(on_bad_example="skip")
    assert [a.image_id for a in data.annotations] == [5]
    assert [p.field for p in data.skipped] == ["images[0].file_name", "images[1].file_name"]


@pytest.mark.parametrize("name", ["../secret.jpg", "%2e%2e/secret.jpg", "..%5csecret.jpg"])
def test_no_name_leads_out_of_the_folder(coco, make_picture, name):
    make_picture(coco.folder / "secret.jpg")
    coco.document["images"][0]["file_name"] = name
    with pytest.raises(DataError, match="picture is missing"):
        coco.read()


@pytest.mark.parametrize(
    "of_image, of_row, known",
    [
        (7, "7", 7),
        ("7", 7, "7"),
        (7.0, 7, 7),
        (7, 7.0, 7),
        ("7", "7.0", "7"),
        ("p-7", "p-7", "p-7"),
        ("007", "007", "007"),
    ],
)
def test_image_ids(coco, of_image, of_row, known):
    coco.document["images"][0]["id"] = of_image
    for row in coco.document["annotations"][:2]:
        row["image_id"] = of_row
    first = coco.read().annotations[0]
    assert first.image_id == known and type(first.image_id) is type(known)
    assert len(first.boxes) == 2


@pytest.mark.parametrize("value", [True, None, 7.5, [7], float("nan"), float("inf")])
def test_what_is_no_image_id(coco, value):
    coco.document["images"][0]["id"] = value
    with pytest.raises(DataError, match=r"images\[0\].id = .*is not an? (id|.* number)"):
        coco.read()


def test_ids_that_are_the_same_number(coco):
    coco.document["images"][1]["id"] = "7"
    with pytest.raises(DataError, match=r"images\[0\].id = 7: id is not unique"):
        coco.read()
    coco.document["images"][1]["id"] = "007"  # another text
    coco.document["annotations"][2]["image_id"] = "007"
    assert [a.image_id for a in coco.read().annotations] == [7, "007"]


@pytest.mark.parametrize("of_category, of_row", [("9", 9), (9, "9"), (9.0, 9), (9, 9.0)])
def test_category_ids(coco, of_category, of_row):
    coco.document["categories"][0]["id"] = of_category
    coco.document["annotations"][0]["category_id"] = of_row
    data = coco.read()
    assert data.category_ids == [4, 9] and all(type(i) is int for i in data.category_ids)
    assert data.annotations[0].classes.tolist() == [1, 0]


@pytest.mark.parametrize("value", [True, None, "nine", 9.5])
def test_what_is_no_category_id(coco, value):
    coco.document["annotations"][0]["category_id"] = value
    with pytest.raises(DataError, match=r"annotations\[0\].category_id = .*no such id"):
        coco.read()


def test_numbers_as_text(coco):
    coco.document["images"][0].update(width="40", height="30")
    coco.document["annotations"][0].update(bbox=["1", "2.0", "10", "20"], area="150")
    first = coco.read().annotations[0]
    assert first.boxes[0].tolist() == [1, 2, 11, 22]
    assert (first.width, first.height, first.extras["area"][0]) == (40, 30, 150)


@pytest.mark.parametrize(
    "value, crowd",
    [
        *((value, False) for value in (0, 0.0, False, None, "0", "0.0", "false", "False")),
        *((value, True) for value in (1, 1.0, True, "1", "true", " TRUE ")),
    ],
)
def test_flags(coco, value, crowd):
    coco.document["annotations"][0]["iscrowd"] = value
    data = coco.read()
    assert data.annotations[0].crowd.tolist() == [crowd, False]
    assert not data.notes


@pytest.mark.parametrize("value", ["", "no", "yes", 2, -1, 0.5, [], {}])
def test_what_is_no_flag(coco, value):
    coco.document["annotations"][0]["iscrowd"] = value
    with pytest.raises(DataError, match=r"annotations\[0\].iscrowd = .*is neither 0 nor 1"):
        coco.read()


@pytest.mark.parametrize(
    "sides", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"height": 50}]
)
def test_sizes_from_the_header(coco, make_picture, sides):
    make_picture(coco.images / "a.jpg", width=70, height=50)
    for key in ("width", "height"):
        del coco.document["images"][0][key]
    coco.document["images"][0].update(sides)
    coco.document["annotations"][0]["bbox"] = [60, 40, 10, 10]
    data = coco.read()
    first, second = data.annotations
    assert (first.width, first.height) == (70, 50)
    assert (second.width, second.height) == (40, 30)
    assert first.boxes[0].tolist() == [60, 40, 70, 50]
    assert data.notes == {"width and height are read from the image": 1}


def test_size_of_a_picture_that_is_turned(coco):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (70, 50)).save(coco.images / "a.jpg", exif=exif)
    del coco.document["images"][0]["width"], coco.document["images"][0]["height"]
    first = coco.read().annotations[0]
    assert (first.width, first.height) == (50, 70)


def test_size_of_what_is_no_picture(coco):
    (coco.images / "a.jpg").write_bytes(b"no picture")
    del coco.document["images"][0]["width"]
    with pytest.raises(DataError, match=r"a.jpg: file = .*format that cannot be read"):
        coco.read()


def runs_of(columns, rows):
    """The run lengths of a filled rectangle in a picture of 40 x 30, by hand: columns first."""
    (x1, x2), (y1, y2) = columns, rows
    tall, between = y2 - y1, 30 - (y2 - y1)
    runs = [30 * x1 + y1, tall]
    for _ in range(x2 - x1 - 1):
        runs += [between, tall]
    return [*runs, 30 * 40 - sum(runs)]


def text_of(columns, rows):
    picture = np.zeros((30, 40), np.uint8, order="F")
    picture[slice(*rows), slice(*columns)] = 1
    return masks.encode(picture)["counts"].decode()


@pytest.mark.parametrize(
    "segmentation, box",
    [
        ([[3, 4, 13, 4, 8, 24.5]], [3, 4, 13, 24.5]),
        ([[3, 4, 13, 4, 8, 24], [20, 1, 22, 1, 21, 6]], [3, 1, 22, 24]),  # in two parts
        ([3, 4, 13, 4, 8, 24], [3, 4, 13, 24]),  # the VGG annotator's
        ([["3", "4", "13", "4", "8", "24"]], [3, 4, 13, 24]),
        ([[-0.5, 4, 13, 4, 8, 30.5]], [0, 4, 13, 30]),  # rounding, clipped
        ({"size": [30, 40], "counts": runs_of((3, 9), (5, 12))}, [3, 5, 9, 12]),
        ({"size": [30, 40], "counts": [0, 1200]}, [0, 0, 40, 30]),
        ({"size": [30, 40], "counts": [35, 50, 1115]}, [1, 0, 3, 30]),  # runs from column to column
        ({"size": ["30", 40.0], "counts": text_of((3, 9), (5, 12))}, [3, 5, 9, 12]),
    ],
)
@pytest.mark.parametrize("bbox", [..., None, [], [0, 0, 0, 0]])
def test_masks_without_a_box(coco, segmentation, box, bbox):
    coco.document["annotations"][0].update(segmentation=segmentation, bbox=bbox)
    if bbox is ...:
        del coco.document["annotations"][0]["bbox"]
    data = coco.read()
    np.testing.assert_array_equal(data.annotations[0].boxes[0], np.float32(box))
    assert data.notes == {"box is the tight one of its mask": 1}


def test_a_box_goes_before_its_mask(coco):
    coco.document["annotations"][0]["segmentation"] = [[3, 4, 13, 4, 8, 24]]
    data = coco.read()
    assert data.annotations[0].boxes[0].tolist() == [1, 2, 11, 22]
    assert data.notes == {}


@pytest.mark.parametrize(
    "segmentation, field, said",
    [
        ([[3, 4, 13, 4]], "segmentation", "is no mask"),
        ([[3, 4, 13, 4, 8]], "segmentation", "is no mask"),
        ([[3, 4, 13, 4, 8, 24, 1]], "segmentation", "is no mask"),
        ([[3, 4, 13, 4, 8, 24], 5], "segmentation", "is no mask"),
        ("polygon", "segmentation", "is no mask"),
        ([[3, 4, 13, 4, 8, "far"]], "segmentation", "is not a finite number"),
        ([[3, 4, 13, 4, 8, 4]], "segmentation", "box has no area"),
        ([[3, 4, 13, 4, 8, 44]], "segmentation", "box is not inside its picture"),
        ({"size": [40, 30], "counts": [0, 1200]}, "segmentation.size", "height and width"),
        ({"counts": [0, 1200]}, "segmentation.size", "height and width"),
        ({"size": [30, 40], "counts": [0, 1199]}, "segmentation.counts", "not run lengths"),
        ({"size": [30, 40], "counts": [-1, 1201]}, "segmentation.counts", "not run lengths"),
        ({"size": [30, 40], "counts": [0, "all"]}, "segmentation.counts", "not run lengths"),
        ({"size": [30, 40], "counts": [1200]}, "segmentation", "box has no area"),
        ({"size": [30, 40], "counts": ""}, "segmentation", "box has no area"),
        ({"size": [30, 40], "counts": "é"}, "segmentation.counts", "neither a list nor text"),
        ({"size": [30, 40]}, "segmentation.counts", "neither a list nor text"),
        ({"size": [30, 40], "counts": "0" * 50}, "segmentation", "box is not inside"),
        ([], "bbox", "is required"),
    ],
)
def test_bad_masks(coco, segmentation, field, said):
    del coco.document["annotations"][0]["bbox"]
    coco.document["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(DataError) as caught:
        coco.read()
    assert caught.value.problem.field == f"annotations[0].{field}"
    assert said in caught.value.problem.problem


def test_crowds_are_counted(coco):
    for row in coco.document["annotations"]:
        row["iscrowd"] = 1
    data = coco.read()
    assert not data.notes  # counted by `takes_no_part`, for all readers
    assert [a.crowd.all() for a in data.annotations] == [True, True]


def test_boxes_in_fractions(coco):
    for row in coco.document["annotations"]:
        row["bbox"] = [0.25, 0.25, 0.5, 0.75]
    with pytest.raises(DataError, match=r"bbox = \[0.25, 0.25, 0.75, 1.0\].*fractions.*in pixels"):
        coco.read(on_bad_example="skip")


def test_class_names_that_are_numbers(coco):
    coco.document["categories"][0]["name"] = 7
    assert coco.read().class_names == ("dog", "7")


@pytest.mark.parametrize("name", ["1.jpg", "/home/me/1.jpg"])
def test_a_picture_of_another_suffix(coco, make_picture, name):
    """Or there is none that can be read, and it is said what there is."""
    make_picture(coco.images / "1.JPG")
    coco.document["images"][0]["file_name"] = name
    data = coco.read()
    assert data.annotations[0].image_path == str(coco.images / "1.JPG")
    assert data.notes == {RENAMED: 1}
    (coco.images / "1.JPG").rename(coco.images / "1.heic")
    with pytest.raises(DataError, match=r"file_name = .*is missing.* there is 1.heic"):
        coco.read()
    coco.document["images"][0]["file_name"] = name.replace("1", "aa")
    with pytest.raises(DataError, match=r"there is a.jpg and b.png next to it, of 3"):
        coco.read()

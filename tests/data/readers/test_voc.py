"""PASCAL VOC files are read as they are meant."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.finding import RENAMED
from harmonic_tf.data.sources import load

STALE = "a <filename> that several XML files share, and that is not theirs, is not followed"


def test_boxes_count_from_zero(voc):
    first, second = voc.read().annotations
    # Pixels 2 to 11 counted from 1, the last one included, are the span from 1 to 11.
    np.testing.assert_array_equal(first.boxes, [[1, 2, 11, 22], [5, 6, 9, 11]])
    np.testing.assert_array_equal(second.boxes, [[0, 0, 40, 30]])
    assert first.boxes.dtype == np.float32


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_box_covers_its_pixels(tmp_path_factory, make_voc, data):
    """The pixels drawn by VOC's rule are those that the box covers."""
    xmin = data.draw(st.integers(1, 39))
    xmax = data.draw(st.integers(xmin + 1, 40))
    ymin = data.draw(st.integers(1, 29))
    ymax = data.draw(st.integers(ymin + 1, 30))
    voc = make_voc(tmp_path_factory.mktemp("voc") / "voc")
    voc.write("p1", voc.element("cat", xmin, ymin, xmax, ymax))
    x1, y1, x2, y2 = voc.read().annotations[0].boxes[0]
    drawn = np.zeros((31, 41), bool)  # counted from 1
    drawn[ymin : ymax + 1, xmin : xmax + 1] = True
    y, x = np.mgrid[:30, :40] + 0.5  # centres of pixels
    np.testing.assert_array_equal((x > x1) & (x < x2) & (y > y1) & (y < y2), drawn[1:, 1:])


def test_ids_paths_and_sizes(voc):
    first, second = voc.read().annotations
    assert (first.image_id, second.image_id) == ("p1", "p2")
    assert first.image_path == str(voc.images / "p1.jpg")
    assert (first.width, first.height) == (40, 30)


def test_classes_are_sorted_names(voc):
    data = voc.read()
    assert data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(data.annotations[0].classes, [0, 1])


def test_given_classes_set_the_order(voc):
    data = voc.read(class_names=["dog", "bird", "cat"])
    assert data.class_names == ("dog", "bird", "cat")
    np.testing.assert_array_equal(data.annotations[0].classes, [2, 0])


def test_difficult_and_truncated(voc):
    flags = "<difficult>1</difficult><truncated>1</truncated>"
    hard = voc.element("cat", 1, 1, 9, 9, more=flags)
    easy = voc.element("cat", 1, 1, 9, 9, more="<truncated>0</truncated>")
    voc.write("p1", hard, easy, voc.element("cat", 1, 1, 9, 9))
    annotation = voc.read().annotations[0]
    np.testing.assert_array_equal(annotation.difficult, [True, False, False])
    np.testing.assert_array_equal(annotation.crowd, [False, False, False])
    np.testing.assert_array_equal(annotation.extras["truncated"], np.float32([1, 0, np.nan]))


def test_parts_of_objects_are_no_objects(voc):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    voc.write("p1", voc.element("cat", 1, 1, 9, 9, more=part))
    assert voc.read().class_names == ("cat", "dog")


def test_picture_without_objects_is_kept(voc):
    voc.write("p1")
    assert voc.read().annotations[0].boxes.shape == (0, 4)


def test_path_is_not_followed(voc, make_picture, tmp_path):
    make_picture(tmp_path / "elsewhere.jpg")
    file = voc.annotations / "p1.xml"
    field = f"<path>{tmp_path / 'elsewhere.jpg'}</path>"
    file.write_text(file.read_text().replace("<size>", f"{field}<size>"))
    assert voc.read().annotations[0].image_path == str(voc.images / "p1.jpg")


@pytest.mark.parametrize("suffix", (".jpg", ".jpeg", ".png"))
@pytest.mark.parametrize("filename", ("", "renamed_since.jpg"))
def test_picture_by_id_where_filename_names_none(voc, make_picture, suffix, filename):
    (voc.images / "p1.jpg").unlink()
    make_picture(voc.images / f"p1{suffix}")
    voc.write("p1", voc.element("cat", 1, 1, 9, 9), filename=filename)
    assert voc.read().annotations[0].image_path == str(voc.images / f"p1{suffix}")


@pytest.mark.parametrize("filename", ("other.png", "other", "other.jpg", "OTHER.PNG"))
def test_filename_is_used_where_no_image_bears_the_own_name(voc, make_picture, filename):
    (voc.images / "p1.jpg").unlink()
    make_picture(voc.images / "other.png")
    voc.write("p1", voc.element("cat", 1, 1, 9, 9), filename=filename)
    assert voc.read().annotations[0].image_path == str(voc.images / "other.png")


@pytest.mark.parametrize(
    "filename",
    (
        *("C:\\pics\\p2.jpg", "/home/x/p2.jpg", "/etc/passwd", "../JPEGImages/p2.jpg"),
        *("gone.jpg", "p1", "p1.png", "P1.JPG", "images/p1.jpg", ""),
    ),
)
def test_the_own_name_counts(voc, filename):
    voc.write("p1", voc.element("cat", 2, 3, 11, 22), filename=filename)
    annotation = voc.read().annotations[0]
    assert annotation.image_path == str(voc.images / "p1.jpg")
    np.testing.assert_array_equal(annotation.boxes, [[1, 2, 11, 22]])


def test_filename_tells_images_of_one_name_apart(voc, make_picture):
    make_picture(voc.images / "p1.png")
    assert voc.read().annotations[0].image_path == str(voc.images / "p1.jpg")
    voc.write("p1", voc.element("cat", 1, 1, 9, 9), filename="p1.png")
    assert voc.read().annotations[0].image_path == str(voc.images / "p1.png")


@pytest.mark.parametrize("name", ("P1.jpg", "p1.JPG", "p1.Jpeg", "p1.webp"))
def test_image_in_other_letters(voc, name):
    (voc.images / "p1.jpg").rename(voc.images / name)
    assert voc.read().annotations[0].image_path == str(voc.images / name)


@pytest.mark.parametrize("form", ("{}.jpg", "{}", "{}.png"))
def test_exchanged_filenames_are_shown(voc, form):
    for own, other in (("p1", "p2"), ("p2", "p1")):
        voc.write(own, voc.element("cat", 1, 1, 9, 9), filename=form.format(other))
    voc.write("p3", voc.element("cat", 2, 3, 11, 22), filename="p3.jpg")
    shutil.copy(voc.images / "p1.jpg", voc.images / "p3.jpg")
    voc.split.write_text("p1\np2\np3\n")
    message = rf"p1\.xml: filename = {form.format('p2')}: names another image.*Write p1\.jpg"
    with pytest.raises(DataError, match=message):
        voc.read()
    data = voc.read(on_bad_example="skip")
    assert [annotation.image_id for annotation in data.annotations] == ["p3"]
    assert [problem.part for problem in data.skipped] == ["picture", "picture"]


def test_a_filename_that_all_share_is_a_template(voc):
    for name in ("p3", "p4"):
        shutil.copy(voc.images / "p1.jpg", voc.images / f"{name}.jpg")
    ids = ("p1", "p2", "p3", "p4")
    for image_id in ids:
        voc.write(image_id, voc.element("cat", 1, 1, 9, 9), filename="p1.jpg")
    voc.split.write_text("\n".join(ids))
    data = voc.read()
    assert [a.image_path for a in data.annotations] == [
        str(voc.images / f"{image_id}.jpg") for image_id in ids
    ]
    assert data.notes == {STALE: 3}


def test_an_image_has_one_file_of_annotations(voc):
    voc.write("p3", voc.element("cat", 1, 1, 9, 9), filename="p1.jpg")
    voc.split.write_text("p1\np2\np3\n")
    with pytest.raises(DataError, match=r"p3\.xml: filename = p1\.jpg: .*another XML file"):
        voc.read()
    data = voc.read(on_bad_example="skip")
    assert [annotation.image_id for annotation in data.annotations] == ["p1", "p2"]


def test_missing_image_says_what_was_looked_for(voc):
    (voc.images / "p1.jpg").unlink()
    voc.write("p1", voc.element("cat", 1, 1, 9, 9), filename="gone.jpg")
    with pytest.raises(
        DataError, match=r"filename = gone\.jpg: .*p1 with any suffix, or gone\.jpg"
    ):
        voc.read()


@pytest.mark.parametrize("image_id", ("p1", "other"))
def test_an_image_of_another_suffix(voc, image_id):
    """Or there is none that can be read, and it is said what there is."""
    voc.split.write_text(f"{image_id}\n")
    voc.write(image_id, voc.element("cat", 1, 1, 9, 9), filename="p1.jpg")
    (voc.images / "p1.jpg").rename(voc.images / "p1.JPG")
    data = voc.read()
    assert data.annotations[0].image_path == str(voc.images / "p1.JPG")
    assert data.notes == {RENAMED: 1}
    (voc.images / "p1.JPG").unlink()
    with pytest.raises(DataError, match=r"filename = p1.jpg: .*missing.* there is p2.jpg next"):
        voc.read()


def test_years_are_joined(make_voc, tmp_path):
    early = make_voc(tmp_path / "VOCdevkit" / "VOC2007")
    late = make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    late.split.write_text("q1\n\n")
    late.write("q1", late.element("bird", 1, 1, 9, 9), filename="p2.jpg")
    data = load(f"voc:{tmp_path / 'VOCdevkit'}", "2007_trainval+2012_trainval")
    assert [annotation.image_id for annotation in data.annotations] == ["p1", "p2", "q1"]
    assert data.annotations[0].image_path == str(early.images / "p1.jpg")
    assert data.annotations[2].image_path == str(late.images / "p2.jpg")
    assert data.class_names == ("bird", "cat", "dog")


def test_splits_of_a_bare_folder_are_joined(voc):
    voc.split.write_text("p2\r\n")
    (voc.split.parent / "more.txt").write_text("p1\n")
    data = load(f"voc:{voc.folder}", "trainval+more")
    assert [annotation.image_id for annotation in data.annotations] == ["p2", "p1"]
    assert data.name == "voc:voc/trainval+more"

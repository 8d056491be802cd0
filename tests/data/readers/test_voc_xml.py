"""What XML files of VOC say in unusual ways is read and counted, or refused by name."""

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.data.example import DataError

LATIN_1 = "XML that is not UTF-8 and says nothing of its encoding is read as Latin-1"
POLYGON = "an object without bndbox has the tight box of its polygon"
SIZE = "width and height are read from the image"
LOW = "a box whose xmin or ymin is below 1, where VOC starts to count, is clipped"
HIGH = "a box that ends up to a pixel outside of its image is clipped"


def write(voc, body, encoding="utf-8", start=""):
    text = f"{start}<annotation><filename>p1.jpg</filename>{body}</annotation>"
    (voc.annotations / "p1.xml").write_bytes(text.encode(encoding))


@pytest.mark.parametrize(
    "size",
    (
        "",
        "<size/>",
        "<size><width>0</width><height>0</height><depth>3</depth></size>",
        "<size><width>40</width></size>",
    ),
)
def test_size_from_the_image(voc, size):
    write(voc, size + voc.element("cat", 2, 3, 11, 22))
    data = voc.read()
    assert (data.annotations[0].width, data.annotations[0].height) == (40, 30)
    np.testing.assert_array_equal(data.annotations[0].boxes, [[1, 2, 11, 22]])
    assert data.notes == {SIZE: 1}


def test_size_of_a_turned_image_is_the_one_seen(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(voc.images / "p1.jpg", exif=exif)
    write(voc, voc.element("cat", 2, 3, 11, 40))
    annotation = voc.read().annotations[0]
    assert (annotation.width, annotation.height) == (30, 40)


@pytest.mark.parametrize("name", ("café", "Größe", "créée", "N° 1", "Ü"))
@pytest.mark.parametrize("start", ("", '<?xml version="1.0"?>'))
def test_undeclared_latin_1(voc, name, start):
    write(voc, voc.element(name, 2, 3, 11, 22), "latin-1", start)
    data = voc.read()
    assert data.class_names == tuple(sorted(["dog", name]))
    assert data.notes == {LATIN_1: 1, SIZE: 1}


@pytest.mark.parametrize("encoding", ("latin-1", "utf-16", "utf-8", "cp1252"))
def test_declared_encodings(voc, encoding):
    start = f'<?xml version="1.0" encoding="{encoding}"?>'
    write(voc, voc.element("café", 2, 3, 11, 22), encoding, start)
    data = voc.read()
    assert data.class_names == ("café", "dog") and data.notes == {SIZE: 1}


@pytest.mark.parametrize(
    ("name", "encoding", "start"),
    (
        ("狗", "gbk", ""),
        ("中文", "gbk", '<?xml version="1.0"?>'),
        ("狗", "gbk", '<?xml version="1.0" encoding="utf-8"?>'),
        ("狗", "gbk", '<?xml version="1.0" encoding="GBK"?>'),
        ("貓", "big5", ""),
        ("ネコ", "shift_jis", ""),
        ("кот", "cp1251", ""),
        ("café", "latin-1", "<?xml version='1.0' encoding='UTF-8'?>"),
        ("cat", "ascii", "<?xml version='1.0' encoding='no'?>"),
    ),
)
def test_other_encodings_are_refused(voc, name, encoding, start):
    write(voc, voc.element(name, 2, 3, 11, 22), encoding, start)
    with pytest.raises(
        DataError, match=r"p1\.xml: file = .*does not parse as XML. Write it as UTF-8"
    ):
        voc.read()


def test_blank_lines_before_the_declaration(voc):
    write(voc, voc.element("cat", 2, 3, 11, 22), start='\n <?xml version="1.0"?>')
    assert len(voc.read().annotations) == 2


X_Y = "<polygon><x1>4</x1><y1>5</y1><x2>20.5</x2><y2>9</y2><x3>8</x3><y3>30</y3></polygon>"
POINTS = "<polygon>" + "".join(
    f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((4, 5), (20.5, 9), (8, 30))
)


@pytest.mark.parametrize("polygon", (X_Y, f"{POINTS}</polygon>"))
def test_polygon_without_bndbox(voc, polygon):
    write(voc, f"<object><name>cat</name>{polygon}</object>" + voc.element("dog", 2, 3, 11, 22))
    data = voc.read()
    np.testing.assert_array_equal(data.annotations[0].boxes, [[4, 5, 20.5, 30], [1, 2, 11, 22]])
    assert data.notes == {POLYGON: 1, SIZE: 1}


def test_polygon_beside_bndbox(voc):
    write(voc, voc.element("cat", 2, 3, 11, 22, more=X_Y))
    data = voc.read()
    np.testing.assert_array_equal(data.annotations[0].boxes, [[1, 2, 11, 22]])
    assert data.notes == {SIZE: 1}


def test_corners_counted_from_zero_are_said(voc):
    corners = ((0, 3, 11, 22), (5, 0, 11, 22), (0, 0, 9, 9), (5, 5, 41, 9), (5, 5, 9, 31))
    voc.write("p1", *(voc.element("cat", *box) for box in corners))
    data = voc.read()
    expected = [[0, 2, 11, 22], [4, 0, 11, 22], [0, 0, 9, 9], [4, 4, 40, 9], [4, 4, 9, 30]]
    np.testing.assert_array_equal(data.annotations[0].boxes, expected)
    assert data.notes == {LOW: 3, HIGH: 2}


@pytest.mark.parametrize(
    ("text", "value"),
    (("0", False), ("1", True), ("true", True), ("False", False), (" TRUE ", True), ("", False)),
)
def test_flags(voc, text, value):
    more = f"<difficult>{text}</difficult><truncated>{text}</truncated>"
    voc.write("p1", voc.element("cat", 1, 1, 9, 9, more=more))
    annotation = voc.read().annotations[0]
    assert annotation.difficult.tolist() == [value]
    truncated = np.float32([value]) if text else np.float32([np.nan])
    np.testing.assert_array_equal(annotation.extras["truncated"], truncated)


ROTATED = "<robndbox><cx>9</cx><cy>9</cy><w>4</w><h>3</h><angle>0.5</angle></robndbox>"


@pytest.mark.parametrize(
    ("inner", "field", "message"),
    (
        ("", "bndbox", "= missing: object has no bndbox. Draw its box"),
        (ROTATED, "robndbox", "cx=9 .*angle=0.5: rotated boxes are not supported.*upright"),
        ("<polygon><x1>1</x1><y1>1</y1></polygon>", "polygon", "1 x, 1 y: is not an outline"),
        ("<bndbox/>", "bndbox/xmin", "= None: is not a finite number"),
    ),
)
def test_objects_without_a_box(voc, inner, field, message):
    good = voc.element("cat", 1, 1, 9, 9)
    voc.write("p1", good, f"<object><name>dog</name>{inner}</object>")
    with pytest.raises(DataError, match=message) as caught:
        voc.read()
    assert caught.value.problem.field == f"object[1]/{field}"
    data = voc.read(on_bad_example="skip")
    assert [len(a.boxes) for a in data.annotations] == [1, 1]


@pytest.mark.parametrize(
    ("corners", "words"),
    (
        ((9, 3, 5, 22), "Swap xmin and xmax if"),
        ((5, 22, 9, 3), "Swap ymin and ymax if"),
        ((9, 22, 5, 3), "Swap xmin and xmax and ymin and ymax if"),
    ),
)
def test_swapped_corners(voc, corners, words):
    voc.write("p1", voc.element("cat", *corners))
    with pytest.raises(DataError, match=f"no area: its corners are swapped. {words}"):
        voc.read()


@pytest.mark.parametrize("key", ("difficult", "truncated"))
@pytest.mark.parametrize("text", ("2", "yes", "Unspecified", "0.5"))
def test_bad_flags(voc, key, text):
    voc.write("p1", voc.element("cat", 1, 1, 9, 9, more=f"<{key}>{text}</{key}>"))
    with pytest.raises(DataError, match=rf"object\[0\]/{key} = '{text}': is neither 0 nor 1"):
        voc.read()

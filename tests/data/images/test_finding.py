"""Images are found by the names that annotations give them, or it is said what is there."""

import time

import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.finding import RENAMED, Images


def find(folder, name, images=None):
    images = images or Images()
    return images.find(str(folder), name, "list.json", "name"), images.notes


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# What is there, what is asked for, what is found, and whether that is said.
FOUND = {
    "as written": (["1.jpg", "1.JPG", "1.png"], "1.jpg", "1.jpg", 0),
    "below": (["a/1.jpg"], "a/1.jpg", "a/1.jpg", 0),
    "back-slashes": (["a/1.jpg"], "a\\1.jpg", "a/1.jpg", 0),
    "here": (["a/1.jpg"], "./a/1.jpg", "a/1.jpg", 0),
    "percent": (["a b/ü 1.jpg"], "a%20b%2F%C3%BC%201.jpg", "a b/ü 1.jpg", 0),
    "percent as written": (["a%20b.jpg", "a b.jpg"], "a%20b.jpg", "a%20b.jpg", 0),
    "percent and back-slash": (["a b/1.jpg"], "a%20b%5C1.jpg", "a b/1.jpg", 0),
    "back-slash as written": (["a\\1.jpg", "a/1.jpg"], "a\\1.jpg", "a\\1.jpg", 0),
    "suffix": (["b.jpeg", "b.txt", "c.jpg"], "b.jpg", "b.jpeg", 1),
    "suffix of what was converted": (["b.png"], "b.heic", "b.png", 1),
    "WebP": (["b.webp"], "b.tiff", "b.webp", 1),
    "case of the suffix": (["1.JPG"], "1.jpg", "1.JPG", 1),
    "case": (["IMG_1.jpg"], "img_1.JPG", "IMG_1.jpg", 1),
    "case of a folder": (["Images/A/1.png"], "images/a/1.jpg", "Images/A/1.png", 1),
    "suffix of a percent-encoded name": (["a b.png"], "a%20b.jpg", "a b.png", 1),
    "no suffix": (["2007_1.jpg", "2007_1.xml"], "2007_1", "2007_1.jpg", 0),
    "no suffix but a dot": (["a.v2.jpg", "a.jpg"], "a.v2", "a.v2.jpg", 0),
    "several dots": (["a_jpg.rf.12.jpg"], "a_jpg.rf.12.png", "a_jpg.rf.12.jpg", 1),
    "accents apart": (["u\u0308.jpg"], "\u00fc.jpg", "u\u0308.jpg", 1),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(tmp_path, case):
    there, name, expected, renamed = FOUND[case]
    make(tmp_path, *there)
    path, notes = find(tmp_path, name)
    assert path == str(tmp_path / expected)
    assert notes == ({RENAMED: 1} if renamed else {})


# What is there, what is asked for, what the error says.
REFUSED = {
    "several": (["1.JPG", "1.png"], "1.jpg", r"several images fit. Name one of 1.JPG, 1.png\."),
    "several cases": (["a.jpg", "A.jpg"], "A.png", r"several images fit. Name one of A.jpg, a.jpg"),
    "unreadable": (["1.heic"], "1.jpg", r"1.jpg: picture is missing. .*there is 1.heic\."),
    "others": (
        ["1.jpg", "3.jpg"],
        "2.jpg",
        r"is missing.* there is 1.jpg and 3.jpg next to it, of 2",
    ),
    "empty": (["a/1.jpg", "b/c/1.jpg"], "b/1.jpg", r"there is c next to it, of 1 names in .*b\."),
    "no folder": (["1.jpg"], "b/1.jpg", r"there is no folder .*b\."),
    "no name": (["1.jpg"], None, "None: is not a file name below the data set's folder"),
    "upwards": (["a/1.jpg"], "a/../../1.jpg", "is not a file name below"),
    "upwards, encoded": (["1.jpg"], "%2e%2e/1.jpg", r"'../1.jpg': is not a file name below"),
    "upwards, to Windows": (["1.jpg"], "..\\1.jpg", "is not a file name below"),
    "absolute, encoded": (["1.jpg"], "%2Fetc%2Fpasswd", "is not a file name below"),
    "nothing": (["1.jpg"], "%00.jpg", "is not a file name below"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    there, name, message = REFUSED[case]
    make(tmp_path / "data", *there)
    (tmp_path / "1.jpg").touch()
    with pytest.raises(DataError, match=message) as caught:
        find(tmp_path / "data", name)
    assert (caught.value.problem.file, caught.value.problem.field) == ("list.json", "name")


@pytest.mark.parametrize("names", (("a.jpg", "A.jpg"), ("A.jpg", "a.jpg")))
def test_one_image_is_not_that_of_two_names(tmp_path, names):
    make(tmp_path, "a.jpg")
    images = Images()
    find(tmp_path, names[0], images)
    find(tmp_path, names[0], images)
    with pytest.raises(DataError, match=f"same image as another.*is that of '{names[0]}'"):
        find(tmp_path, names[1], images)


def test_large_folders_are_listed_once(tmp_path):
    make(tmp_path, *(f"{number:05d}.JPG" for number in range(2000)))
    images, start = Images(), time.monotonic()
    for number in range(2000):
        assert find(tmp_path, f"{number:05d}.jpg", images)[0].endswith(f"{number:05d}.JPG")
    assert time.monotonic() - start < 2
    assert images.notes[RENAMED] == 2000

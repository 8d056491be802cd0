"""Several data sets read as one."""

import numpy as np
import pytest

from harmonic_tf.data.example import DataError
from harmonic_tf.data.sources import load, parts


@pytest.fixture
def two(coco, voc):
    """A COCO folder (classes dog, cat; ids 7, 3) and a VOC folder (cat, dog; ids p1, p2)."""
    coco.read()  # writes the file
    voc.write("p2", voc.element("bird", 1, 1, 9, 9))
    return f"coco:{coco.file}", f"voc:{voc.folder}"


def names_of(data):
    return [[data.class_names[index] for index in a.classes] for a in data.annotations]


def test_joined_are_the_parts_one_after_the_other(two):
    alone = [load(spec, "trainval") for spec in two]
    joined = load(",".join(two), "trainval")
    assert joined.class_names == ("dog", "cat", "bird")  # as they first appear
    assert joined.name == f"{alone[0].name},{alone[1].name}"
    assert [a.image_id for a in joined.annotations] == [7, 3, "p1", "p2"]
    assert names_of(joined) == names_of(alone[0]) + names_of(alone[1])
    for found, expected in zip(joined.annotations, [*alone[0].annotations, *alone[1].annotations]):
        assert found.image_path == expected.image_path
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        assert found.classes.dtype == np.int32


def test_given_classes_hold_for_all(two):
    names = ["bird", "cat", "dog"]
    data = load(",".join(two), "trainval", class_names=names)
    assert data.class_names == tuple(names)
    assert names_of(data) == [["cat", "dog"], ["dog"], ["cat", "dog"], ["bird"]]


def test_ids_are_made_unique_where_they_clash(two):
    data = load(f"{two[0]},{two[1]},{two[0]}", "trainval")
    assert [a.image_id for a in data.annotations] == ["1/7", "1/3", "2/p1", "2/p2", "3/7", "3/3"]


def test_a_split_for_each(two, voc):
    (voc.split.parent / "more.txt").write_text("p2\n")
    joined = load(",".join(two), "train,more")
    assert [a.image_id for a in joined.annotations] == [7, 3, "p2"]
    with pytest.raises(DataError, match=r"train,more,x: is not one split for each.*1 or 2"):
        load(",".join(two), "train,more,x")


def test_kinds_need_not_be_named(two):
    bare = ",".join(part.partition(":")[2] for part in two)
    found, expected = load(bare, "trainval"), load(",".join(two), "trainval")
    assert found.name == expected.name
    assert [a.image_id for a in found.annotations] == [7, 3, "p1", "p2"]


def test_skipped_of_all_are_kept(two, coco, voc):
    coco.document["annotations"][0]["bbox"] = [0, 0, 0, 0]
    coco.read(on_bad_example="skip")
    voc.write("p1", voc.element("cat", 5, 5, 5, 5), voc.element("cat", 1, 1, 9, 9))
    with pytest.raises(DataError, match="no area"):
        load(",".join(two), "trainval")
    data = load(",".join(two), "trainval", on_bad_example="skip")
    assert [problem.file for problem in data.skipped] == [
        str(coco.file),
        str(voc.annotations / "p1.xml"),
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    (
        ("coco:a", ["coco:a"]),
        ("coco:a,voc:b", ["coco:a", "voc:b"]),
        ("coco:a,b/c", ["coco:a,b/c"]),  # a comma in a path
        ("tfds:voc/2007,tfrecord:x/{split}-*", ["tfds:voc/2007", "tfrecord:x/{split}-*"]),
    ),
)
def test_parts(spec, expected):
    assert parts(spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    (
        ("a,b", ["a", "b"]),
        ("coco:a,b", ["coco:a", "b"]),
        ("a,coco:b,a", ["a", "coco:b", "a"]),
        ("a,x", ["a,x"]),  # a folder with a comma in its name
        ("a,x,b", ["a,x", "b"]),
        ("b,a,x,a,x", ["b", "a,x", "a,x"]),
        ("a,nowhere", ["a", "nowhere"]),
        ("nowhere,a", ["nowhere,a"]),
        ("voc:c,voc:d,e", ["voc:c", "voc:d,e"]),
    ),
)
def test_commas_join_paths_that_are_there(spec, expected, tmp_path, monkeypatch):
    for name in ("a", "b", "a,x"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert parts(spec) == expected


def test_patterns_are_no_paths(tmp_path):
    """What a glob names is for the reader to find out."""
    with pytest.raises(DataError, match=r"nothing-\*.*matches no files"):
        load(f"tfrecord:{tmp_path}/nothing-*", "train")

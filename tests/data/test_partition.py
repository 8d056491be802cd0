"""A split is cut into parts: each picture once, groups whole, shares near, same seed same cut."""

import collections
import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.partition import Cut, assign, divide, join, picture_keys, picture_names

CUT = Cut(val_fraction=0.2, test_fraction=0.3)
ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)


@st.composite
def cuts(draw):
    """Pictures as pairs of what they hold and what their name says; two shares; a seed."""
    val = draw(st.floats(0.01, 0.5))
    test = draw(st.floats(0.01, 0.49))
    return draw(ROWS), {"test": test, "val": val}, draw(st.integers(0, 5))


def groups_and_keys(rows):
    keys = [bytes([content]) * 32 for content, _ in rows]
    return join([keys, [name if name < 8 else None for _, name in rows]]), keys


@given(cuts())
@settings(max_examples=200, deadline=None)
def test_properties_of_a_cut(case):
    rows, fractions, seed = case
    groups, keys = groups_and_keys(rows)
    parts = assign(groups, keys, fractions, seed)
    assert len(parts) == len(rows) and set(parts) <= {"train", "val", "test"}
    part_of = dict(zip(groups, parts))
    assert [part_of[group] for group in groups] == parts  # groups are whole
    for column in (keys, [name if name < 8 else None for _, name in rows]):
        alike = collections.defaultdict(set)
        for value, part in zip(column, parts):
            alike[value].add(part)
        assert all(len(found) == 1 for value, found in alike.items() if value is not None)
    largest = max(collections.Counter(groups).values())
    taken = collections.Counter(parts)
    assert abs(taken["test"] - fractions["test"] * len(rows)) <= largest / 2
    if taken["train"]:
        assert abs(taken["val"] - fractions["val"] * len(rows)) <= largest / 2
    assert parts == assign(groups, keys, fractions, seed)


@given(cuts(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_pictures_does_not_matter(case, random):
    rows, fractions, seed = case
    order = list(range(len(rows)))
    random.shuffle(order)
    plain = assign(*groups_and_keys(rows), fractions, seed)
    mixed = assign(*groups_and_keys([rows[place] for place in order]), fractions, seed)
    assert mixed == [plain[place] for place in order]


def test_single_pictures_meet_the_shares_exactly_and_seeds_differ():
    keys = [bytes([i]) for i in range(100)]
    cuts_by_seed = [assign(range(100), keys, {"test": 0.2, "val": 0.1}, s) for s in range(3)]
    for parts in cuts_by_seed:
        assert collections.Counter(parts) == {"train": 70, "test": 20, "val": 10}
    assert len({tuple(parts) for parts in cuts_by_seed}) == 3


def test_what_is_alike_by_way_of_others_is_one_group():
    groups = join([["a", "b", "a", "c", None, None], [1, 1, 2, 3, None, 3]])
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[5]
    assert len(set(groups)) == 3


@pytest.fixture
def pictures(tmp_path):
    """Twelve pictures: frames 0 to 3 of the videos a, b and c; b's 0 and c's 3 are the same."""
    annotations = []
    for number in range(12):
        path = tmp_path / f"{'abc'[number // 4]}_{number % 4}.png"
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(path)
        annotations.append(annotation(path))
    shutil.copy(tmp_path / "b_0.png", tmp_path / "c_3.png")
    return DetectionData("coco:x/all", ("cat",), annotations)


def annotation(path):
    none = np.zeros(1, bool)
    boxes = np.array([[1, 1, 5, 5]], np.float32)
    return Annotation(str(path), path.stem, 8, 8, boxes, np.zeros(1, np.int32), none, none)


def ids(data):
    return [a.image_id for a in data.annotations]


def test_parts_of_files(pictures):
    parts = divide(pictures, CUT)
    assert list(parts) == ["train", "test", "val"]
    # 0.2 x 12 = 2.4 and 0.3 x 12 = 3.6 pictures, one group of two pictures among ten of one.
    assert 2 <= len(ids(parts["val"])) <= 3
    assert 3 <= len(ids(parts["test"])) <= 4
    assert sorted(itertools.chain(*map(ids, parts.values()))) == ids(pictures)
    same = [name for name, part in parts.items() if {"b_0", "c_3"} & set(ids(part))]
    assert len(same) == 1
    for name, part in parts.items():
        assert part.name == f"coco:x/all/{name}"
        assert ids(part) == sorted(ids(part))  # as they were


def test_neither_folder_nor_order_nor_names_matter(pictures, tmp_path):
    before = {name: ids(part) for name, part in divide(pictures, CUT).items()}
    moved = []
    for number, a in enumerate(reversed(pictures.annotations)):
        path = tmp_path / "moved" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(a.image_path, path)
        moved.append(dataclasses.replace(a, image_path=str(path)))
    after = divide(dataclasses.replace(pictures, annotations=moved), CUT)
    assert {name: sorted(ids(part)) for name, part in after.items()} == before


def test_frames_of_a_video_stay_together(pictures):
    cut = dataclasses.replace(CUT, val_fraction=0, by=r"(.+)_\d+")
    parts = divide(pictures, cut)
    # b and c hold the same picture, so they are one group of eight, and a another of four.
    assert ids(parts["test"]) == ["a_0", "a_1", "a_2", "a_3"]
    assert len(ids(parts["train"])) == 8
    assert parts["train"].notes == {}
    whole_match = divide(pictures, dataclasses.replace(cut, by="^[a-z]"))
    assert ids(whole_match["test"]) == ids(parts["test"])


def test_names_that_do_not_fit_stand_alone_and_are_counted(pictures):
    by = "(b)_|(c)_"  # of c, the first group finds nothing
    train = divide(pictures, dataclasses.replace(CUT, by=by))["train"]
    note = f"the name of a picture does not fit split_by={by}: it stands alone"
    assert train.notes == {note: 8}


def test_reading_notes_and_problems_are_kept_once(pictures):
    noted = dataclasses.replace(pictures, notes={"turned": 3})
    parts = divide(noted, CUT)
    assert [dict(part.notes) for part in parts.values()] == [{"turned": 3}, {}, {}]


def test_names_are_below_the_folder_of_all(tmp_path):
    inner = [annotation(tmp_path / "v1" / "1.png"), annotation(tmp_path / "v2" / "1.png")]
    assert picture_names(inner) == ["v1/1.png", "v2/1.png"]
    record = dataclasses.replace(inner[0], record_offset=4, image_id="clip/7.jpg")
    assert picture_names([record]) == ["clip/7.jpg"]


def test_a_picture_that_cannot_be_read_is_known_by_its_name(pictures, tmp_path):
    (tmp_path / "a_1.png").unlink()
    parts = divide(pictures, CUT)
    assert sorted(itertools.chain(*map(ids, parts.values()))) == ids(pictures)
    assert len(set(picture_keys(["a", "b", "c"], [None, None, b"1"]))) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"by": "("}, r"split_by = \(: is no regular expression \(.*\)\. Write one"),
        ({"by": "xyz"}, r"split_by = xyz: fits no picture's name, such as a_0.png, a_1.png"),
        ({"by": "_"}, r"12 pictures in 1 groups: leaves no picture for train|val|test"),
        ({"val_fraction": 0.01}, "leaves no picture for val.*val_fraction"),
    ),
)
def test_what_cannot_be_cut_is_said(changes, words, pictures):
    with pytest.raises(DataError, match=words):
        divide(pictures, dataclasses.replace(CUT, **changes))


@pytest.mark.parametrize(
    ("split", "part"),
    (
        ("train", "train"),
        ("trainval", "train"),
        ("test", "test"),
        ("2007_test", "test"),
        ("val", None),
        ("all", None),
        ("other", None),
    ),
)
def test_names_of_parts(split, part):
    cut = Cut(train_split="trainval", test_fraction=0.1, test_split="2007_test")
    assert cut.part(split) == part
    assert Cut(train_split="trainval").part(split) is None

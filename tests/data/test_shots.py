"""So many objects of each class are drawn: no more, no less where there are as many, none twice."""

import collections
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.shots import draw_shots

NAMES = ("a", "b", "c", "d")
OBJECTS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=6)  # class, crowd


def picture(image_id, objects):
    """A picture whose n-th object begins n pixels from the left."""
    places = np.arange(len(objects), dtype=np.float32)
    return Annotation(
        image_path=f"{image_id}.jpg",
        image_id=image_id,
        width=32,
        height=32,
        boxes=np.stack([places, places, places + 4, places + 4], axis=1),
        classes=np.array([number for number, _ in objects], np.int32),
        difficult=np.array([number == 1 for number, _ in objects], bool),
        crowd=np.array([crowd for _, crowd in objects], bool),
        extras={"occlusion": places / 10},
    )


def data_of(pictures):
    annotations = [picture(number, objects) for number, objects in enumerate(pictures)]
    return DetectionData("test", NAMES, annotations, notes={"turned": 2})


def plain(*classes):
    return [(number, False) for number in classes]


def counts(annotations):
    found = collections.Counter()
    for annotation in annotations:
        found.update(annotation.classes[~annotation.crowd].tolist())
    return found


def contents(data):
    return {a.image_id: (a.boxes.tolist(), a.classes.tolist()) for a in data.annotations}


@given(st.lists(OBJECTS, max_size=12), st.integers(1, 5), st.integers(0, 9), st.randoms())
@settings(max_examples=200, deadline=None)
def test_properties_of_a_draw(pictures, shots, seed, random):
    data = data_of(pictures)
    drawn = draw_shots(data, shots, seed)
    there, found = counts(data.annotations), counts(drawn.annotations)
    assert found == {number: min(shots, count) for number, count in there.items()}

    before = {a.image_id: a for a in data.annotations}
    ids = [a.image_id for a in drawn.annotations]
    assert len(set(ids)) == len(ids)
    surplus = 0
    for after in drawn.annotations:
        whole = before[after.image_id]
        place = after.boxes[:, 0].astype(int)  # of each object in its picture
        assert list(place) == sorted(set(place))
        np.testing.assert_array_equal(after.boxes, whole.boxes[place])
        for name in ("classes", "difficult", "crowd"):
            np.testing.assert_array_equal(getattr(after, name), getattr(whole, name)[place])
        np.testing.assert_array_equal(after.extras["occlusion"], whole.extras["occlusion"][place])
        assert after.crowd.sum() == whole.crowd.sum()
        assert not after.crowd.all()  # each brings at least one shot
        surplus += len(whole.boxes) - len(after.boxes)
    assert sum(n for note, n in drawn.notes.items() if note.startswith("object beyond")) == surplus

    assert contents(draw_shots(data, shots, seed)) == contents(drawn)
    annotations = list(data.annotations)
    random.shuffle(annotations)
    shuffled = draw_shots(dataclasses.replace(data, annotations=annotations), shots, seed)
    assert [a.image_id for a in shuffled.annotations] == ids
    assert contents(shuffled) == contents(drawn)


def test_shots_are_taken_with_whole_pictures_where_that_goes():
    """Any picture of both classes and any of the first alone: none needs to be cut."""
    data = data_of([plain(0, 1), plain(0, 1), plain(0, 0, 0), plain(0)])
    for seed in range(8):
        drawn = draw_shots(data, 1, seed)
        assert [a.classes.tolist() for a in drawn.annotations] == [[0, 1]]
        assert not drawn.notes
    drawn = draw_shots(data, 2, 0)  # the class b, which is rarer, brings its two of a
    assert sorted(contents(drawn)) == [0, 1]


def test_surplus_of_shots_and_classes_with_fewer_are_said():
    drawn = draw_shots(data_of([plain(0, 0, 0, 0, 0, 1)]), 2, 0)
    assert counts(drawn.annotations) == {0: 2, 1: 1}
    assert drawn.notes == {
        "object beyond the 2 shots of its class: left out of its picture": 3,
        "class with fewer than 2 objects: b (1)": 1,
    }
    assert drawn.name == "test, 2 shots"


def test_seeds_draw_other_shots():
    data = data_of([plain(0, 0, 0)] * 20)
    drawn = [contents(draw_shots(data, 2, seed)) for seed in range(10)]
    assert len({next(iter(pictures)) for pictures in drawn}) > 3  # of the 20 pictures
    boxes = [tuple(map(tuple, boxes)) for pictures in drawn for boxes, _ in pictures.values()]
    assert len(set(boxes)) == 3  # of the pairs among three objects


@pytest.mark.parametrize("shots", (0, -2))
def test_no_shots_are_refused(shots):
    with pytest.raises(DataError, match=rf"test: shots = {shots}: is less than 1. Draw one"):
        draw_shots(data_of([plain(0)]), shots, 0)

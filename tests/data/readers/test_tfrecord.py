"""TFRecords of anybody, whole and damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DataError
from harmonic_tf.data.images import decoding
from harmonic_tf.data.readers.tfrecord import read_tfrecord, write_label_map
from harmonic_tf.data.records.codec import encode
from harmonic_tf.data.records.conversion import convert

WIDTH, HEIGHT = 40, 30
PICTURE = tf.io.encode_png(np.zeros([HEIGHT, WIDTH, 3], np.uint8)).numpy()
FRAME = 16  # bytes of a record around its content: length 8, its checksum 4, content's checksum 4


def feature(values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def example(**changes):
    """A record with one object and only what nobody can leave out; changes by short key."""
    corners = {"xmin": [0.25], "xmax": [0.5], "ymin": [0.1], "ymax": [0.9]}
    features = {"image/encoded": [PICTURE]}
    features.update({f"image/object/bbox/{key}": values for key, values in corners.items()})
    features["image/object/class/text"] = [b"dog"]
    for key, values in changes.items():
        features[f"image/{key}"] = values
    present = {key: feature(values) for key, values in features.items() if values is not None}
    return tf.train.Example(features=tf.train.Features(feature=present)).SerializeToString()


def write(path, *contents):
    """Writes records; gives the byte at which each starts."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return np.cumsum([0, *(len(content) + FRAME for content in contents)])[:-1].tolist()


LABELS = {"object/class/text": None, "object/class/label": [2]}


class TestFilesOfOthers:
    def test_only_what_is_required(self, tmp_path):
        offsets = write(tmp_path / "train-0.tfrecord", example(), example())
        data = read_tfrecord(str(tmp_path), "train")
        assert data.class_names == ("dog",)
        assert [a.record_offset for a in data.annotations] == offsets
        assert len({a.image_id for a in data.annotations}) == 2
        for annotation in data.annotations:
            assert (annotation.width, annotation.height) == (WIDTH, HEIGHT)  # from the picture
            np.testing.assert_allclose(annotation.boxes, [[10, 3, 20, 27]], rtol=1e-6)
            assert annotation.classes.tolist() == [0]
            assert not annotation.difficult.any() and not annotation.crowd.any()
            assert decoding.picture(annotation).shape == (HEIGHT, WIDTH, 3)

    def test_what_may_be_there_is_used(self, tmp_path):
        flags = {f"object/{key}": [1] for key in ("difficult", "is_crowd", "truncated")}
        sides = {"width": [400], "height": [300]}
        write(tmp_path / "a", example(**flags, **sides, source_id=[b"42"], filename=[b"dog.jpg"]))
        write(tmp_path / "b", example(filename=[b"dog.jpg"]), example(source_id=[7]))
        first, second, third = read_tfrecord(str(tmp_path / "*"), "any").annotations
        assert (first.image_id, second.image_id, third.image_id) == ("42", "dog.jpg", 7)
        assert (first.width, first.height) == (400, 300)
        assert first.difficult.tolist() == first.crowd.tolist() == [True]
        assert first.extras["truncated"].tolist() == [1]

    def test_values_of_other_types_are_read(self, tmp_path):
        texts = {"object/difficult": [b"True"], "object/is_crowd": [b"0"], "width": [b"40"]}
        texts.update({"height": [30.0], "source_id": [7.0], "object/bbox/xmin": [b"0.25"]})
        labels = {"object/class/text": None, "object/class/label": [b"1"]}
        write(tmp_path / "a", example(**texts, **labels), example(source_id=[b"007"]))
        one, other = read_tfrecord(str(tmp_path / "a"), "x", class_names=["dog"]).annotations
        assert (one.width, one.height, one.image_id, other.image_id) == (40, 30, 7, "007")
        assert isinstance(one.image_id, int)
        assert (one.difficult.tolist(), one.crowd.tolist()) == ([True], [False])
        np.testing.assert_allclose(one.boxes, [[10, 3, 20, 27]], rtol=1e-6)
        assert one.classes.tolist() == [0]

    def test_pictures_without_objects(self, tmp_path):
        keys = ("bbox/xmin", "bbox/xmax", "bbox/ymin", "bbox/ymax", "class/text")
        empty = example(**{f"object/{key}": None for key in keys})
        write(tmp_path / "a", empty, example())
        counts = [len(a.boxes) for a in read_tfrecord(str(tmp_path / "a"), "x").annotations]
        assert counts == [0, 1]

    def test_labels_count_from_1(self, tmp_path):
        write(tmp_path / "a", example(**LABELS))
        path = str(tmp_path / "a")
        assert read_tfrecord(path, "x").class_names == ("1", "2")
        data = read_tfrecord(path, "x", class_names=["cat", "dog"])
        assert data.annotations[0].classes.tolist() == [1]
        with pytest.raises(DataError, match=r"object\[0\]/class = 2: class is not in the list"):
            read_tfrecord(path, "x", class_names=["cat"])

    @pytest.mark.parametrize(
        "text",
        (
            "item {\n  id: 9\n  name: 'it\\'s {a} dog'\n}\nitem { name: 'cat' id: 2 }",
            'item{display_name: "x" name: "it\'s {a} dog", id: 9}item{id:2,name:"cat"}',
        ),
    )
    def test_label_map(self, tmp_path, text):
        write(tmp_path / "a", example(**{**LABELS, "object/class/label": [9]}))
        (tmp_path / "label_map.pbtxt").write_text(text)
        data = read_tfrecord(str(tmp_path / "a"), "x")
        assert data.class_names == ("cat", "it's {a} dog")
        assert data.annotations[0].classes.tolist() == [1]

    def test_names_go_before_labels(self, tmp_path):
        write(tmp_path / "a", example(**{"object/class/label": [5]}))
        data = read_tfrecord(str(tmp_path / "a"), "x", class_names=["cat", "dog"])
        assert data.annotations[0].classes.tolist() == [1]

    def test_written_label_map_is_read(self, tmp_path):
        names = ["it's", "back\\slash", 'say "hi"', "b\u00e9b\u00e9"]
        write_label_map(str(tmp_path / "label_map.pbtxt"), names)
        write(tmp_path / "a", example(**LABELS))
        assert list(read_tfrecord(str(tmp_path / "a"), "x").class_names) == names

    def test_patterns(self, tmp_path):
        for name in ("train-0.tfrecord", "val-0.tfrecord", "train_2"):
            write(tmp_path / name, example(source_id=[name.encode()]))

        def ids(pattern, split):
            return [a.image_id for a in read_tfrecord(pattern, split).annotations]

        assert ids(str(tmp_path), "val") == ["val-0.tfrecord"]
        assert ids(str(tmp_path / "{split}*"), "train") == ["train-0.tfrecord", "train_2"]
        assert len(ids(str(tmp_path / "*"), "train")) == 3
        with pytest.raises(DataError, match=r"split = test: matches no files"):
            ids(str(tmp_path), "test")


# What is changed in the second of three records, and what the error says.
BAD_RECORDS = {
    "no picture": ({"encoded": None}, "image/encoded = missing: is required"),
    "no size": ({"encoded": [b"no picture"]}, "picture is of a format that cannot be read"),
    "odd corners": ({"object/bbox/xmax": [0.1, 0.2]}, "xmax = 2 values: is not as many numbers"),
    "no class": ({"object/class/text": None}, "label = 0 values: is not as many numbers"),
    "text as number": (
        {"object/bbox/xmin": [b"left"]},
        "xmin = 'left': is not a finite number",
    ),
    "text as flag": ({"object/difficult": [b"no"]}, "difficult = 'no': is neither 0 nor 1"),
    "large flag": ({"object/is_crowd": [2]}, "is_crowd = 2: is neither 0 nor 1"),
    "part of a label": (
        {"object/class/text": None, "object/class/label": [1.5]},
        "class/label = 1.5: is not a whole number",
    ),
    "id that is no number": ({"source_id": [1.5]}, "image/source_id = 1.5: is not a whole number"),
    "encoding": ({"object/class/text": [b"\xff\xfe"]}, "is not UTF-8"),
    "side": ({"width": [-5], "height": [3]}, "image/width = -5: is not a side"),
    "id twice": (
        {"source_id": [b"first"]},
        "'first': id is not unique. Give each its own id: byte 0 of ",
    ),
}
BAD_OBJECTS = {
    "NaN": ({"object/bbox/xmin": [float("nan")]}, r"object[0]/bbox = nan: is not a finite"),
    "no area": ({"object/bbox/xmax": [0.25]}, "object[0]/bbox = 10 3 10 27 px: box has no area"),
    "outside": ({"object/bbox/xmax": [1.5]}, "box is not inside its picture"),
    "class": ({"object/class/text": [b"cow"]}, "object[0]/class = cow: class is not in the list"),
}


@pytest.mark.parametrize("case", (*BAD_RECORDS, *BAD_OBJECTS))
def test_bad_content(tmp_path, case):
    changes, message = {**BAD_RECORDS, **BAD_OBJECTS}[case]
    ids = [{"source_id": [name]} for name in (b"first", b"second", b"third")]
    contents = [example(**ids[0]), example(**{**ids[1], **changes}), example(**ids[2])]
    path = tmp_path / "a"
    offsets = write(path, *contents)
    with pytest.raises(DataError) as caught:
        read_tfrecord(str(path), "x", class_names=["dog"])
    assert message in str(caught.value)
    assert caught.value.problem.file == str(path)
    assert f"byte {offsets[1]}" in caught.value.problem.field
    data = read_tfrecord(str(path), "x", class_names=["dog"], on_bad_example="skip")
    assert len(data.skipped) == 1
    left = [1, 1] if case in BAD_RECORDS else [1, 0, 1]
    assert [len(a.boxes) for a in data.annotations] == left


class TestDamage:
    """One clear error that names file and byte; with skip, all that can be read is read."""

    @pytest.fixture
    def shard(self, tmp_path):
        path = tmp_path / "train-0.tfrecord"
        offsets = write(path, *(example(source_id=[b"%d" % index]) for index in range(4)))
        return path, offsets

    @staticmethod
    def check(path, field, problem, left):
        with pytest.raises(DataError) as caught:
            read_tfrecord(str(path), "train")
        assert caught.value.problem.file == str(path)
        assert caught.value.problem.field == field
        assert problem in caught.value.problem.problem
        data = read_tfrecord(str(path), "train", on_bad_example="skip")
        assert [a.image_id for a in data.annotations] == left
        assert len(data.skipped) == 1

    @pytest.mark.parametrize("place", ("content", "checksum"))
    def test_flipped_byte(self, shard, place):
        path, offsets = shard
        content = bytearray(path.read_bytes())
        content[offsets[1] + 50 if place == "content" else offsets[2] - 2] ^= 1
        path.write_bytes(content)
        self.check(path, f"byte {offsets[1]}", "does not fit its checksum", ["0", "2", "3"])

    @pytest.mark.parametrize("place", (0, 7, 8))
    def test_flipped_byte_of_a_length(self, shard, place):
        path, offsets = shard
        content = bytearray(path.read_bytes())
        content[offsets[2] + place] ^= 128
        path.write_bytes(content)
        self.check(path, f"byte {offsets[2]}", "all from there on is lost", ["0", "1"])

    @pytest.mark.parametrize("keep", (5, 12, 100))
    def test_truncated(self, shard, keep):
        path, offsets = shard
        path.write_bytes(path.read_bytes()[: offsets[3] + keep])
        self.check(path, f"byte {offsets[3]}", "ends within a record", ["0", "1", "2"])

    def test_the_next_shard_is_read_all_the_same(self, shard):
        path, offsets = shard
        write(path.with_name("train-1.tfrecord"), example(source_id=[b"next"]))
        path.write_bytes(path.read_bytes()[: offsets[1] + 1])
        data = read_tfrecord(str(path.parent), "train", on_bad_example="skip")
        assert [a.image_id for a in data.annotations] == ["0", "next"]

    @pytest.mark.parametrize("mode", ("error", "skip"))
    def test_compressed(self, tmp_path, mode):
        with tf.io.TFRecordWriter(str(tmp_path / "a"), "GZIP") as writer:
            writer.write(example())
        with pytest.raises(DataError, match=r"GZIP: is compressed.*gunzip"):
            read_tfrecord(str(tmp_path / "a"), "x", on_bad_example=mode)

    def test_no_tfrecord_at_all(self, tmp_path):
        (tmp_path / "a").write_text("What is this? Not what it should be.")
        with pytest.raises(DataError, match=r"byte 0 .*wrong checksum.*uncompressed TFRecord"):
            read_tfrecord(str(tmp_path / "a"), "x")

    def test_no_example(self, tmp_path):
        write(tmp_path / "a", b"\xff\xff\xff")
        with pytest.raises(DataError, match=r"byte 0 = 3 bytes: is not a tf.Example"):
            read_tfrecord(str(tmp_path / "a"), "x")


class TestManifest:
    """Whatever differs from the manifest is an error, skip or not."""

    @pytest.fixture
    def folder(self, voc, tmp_path):
        convert(f"voc:{voc.folder}", str(tmp_path / "out"), shard_mb=1e-6)
        return tmp_path / "out"

    @staticmethod
    def check(folder, message):
        for mode in ("error", "skip"):
            with pytest.raises(DataError, match=message):
                read_tfrecord(str(folder), "trainval", on_bad_example=mode)

    @staticmethod
    def change(folder, edit):
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    def test_what_was_written_passes(self, folder):
        assert len(list(folder.glob("*.tfrecord"))) == 2
        assert len(read_tfrecord(str(folder), "trainval").annotations) == 2

    def test_missing_shard(self, folder):
        (folder / "trainval-00001-of-00002.tfrecord").unlink()
        self.check(folder, r"trainval-00001-of-00002.tfrecord: is missing")

    def test_shard_too_many(self, folder):
        write(folder / "trainval-9.tfrecord", example())
        self.check(folder, r"shard = trainval-9.tfrecord: is not in the manifest")

    def test_swapped_shards(self, folder):
        first, second = sorted(folder.glob("*.tfrecord"))
        swapped = first.read_bytes(), second.read_bytes()
        second.write_bytes(swapped[0])
        first.write_bytes(swapped[1])
        self.check(folder, r"00000-of-00002.tfrecord: checksum = .*the manifest has")

    def test_shorter_by_a_whole_record(self, folder):
        sorted(folder.glob("*.tfrecord"))[1].write_bytes(b"")
        self.check(folder, r"00001-of-00002.tfrecord: checksum = 0 bytes with")

    def test_flipped_byte_is_named_by_its_record(self, folder):
        path = sorted(folder.glob("*.tfrecord"))[0]
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"byte 0 = the record there: .*checksum"):
            read_tfrecord(str(folder), "trainval")
        data = read_tfrecord(str(folder), "trainval", on_bad_example="skip")
        assert [a.image_id for a in data.annotations] == ["p2"]

    def test_wrong_counts(self, folder):
        self.change(folder, lambda c: c["splits"]["trainval"].update(pictures=3))
        self.check(folder, r"manifest.json: pictures = 3: the shards hold 2")
        self.change(folder, lambda c: c["splits"]["trainval"].update(pictures=2))
        self.change(folder, lambda c: c["splits"]["trainval"]["objects"].update(dog=1))
        self.check(folder, r"manifest.json: objects/dog = 1: the shards hold 2")

    def test_wrong_classes(self, folder):
        self.change(folder, lambda c: c.update(class_names=["cat"]))
        with pytest.raises(DataError, match=r"dog: class is not in the list"):
            read_tfrecord(str(folder), "trainval")

    def test_no_manifest(self, folder):
        (folder / "manifest.json").write_text("{")
        self.check(folder, "is not a manifest")
        (folder / "manifest.json").write_text('{"version": 0}')
        self.check(folder, "version = 0")


@st.composite
def annotations(draw, index):
    """Anything that an `Annotation` may be."""
    count = draw(st.integers(0, 4))
    width, height = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    corners = draw(hnp.arrays(np.float32, (count, 2, 2), elements=st.floats(0, 1, width=32)))
    corners = (np.sort(corners, axis=1) * [width, height]).astype(np.float32)
    corners[:, 1] = np.maximum(corners[:, 1], np.nextafter(corners[:, 0], np.float32(np.inf)))
    inside = (corners[:, 1] <= [width, height]).all(axis=1)
    boxes = corners[inside].reshape(-1, 4)
    count = len(boxes)
    numbers = hnp.arrays(np.float32, count, elements=st.floats(width=32))
    return Annotation(
        image_path="pictures/a.png",
        image_id=draw(st.one_of(st.just(index), st.just(str(index)), st.just(f"é {index}"))),
        width=width,
        height=height,
        boxes=boxes,
        classes=draw(hnp.arrays(np.int32, count, elements=st.integers(0, 2))),
        difficult=draw(hnp.arrays(bool, count)),
        crowd=draw(hnp.arrays(bool, count)),
        extras=draw(st.dictionaries(st.sampled_from(["truncated", "occlusion"]), numbers)),
    )


@settings(deadline=None, max_examples=15)
@given(st.tuples(*(annotations(index) for index in range(2))))
def test_written_and_read_again_is_the_same(tmp_path_factory, written):
    names = ["cat", "dog", "yak"]
    path = tmp_path_factory.mktemp("identity") / "a"
    # One more object than the strategy may draw: a data set without any is an error.
    zeros = np.zeros(1, np.int32)
    box = np.array([[0, 0, 1, 1]], np.float32)
    last = Annotation("b.png", "last", 2, 2, box, zeros, zeros > 0, zeros > 0)
    offsets = write(path, *(encode(a, PICTURE, names) for a in (*written, last)))
    data = read_tfrecord(str(path), "x", class_names=names)
    for before, after, offset in zip(written, data.annotations, offsets):
        assert (after.image_path, after.record_offset, after.orientation) == (str(path), offset, 1)
        for name in ("image_id", "width", "height"):
            assert getattr(after, name) == getattr(before, name)
            assert type(getattr(after, name)) is type(getattr(before, name))
        for name in ("boxes", "classes", "difficult", "crowd"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
            assert getattr(after, name).dtype == getattr(before, name).dtype
        assert set(after.extras) - set(before.extras) <= {"truncated"}
        for name, values in before.extras.items():
            np.testing.assert_array_equal(after.extras[name], values)

"""Data sets of tensorflow-datasets, against what that library itself reads."""

import io
import pathlib
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.sources import load

COUNTS = {"train": 7, "test": 3}


def jpeg(number):
    """A picture of its own size and colour, whose EXIF orientation has to be left alone."""
    target, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40 + number, 30), (number * 20, 99, 5)).save(target, "JPEG", exif=exif)
    target.seek(0)
    return target


class _Builder(tfds.core.GeneratorBasedBuilder):
    """What the builders below have in common."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # no checksums of downloads beside this file

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in COUNTS.items()}


class HarmonicTinyDetection(_Builder):
    """Pictures with 0 to 2 objects, as VOC and COCO there have them."""

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "is_difficult": np.bool_,
            "is_crowd": np.bool_,
        }
        features = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(objects)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for number in range(count):
            objects = [
                {
                    "bbox": tfds.features.BBox(0.1, 0.2 + index / 5, 0.5, 0.9 - number / 100),
                    "label": (number + index) % 2,
                    "is_difficult": index == 1,
                    "is_crowd": number == 2,
                }
                for index in range(number % 3)
            ]
            yield number, {"image": jpeg(number), "objects": objects}


class HarmonicTinyPlain(_Builder):
    """The features that have to be there, and no more; the second picture's box is empty."""

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["cat"]),
        }
        features = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(objects)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for number in range(count):
            bottom = 0.1 if number == 1 else 0.9
            bbox = tfds.features.BBox(0.1, 0.1, bottom, 0.9)
            yield number, {"image": jpeg(number), "objects": [{"bbox": bbox, "label": 0}]}


class HarmonicTinyClassification(_Builder):
    """No objects."""

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {"image": jpeg(number), "label": 0}


class HarmonicTinyRemote(HarmonicTinyPlain):
    """Its data would have to be downloaded."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("Name or service not known\nand so on")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture(autouse=True)
def data_dir(folder, monkeypatch):
    # The environment variable is read when the library is imported.
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(folder))


@pytest.fixture
def dataset():
    return "tfds:harmonic_tiny_detection"


@pytest.mark.parametrize("split", ("train", "test", "train[2:5]", "train[:50%]", "train+test"))
def test_the_same_as_the_library_reads(dataset, split):
    data = check_pictures(load(dataset, split))
    expected = list(tfds.load("harmonic_tiny_detection", split=split).as_numpy_iterator())
    assert len(data.annotations) == len(expected)
    for found, example in zip(data.annotations, expected):
        height, width = example["image"].shape[:2]
        assert (found.width, found.height, found.orientation) == (width, height, 1)
        np.testing.assert_array_equal(decoding.picture(found), example["image"])
        ymin, xmin, ymax, xmax = example["objects"]["bbox"].T
        np.testing.assert_allclose(
            found.boxes,
            np.stack([xmin * width, ymin * height, xmax * width, ymax * height], axis=-1),
            rtol=1e-6,
        )
        np.testing.assert_array_equal(found.classes, example["objects"]["label"])
        np.testing.assert_array_equal(found.difficult, example["objects"]["is_difficult"])
        np.testing.assert_array_equal(found.crowd, example["objects"]["is_crowd"])
        assert found.classes.dtype == np.int32 and found.crowd.dtype == bool
    ids = [annotation.image_id for annotation in data.annotations]
    assert len(set(ids)) == len(ids)


def test_names(dataset):
    data = load(dataset, "test")
    assert data.name == "tfds:harmonic_tiny_detection/test"
    assert data.class_names == ("cat", "dog")
    turned = load(dataset, "test", class_names=["dog", "cat"])
    for found, expected in zip(turned.annotations, data.annotations):
        np.testing.assert_array_equal(found.classes, 1 - expected.classes)
    with pytest.raises(DataError, match=r"object\[\d\]/label = \d \(dog\): class is not in"):
        load(dataset, "train", class_names=["cat"])


def test_flags_that_are_missing_are_off():
    with pytest.raises(DataError, match=r"bbox = .*: box has no area"):
        load("tfds:harmonic_tiny_plain", "train")
    data = load("tfds:harmonic_tiny_plain", "train", on_bad_example="skip")
    assert [len(a.boxes) for a in data.annotations].count(0) == len(data.skipped) == 1
    assert not any(a.crowd.any() or a.difficult.any() for a in data.annotations)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    (
        ("objects/is_crowd", [2], "objects/is_crowd = 2: is neither 0 nor 1"),
        ("objects/is_difficult", [0, 1], "objects/is_difficult = 2 values: is not as many"),
        ("objects/label", [], "objects/bbox = 4 values: is not as many numbers"),
    ),
)
def test_values_that_do_not_fit(dataset, folder, key, values, message):
    first = next(a for a in load(dataset, "test").annotations if len(a.boxes) == 1)
    file = pathlib.Path(first.image_path)
    content = file.read_bytes()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        example = tf.train.Example.FromString(record)
        if len(example.features.feature["objects/label"].int64_list.value) == 1:
            break
    example.features.feature[key].int64_list.value[:] = values
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(example.SerializeToString())
    try:
        with pytest.raises(DataError, match=message):
            load(dataset, "test")
    finally:
        file.write_bytes(content)


def test_a_flipped_byte_costs_one_picture(dataset, folder):
    whole = load(dataset, "test")
    last = whole.annotations[-1]
    file = pathlib.Path(last.image_path)
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[last.record_offset + 40] ^= 1
    file.write_bytes(damaged)
    try:
        with pytest.raises(DataError, match="its checksum: does not fit its bytes"):
            load(dataset, "test")
        left = load(dataset, "test", on_bad_example="skip")
    finally:
        file.write_bytes(content)
    assert [a.image_id for a in left.annotations] == [a.image_id for a in whole.annotations[:-1]]
    assert [p.part for p in left.skipped] == ["picture"]


@pytest.mark.parametrize("mode", ("error", "skip"))
@pytest.mark.parametrize(
    ("name", "split", "message"),
    (
        ("harmonic_tiny_nowhere", "train", "tfds:harmonic_tiny_nowhere: .*is not known"),
        ("harmonic_tiny_detection", "val", "no such split. Use one of t.*, t"),
        ("harmonic_tiny_detection", "train[:x%]", "no such split"),
        ("harmonic_tiny_classification", "train", "has not the features .* objects/bbox"),
        (
            "harmonic_tiny_remote",
            "train",
            "= ConnectionError: Name or service not known: cannot be prepared. Prepare it where",
        ),
    ),
)
def test_no_data_at_all(name, split, message, mode):
    start = time.monotonic()
    with pytest.raises(DataError, match=message) as caught:
        load(f"tfds:{name}", split, on_bad_example=mode)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 60


def test_files_of_another_format(folder):
    name = "harmonic_tiny_plain:1.0.0"
    other = folder / "other"
    builder = tfds.builder(name, data_dir=other, file_format="array_record")
    builder.download_and_prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.core.constants, "DATA_DIR", str(other))
        with pytest.raises(DataError, match="file format = array_record: files of that format"):
            load(f"tfds:{name}", "train")

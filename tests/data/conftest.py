"""Tiny data sets in the COCO and VOC formats, made on the spot."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.readers.coco import read_coco
from harmonic_tf.data.readers.voc import read_voc

WIDTH, HEIGHT = 40, 30


def write_picture(path, width=WIDTH, height=HEIGHT):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.arange(width, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(columns[None, :, None], (height, width, 3))).save(path)


class CocoFolder:
    """A folder with `annotations.json` and `images/`: 2 pictures, 3 objects, 2 classes."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.file = folder / "annotations.json"
        self.images = folder / "images"
        self.document = {
            "images": [
                {"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT},
                {"id": 3, "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
            ],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20]},
                {"id": 2, "image_id": 7, "category_id": 4, "bbox": [5.5, 6.25, 3, 4]},
                {"id": 3, "image_id": 3, "category_id": 4, "bbox": [0, 0, 40, 30]},
            ],
            "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
        }
        for row in self.document["images"]:
            write_picture(self.images / row["file_name"])

    def read(self, **options):
        self.file.write_text(json.dumps(self.document))
        return read_coco(str(self.file), str(self.images), **options)


class VocFolder:
    """A VOC folder: 2 pictures, 3 objects, 2 classes, one split `trainval`."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.annotations = folder / "Annotations"
        self.images = folder / "JPEGImages"
        self.split = folder / "ImageSets" / "Main" / "trainval.txt"
        self.annotations.mkdir(parents=True)
        self.split.parent.mkdir(parents=True)
        self.split.write_text("p1\np2\n")
        cat, dog = self.element("cat", 2, 3, 11, 22), self.element("dog", 6, 7, 9, 11)
        self.write("p1", cat, dog)
        self.write("p2", self.element("dog", 1, 1, WIDTH, HEIGHT))
        for name in ("p1.jpg", "p2.jpg"):
            write_picture(self.images / name)

    @staticmethod
    def element(name, xmin, ymin, xmax, ymax, more=""):
        corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"

    def write(self, image_id, *elements, filename=None, width=WIDTH, height=HEIGHT):
        filename = f"{image_id}.jpg" if filename is None else filename
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (self.annotations / f"{image_id}.xml").write_text(
            f"<annotation><filename>{filename}</filename>{size}{''.join(elements)}</annotation>"
        )

    def read(self, split="trainval", **options):
        return read_voc(str(self.folder), split, **options)


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path / "coco")


@pytest.fixture
def voc(tmp_path):
    return VocFolder(tmp_path / "voc")


@pytest.fixture(scope="session")
def make_voc():
    return VocFolder


@pytest.fixture(scope="session")
def make_picture():
    return write_picture


class NumberedExamples:
    """Examples whose every value of an object can be told from its class, a serial number."""

    @staticmethod
    def make(height, width, objects, seed, dtype="uint8", crowds=True):
        rng = np.random.default_rng(seed)
        corners = np.sort(rng.uniform(0, [[[width, height]]], (objects, 2, 2)), axis=1)
        serial = np.arange(objects)
        return {
            "image": tf.constant(rng.integers(0, 256, (height, width, 3)), dtype),
            "boxes": tf.constant(corners.reshape(-1, 4), tf.float32),
            "classes": tf.constant(serial, tf.int32),
            "difficult": tf.constant(serial % 2 == 1),
            "crowd": tf.constant((serial % 3 == 2) & crowds),
            "occlusion": tf.constant(serial / 10, tf.float32),
        }

    @staticmethod
    def check(example, crowds=True):
        """All per-object values belong together; boxes lie in the picture and are not empty."""
        serial, boxes = example["classes"].numpy(), example["boxes"].numpy()
        height, width = example["image"].shape[:2]
        assert boxes.shape == (len(serial), 4)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        np.testing.assert_array_equal(example["difficult"], serial % 2 == 1)
        np.testing.assert_array_equal(example["crowd"], (serial % 3 == 2) & crowds)
        np.testing.assert_allclose(example["occlusion"], serial / 10, atol=1e-6)


@pytest.fixture(scope="session")
def numbered():
    return NumberedExamples


@pytest.fixture(scope="session")
def assert_same_in_tf_data():
    """Compares a transform of (example, seed) in tf.data, one call at a time and eight, and alone.

    Gives back the element's spec.
    """

    def check(transform, example, count=5):
        alone = [transform(example, (7, number)) for number in range(count)]
        seeds = tf.data.Dataset.range(count)
        for calls in (1, 8):
            elements = seeds.map(
                lambda number: transform(example, tf.stack([7, number])), num_parallel_calls=calls
            )
            for expected, result in zip(alone, elements):
                for name, value in expected.items():
                    exact = value.dtype in (tf.int32, tf.bool)
                    np.testing.assert_allclose(
                        np.asarray(result[name], np.float64),
                        np.asarray(value, np.float64),
                        atol=0 if exact else 1.0 if value.dtype == tf.uint8 else 1e-3,
                        err_msg=name,
                    )
        return elements.element_spec

    return check

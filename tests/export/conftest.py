"""A detector as small as they come, pictures for it, and what `detect` finds on them."""

import io

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, tf
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.models import (
    DetectionDecoder,
    HarmonicFasterRCNN,
    HarmonicRetinaNet,
    HarmonicYOLOV8Detector,
)
from harmonic_tf.training.inference import detect, prediction_function
from tests.tiny import SIZE, TinyBackbone

NAMES = ("cell", "Zellkern", "größer")
SETTINGS = ServingSettings(SIZE, max_batch=8, max_pixels=40_000)
SIDES = [(50, 70), (64, 64), (130, 37), (200, 199), (1, 9), (33, 150)]  # height, width


def tiny_retinanet(image_size=SIZE, **decoder):
    keras.utils.set_random_seed(3)
    return HarmonicRetinaNet(
        TinyBackbone(image_size=image_size),
        len(NAMES),
        "xyxy",
        anchors=AnchorGrid(sizes=(8, 16, 32, 64, 128)),
        channels=8,
        head_depth=0,
        prediction_decoder=DetectionDecoder(**{"score_threshold": 0.0, **decoder}),
    )


def tiny_faster_rcnn(**decoder):
    keras.utils.set_random_seed(3)
    return HarmonicFasterRCNN(
        TinyBackbone(),
        len(NAMES),
        "xyxy",
        anchors=AnchorGrid(sizes=(8, 16, 32, 64, 128), scales=(1.0,)),
        channels=8,
        proposals=30,
        sampled_rois=8,
        hidden_units=8,
        prediction_decoder=DetectionDecoder(**{"score_threshold": 0.0, **decoder}),
    )


def tiny_yolov8(**decoder):
    keras.utils.set_random_seed(3)
    return HarmonicYOLOV8Detector(
        TinyBackbone(),
        len(NAMES),
        "rel_xyxy",  # a format that is not the answer's
        fpn_depth=1,
        prediction_decoder=DetectionDecoder(**{"score_threshold": 0.0, **decoder}),
    )


def rising_table():
    """Calibrated scores of each class at raw scores 0, 0.01, ..., 1, far from those."""
    knots, classes = np.linspace(0, 1, 101), np.arange(1, 1 + len(NAMES))[:, None]
    return knots ** (classes / 2) * 0.8 + 0.1


def pixels_of(height, width, seed):
    """Rectangles of all colours on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, (height, width))
        image[y : y + height // 3 + 1, x : x + width // 3 + 1] = rng.integers(0, 256, 3)
    return image


def encoded_as(image, kind, mode="RGB"):
    """The bytes of a picture as Pillow, not TensorFlow, writes it."""
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, kind)
    return file.getvalue()


def mixed_pictures():
    """JPEG and PNG, of three channels and grey, palette and transparency, all sizes different."""
    kinds = [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "L"), ("JPEG", "L"), ("PNG", "P")]
    kinds.append(("PNG", "RGBA"))
    return [
        encoded_as(pixels_of(*sides, seed), *kind)
        for seed, (sides, kind) in enumerate(zip(SIDES, kinds))
    ]


class Helpers:
    """What the tests of a folder without an __init__.py share."""

    size, names, settings, sides = SIZE, NAMES, SETTINGS, SIDES
    retinanet = staticmethod(tiny_retinanet)
    yolov8 = staticmethod(tiny_yolov8)
    faster_rcnn = staticmethod(tiny_faster_rcnn)
    rising_table = staticmethod(rising_table)
    pixels_of = staticmethod(pixels_of)
    encoded_as = staticmethod(encoded_as)
    pictures = staticmethod(mixed_pictures)

    @staticmethod
    def detected(model, pictures, folder, predict=None):
        """What `evaluate` finds: rows of score, class and box for each picture.

        Another way to detect may take the place of the model's.
        """
        no = np.zeros(0)
        annotations = []
        for number, content in enumerate(pictures):
            path = folder / f"{number}.picture"
            path.write_bytes(content)
            width, height = Image.open(io.BytesIO(content)).size
            boxes = np.zeros((0, 4), np.float32)
            annotations.append(Annotation(str(path), number, width, height, boxes, no, no, no))
        data = DetectionData("test", list(NAMES), annotations)
        found = detect(predict or prediction_function(model), data, SIZE, 4, progress=False)
        rows = np.column_stack([found.scores, found.classes, found.boxes])
        return [rows[found.image_index == number] for number in range(len(pictures))]

    @staticmethod
    def answered(answer):
        """The same from a signature's answer; checks what surrounds the detections."""
        answer = {name: value.numpy() for name, value in answer.items()}
        names = np.array([*NAMES, ""])
        rows = []
        for number, count in enumerate(answer["num_detections"]):
            boxes, scores, classes = (answer[k][number] for k in ("boxes", "scores", "classes"))
            expected = [name.encode() for name in names[classes]]
            np.testing.assert_array_equal(answer["class_names"][number], expected)
            assert np.all(classes[:count] >= 0)
            assert np.all(classes[count:] == -1)
            assert not np.any(boxes[count:])
            assert not np.any(scores[count:])
            rows.append(np.column_stack([scores, classes, boxes])[:count])
        return rows

    @staticmethod
    def assert_same(found, expected):
        """The same detections in the same order."""
        assert len(found) == len(expected)
        assert sum(map(len, expected)) > 0
        for ours, theirs in zip(found, expected):
            np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.fixture(scope="session")
def serving():
    return Helpers


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tiny RetinaNet and the folder of its first version."""
    model = tiny_retinanet(max_detections=20)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return model, export_model(model, NAMES, str(folder), SETTINGS)


@pytest.fixture(scope="session")
def predict(exported):
    """What `detected` calls of the exported model, traced once."""
    return prediction_function(exported[0])


@pytest.fixture(scope="session")
def signatures(exported):
    """Those of the exported model, loaded again."""
    return tf.saved_model.load(exported[1]).signatures

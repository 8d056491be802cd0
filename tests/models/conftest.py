"""Detectors small enough to train within a test, and pictures to train it on."""

import numpy as np
import pytest

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.models import (
    DetectionDecoder,
    HarmonicFasterRCNN,
    HarmonicRetinaNet,
    HarmonicYOLOV8Detector,
)
from tests.tiny import SIZE, TinyBackbone

CLASSES = 3


def tiny_retinanet(bounding_box_format="xyxy", seed=0, backbone=None, **kwargs):
    keras.utils.set_random_seed(seed)
    arguments = {"anchors": AnchorGrid(sizes=(8, 16, 32, 64, 128)), "channels": 16, "head_depth": 1}
    return HarmonicRetinaNet(
        backbone or TinyBackbone(), CLASSES, bounding_box_format, **{**arguments, **kwargs}
    )


def tiny_yolov8(bounding_box_format="xyxy", seed=0, backbone=None, **kwargs):
    keras.utils.set_random_seed(seed)
    return HarmonicYOLOV8Detector(
        backbone or TinyBackbone(), CLASSES, bounding_box_format, **{"fpn_depth": 1, **kwargs}
    )


def tiny_faster_rcnn(bounding_box_format="xyxy", seed=0, backbone=None, **kwargs):
    keras.utils.set_random_seed(seed)
    arguments = {
        "anchors": AnchorGrid(sizes=(8, 16, 32, 64, 128), scales=(1.0,)),
        "channels": 16,
        "proposals": 20,
        "sampled_rois": 12,
        "hidden_units": 16,
    }
    return HarmonicFasterRCNN(
        backbone or TinyBackbone(), CLASSES, bounding_box_format, **{**arguments, **kwargs}
    )


def small_backbone(kind):
    """One of keras-cv, narrow."""
    return kind(
        stackwise_channels=[8, 16, 32, 32],
        stackwise_depth=[1, 1, 1, 1],
        include_rescaling=True,
        input_shape=(SIZE, SIZE, 3),
    )


def pictures(count=2, seed=0, objects=3):
    """Coloured rectangles on noise, their colour the class."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(90, 160, (count, SIZE, SIZE, 3)).astype(np.float32)
    boxes = np.full((count, objects + 1, 4), -1.0, np.float32)
    classes = np.full((count, objects + 1), -1.0, np.float32)
    for i in range(count):
        for j in range(objects):
            x, y = rng.integers(0, 40, 2)
            w, h = rng.integers(10, 24, 2)
            c = rng.integers(0, CLASSES)
            boxes[i, j], classes[i, j] = (x, y, x + w, y + h), c
            images[i, y : y + h, x : x + w] = 255.0 * (np.arange(3) == c)
    return images, {"boxes": boxes, "classes": classes}


def no_objects(count=2, width=4):
    images, _ = pictures(count, objects=0)
    labels = {
        "boxes": np.full((count, width, 4), -1.0, np.float32),
        "classes": np.full((count, width), -1.0, np.float32),
    }
    return images, labels


@pytest.fixture
def everything_found():
    """A decoder that lets untrained models find something."""
    return DetectionDecoder(score_threshold=0.0, max_detections=10)


@pytest.fixture
def mixed_bfloat16():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


class TinyRetinaNet:
    """Functions that make the model and its data, and where to find what in it."""

    model = staticmethod(tiny_retinanet)
    pictures = staticmethod(pictures)
    no_objects = staticmethod(no_objects)
    size, classes = SIZE, CLASSES
    stock = keras_cv.models.RetinaNet

    @staticmethod
    def model_that_can_learn_by_heart():
        backbone = small_backbone(keras_cv.models.CSPDarkNetBackbone)
        return tiny_retinanet(backbone=backbone, channels=64, head_depth=2)

    @staticmethod
    def penalize(model, penalty):
        """Gives a model a regularization, as a layer of its would: a function without arguments."""
        own = type(model)
        losses = property(lambda self: [penalty()])
        object.__setattr__(model, "__class__", type(own.__name__, (own,), {"losses": losses}))

    @classmethod
    def scores(cls, model, images):
        outputs = model(images, training=False)
        return tf.sigmoid(model.dense_predictions(outputs, cls.size, cls.size)["logits"])

    @staticmethod
    def last_of_class_head(model):
        return model.get_layer("classification_head").prediction

    @staticmethod
    def last_of_box_head(model):
        return model.get_layer("box_head").prediction


class TinyYOLOV8(TinyRetinaNet):
    model = staticmethod(tiny_yolov8)
    stock = keras_cv.models.YOLOV8Detector

    @staticmethod
    def model_that_can_learn_by_heart():
        backbone = small_backbone(keras_cv.models.YOLOV8Backbone)
        return tiny_yolov8(backbone=backbone, fpn_depth=2)

    @staticmethod
    def last_of_class_head(model):
        return model.get_layer("yolo_v8_head_1_class_3_conv")

    @staticmethod
    def last_of_box_head(model):
        return model.get_layer("yolo_v8_head_1_box_3_conv")


class TinyFasterRCNN(TinyRetinaNet):
    model = staticmethod(tiny_faster_rcnn)
    stock = None

    @staticmethod
    def model_that_can_learn_by_heart():
        backbone = small_backbone(keras_cv.models.CSPDarkNetBackbone)
        sizes = {"proposals": 60, "sampled_rois": 32, "hidden_units": 64, "channels": 64}
        return tiny_faster_rcnn(backbone=backbone, **sizes)

    @classmethod
    def scores(cls, model, images):
        return model.class_scores(model(images, training=False)["logits"])

    @staticmethod
    def last_of_class_head(model):
        return model.get_layer("box_head").classes

    @staticmethod
    def last_of_box_head(model):
        return model.get_layer("box_head").offsets


@pytest.fixture
def tiny(request):
    """RetinaNet, or the detector that a test is parametrized with."""
    name = getattr(request, "param", "retinanet")
    return {"retinanet": TinyRetinaNet, "yolov8": TinyYOLOV8, "faster_rcnn": TinyFasterRCNN}[name]

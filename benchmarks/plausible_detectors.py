"""Detectors with random weights whose class scores are spread as those of trained ones are.

How many boxes are above the threshold is what non-maximum suppression takes its time for.
"""

from __future__ import annotations

import numpy as np

from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.models import (
    FPN_DEPTHS,
    DetectionDecoder,
    HarmonicRetinaNet,
    HarmonicYOLOV8Detector,
    JointDetector,
    build_backbone,
)

_SPREAD = 1.5  # standard deviation of class logits
_RETINANET = "retinanet"
_BACKBONE = "resnet50"  # of both RetinaNets


def our_detector(name: str, image_size: int, classes: int) -> JointDetector:
    """Ours, by name: RetinaNet with ResNet-50, or the size of a YOLOv8."""
    if name == _RETINANET:
        return HarmonicRetinaNet(build_backbone(_BACKBONE, image_size), classes, "xyxy")
    backbone = build_backbone(name, image_size)
    return HarmonicYOLOV8Detector(backbone, classes, "xyxy", fpn_depth=FPN_DEPTHS[name])


def stock_detector(name: str, image_size: int, classes: int) -> keras.Model:
    """keras-cv's of that size, with its own suppression at our thresholds."""
    ours = DetectionDecoder()
    decoder = keras_cv.layers.NonMaxSuppression(
        "xyxy",
        from_logits=name == _RETINANET,
        iou_threshold=ours.iou_threshold,
        confidence_threshold=ours.score_threshold,
        max_detections=ours.max_detections,
    )
    if name == _RETINANET:
        backbone = build_backbone(_BACKBONE, image_size)
        return keras_cv.models.RetinaNet(backbone, classes, "xyxy", prediction_decoder=decoder)
    return keras_cv.models.YOLOV8Detector(
        build_backbone(name, image_size),
        classes,
        "xyxy",
        fpn_depth=FPN_DEPTHS[name],
        prediction_decoder=decoder,
    )


def spread_scores(model: keras.Model, images: tf.Tensor, candidates: int) -> None:
    """Scales and shifts the class logits of a detector, ours or keras-cv's.

    Args:
        model: changed in place.
        images: some pictures, float32 [B, S, S, 3].
        candidates: how many pairs of box and class of a picture are to be above the threshold.
    """
    layers = _last_class_layers(model)
    for layer in layers:
        layer.bias.assign(tf.zeros_like(layer.bias))
    logits = _class_logits(model, images).astype(np.float64)
    scale = _SPREAD / logits.std()
    threshold = DetectionDecoder().score_threshold
    least = scale * np.quantile(logits, 1.0 - candidates / logits[0].size)
    for layer in layers:
        layer.kernel.assign(scale * layer.kernel)
        shift = np.log(threshold / (1.0 - threshold)) - least
        layer.bias.assign(tf.fill(layer.bias.shape, np.float32(shift)))


def _last_class_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The convolutions that give class logits: one for all levels, or one for each."""
    if isinstance(model, keras_cv.models.YOLOV8Detector):
        return [model.get_layer(f"yolo_v8_head_{level}_class_3_conv") for level in (1, 2, 3)]
    if isinstance(model, JointDetector):
        return [model.get_layer("classification_head").prediction]
    return [model.classification_head.prediction_layer]


def _class_logits(model: keras.Model, images: tf.Tensor) -> np.ndarray:
    outputs = model(images, training=False)
    values = outputs.get("classification", outputs.get("classes")).numpy()
    if isinstance(model, JointDetector) or "classification" in outputs:
        return values
    values = values.astype(np.float64)  # keras-cv's YOLOv8 gives scores
    return np.log(values / (1.0 - values))

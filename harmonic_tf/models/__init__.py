"""Detectors whose training joins classification and localization."""

from harmonic_tf.models.backbones import BACKBONES, build_backbone
from harmonic_tf.models.decoding import DetectionDecoder
from harmonic_tf.models.retinanet import HarmonicRetinaNet
from harmonic_tf.models.yolov8 import FPN_DEPTHS, HarmonicYOLOV8Detector

__all__ = [
    "BACKBONES",
    "FPN_DEPTHS",
    "DetectionDecoder",
    "HarmonicRetinaNet",
    "HarmonicYOLOV8Detector",
    "build_backbone",
]

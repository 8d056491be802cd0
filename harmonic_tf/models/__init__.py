"""Detectors whose training joins classification and localization."""

from harmonic_tf.models.backbones import BACKBONES, build_backbone
from harmonic_tf.models.decoding import DetectionDecoder
from harmonic_tf.models.retinanet import HarmonicRetinaNet

__all__ = ["BACKBONES", "DetectionDecoder", "HarmonicRetinaNet", "build_backbone"]

"""Detectors whose training joins classification and localization."""

from harmonic_tf.models.backbones import BACKBONES, build_backbone
from harmonic_tf.models.catalog import CATALOG, CatalogEntry
from harmonic_tf.models.decoding import NMS_CHOICES, DetectionDecoder, PortableDecoder
from harmonic_tf.models.faster_rcnn import RPN_ANCHORS, HarmonicFasterRCNN
from harmonic_tf.models.freezing import FREEZE_CHOICES, freeze, unfreeze
from harmonic_tf.models.joint.detector import JointDetector
from harmonic_tf.models.model_file import ModelFileError, load_detector
from harmonic_tf.models.pretrained import IMAGENET, PRETRAINED
from harmonic_tf.models.retinanet import SMOOTH_L1_WEIGHT, HarmonicRetinaNet
from harmonic_tf.models.yolov8 import BOX_GAIN, FPN_DEPTHS, HarmonicYOLOV8Detector

__all__ = [
    "BACKBONES",
    "BOX_GAIN",
    "CATALOG",
    "FPN_DEPTHS",
    "FREEZE_CHOICES",
    "IMAGENET",
    "NMS_CHOICES",
    "PRETRAINED",
    "RPN_ANCHORS",
    "SMOOTH_L1_WEIGHT",
    "CatalogEntry",
    "DetectionDecoder",
    "HarmonicFasterRCNN",
    "HarmonicRetinaNet",
    "HarmonicYOLOV8Detector",
    "JointDetector",
    "ModelFileError",
    "PortableDecoder",
    "build_backbone",
    "freeze",
    "load_detector",
    "unfreeze",
]

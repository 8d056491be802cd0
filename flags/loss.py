"""Flags on the joint loss: the paper's by default.

`--coupling=none --notask_contrasting` with `--iou_loss=none --smooth_l1_weight=1` is the plain
baseline of RetinaNet; with `--smooth_l1_weight=0 --iou_loss=ciou --iou_weight=15`, YOLOv8's.
"""

from __future__ import annotations

import math

from absl import flags

from harmonic_tf.losses import (
    BATCH_LOSSES,
    CLASSIFICATION_LOSSES,
    COUPLINGS,
    IOU_LOSSES,
    RANGES,
    HarmonicLoss,
)
from harmonic_tf.models import BOX_GAIN, CATALOG, SMOOTH_L1_WEIGHT
from harmonic_tf.training.ablation.rows import BASELINE
from harmonic_tf.training.settings import ModelSettings


def _number(
    name: str, default: float | None, text: str, argument: str | None = None
) -> flags.FlagHolder[float | None]:
    """A flag for an argument of `HarmonicLoss`, of the same name where not given."""
    low, high = RANGES[argument or name]
    return flags.DEFINE_float(name, default, text, low, None if math.isinf(high) else high)


_COUPLING = flags.DEFINE_enum(
    "coupling",
    None,
    [*COUPLINGS, "none"],
    "How each branch's loss weighs the other's: by 1 + exp(-loss) (paper), by the same of losses "
    "without unit and weight (unit), or not at all. By default paper for RetinaNet and Faster "
    "R-CNN, unit for YOLOv8.",
)
_STOP_GRADIENT = flags.DEFINE_bool(
    "stop_gradient", False, "Treat those weights as constants in the gradient (an ablation)."
)
_TASK_CONTRASTING = flags.DEFINE_bool(
    "task_contrasting", True, "Punish positives whose score and overlap differ."
)
_TC_MARGIN = _number(
    "tc_margin", 0.2, "Difference of score and overlap that is let pass.", "margin"
)
_IOU_LOSS = flags.DEFINE_enum(
    "iou_loss",
    "hiou",
    [*IOU_LOSSES, "none"],
    "Overlap loss added to smooth L1: Harmonic IoU (hiou), another one, or none.",
)
_IOU_WEIGHT = _number(
    "iou_weight",
    None,
    "Weight of that overlap loss. By default 1.5 for RetinaNet and Faster R-CNN, "
    f"{BOX_GAIN:g} for YOLOv8.",
)
_IOU_GAMMA = _number("iou_gamma", 0.8, "Exponent of the Harmonic IoU loss.")
_CLASSIFICATION_LOSS = flags.DEFINE_enum(
    "classification_loss",
    None,
    list(CLASSIFICATION_LOSSES),
    "Loss of the class scores; by default focal for RetinaNet, cross_entropy for YOLOv8. With qfl "
    "and vfl, the quality focal and the varifocal loss, scores learn the IoU of their box. "
    "softmax_cross_entropy is Faster R-CNN's, its only one.",
)
_FOCAL_ALPHA = _number(
    "focal_alpha",
    0.25,
    "Weight of the true class in the focal loss; there and in vfl, 1 minus it weighs the others.",
)
_FOCAL_GAMMA = _number("focal_gamma", 2.0, "Focusing exponent of focal, qfl and vfl.")
_SMOOTH_L1_WEIGHT = _number(
    "smooth_l1_weight",
    None,
    f"Weight of smooth L1; 0 leaves it out. By default {SMOOTH_L1_WEIGHT} for RetinaNet, 1 for "
    "Faster R-CNN, 0 for YOLOv8; see docs/method.md.",
)
_SMOOTH_L1_BETA = _number(
    "smooth_l1_beta", 1.0, "Where smooth L1 turns from square to straight, in encoded offsets."
)
_BATCH_LOSS = flags.DEFINE_enum(
    "batch_loss",
    "none",
    [*BATCH_LOSSES, "none"],
    "Loss of all positives of the global batch at once: the correlation of scores and IoUs "
    "(pearson, concordance), box losses weighed by the score (carl), class and box losses weighed "
    "by the IoU (iou_balanced), or none.",
)
_CORRELATION_WEIGHT = _number(
    "correlation_weight", 0.2, "Weight of the correlation loss that --batch_loss names."
)
_REGRESSED_LABELS = flags.DEFINE_bool(
    "regressed_labels",
    False,
    "RetinaNet: classify every anchor once more, by the label of its regressed box (consistent "
    "optimization).",
)
_DFL_WEIGHT = _number(
    "dfl_weight",
    0.0,
    "YOLOv8: weight of the distribution focal loss of the distances; 0 leaves it out.",
)


def baseline(model: ModelSettings) -> list[str]:
    """The flags that turn the full loss into a detector's own."""
    return BASELINE.flags(model.name)


def build(model: ModelSettings) -> HarmonicLoss:
    """The loss that the parsed flags describe.

    Args:
        model: the detector it is for.

    Raises:
        ValueError: for a loss that the detector cannot be trained with.
    """
    by_default_the_detectors = {
        "classification": _CLASSIFICATION_LOSS.value,
        "smooth_l1_weight": _SMOOTH_L1_WEIGHT.value,
        "iou_weight": _IOU_WEIGHT.value,
        "coupling": _COUPLING.value,
    }
    return CATALOG[model.name].loss(
        **{
            name: _choice(value)
            for name, value in by_default_the_detectors.items()
            if value is not None
        },
        focal_alpha=_FOCAL_ALPHA.value,
        focal_gamma=_FOCAL_GAMMA.value,
        smooth_l1_beta=_SMOOTH_L1_BETA.value,
        iou_loss=_choice(_IOU_LOSS.value),
        iou_gamma=_IOU_GAMMA.value,
        dfl_weight=_DFL_WEIGHT.value,
        batch_loss=_choice(_BATCH_LOSS.value),
        correlation_weight=_CORRELATION_WEIGHT.value,
        regressed_labels=_REGRESSED_LABELS.value,
        task_contrasting=_TASK_CONTRASTING.value,
        margin=_TC_MARGIN.value,
        stop_gradient=_STOP_GRADIENT.value,
    )


def _choice(value: str | float) -> str | float | None:
    return None if value == "none" else value

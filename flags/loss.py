"""Flags on the joint loss: the paper's by default.

`--noharmonic --notask_contrasting --iou_loss=none` is the plain baseline.
"""

from __future__ import annotations

from absl import flags

from harmonic_tf.losses import CLASSIFICATION_LOSSES, IOU_LOSSES, HarmonicLoss

_HARMONIC = flags.DEFINE_bool(
    "harmonic", True, "Each branch's loss weighs the other's, by 1 + exp(-loss)."
)
_STOP_GRADIENT = flags.DEFINE_bool(
    "stop_gradient", False, "Treat those weights as constants in the gradient (an ablation)."
)
_TASK_CONTRASTING = flags.DEFINE_bool(
    "task_contrasting", True, "Punish positives whose score and overlap differ."
)
_TC_MARGIN = flags.DEFINE_float(
    "tc_margin", 0.2, "Difference of score and overlap that is let pass.", 0.0, 1.0
)
_IOU_LOSS = flags.DEFINE_enum(
    "iou_loss",
    "hiou",
    [*IOU_LOSSES, "none"],
    "Overlap loss added to smooth L1: Harmonic IoU, IoU, GIoU, CIoU or none.",
)
_IOU_WEIGHT = flags.DEFINE_float("iou_weight", 1.5, "Weight of that overlap loss.", 0.0)
_IOU_GAMMA = flags.DEFINE_float("iou_gamma", 0.8, "Exponent of the Harmonic IoU loss.", 0.0, 1.0)
_CLASSIFICATION_LOSS = flags.DEFINE_enum(
    "classification_loss", "focal", CLASSIFICATION_LOSSES, "Loss of the class scores."
)
_FOCAL_ALPHA = flags.DEFINE_float(
    "focal_alpha", 0.25, "Weight of the true class in the focal loss.", 0.0, 1.0
)
_FOCAL_GAMMA = flags.DEFINE_float("focal_gamma", 2.0, "Focusing exponent of the focal loss.", 0.0)
_SMOOTH_L1_BETA = flags.DEFINE_float(
    "smooth_l1_beta", 1.0, "Where smooth L1 turns from square to straight.", 1e-6
)


def build() -> HarmonicLoss:
    """The loss that the parsed flags describe."""
    return HarmonicLoss(
        classification=_CLASSIFICATION_LOSS.value,
        focal_alpha=_FOCAL_ALPHA.value,
        focal_gamma=_FOCAL_GAMMA.value,
        smooth_l1_beta=_SMOOTH_L1_BETA.value,
        iou_loss=None if _IOU_LOSS.value == "none" else _IOU_LOSS.value,
        iou_weight=_IOU_WEIGHT.value,
        iou_gamma=_IOU_GAMMA.value,
        harmonic=_HARMONIC.value,
        task_contrasting=_TASK_CONTRASTING.value,
        margin=_TC_MARGIN.value,
        stop_gradient=_STOP_GRADIENT.value,
    )

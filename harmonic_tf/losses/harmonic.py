"""Keras losses over the formulas of `functional`: the joint loss and its parts.

All return un-normalized per-sample values; what to divide by (the positives of the whole global
batch) is known to the train step alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import functional as F
from harmonic_tf.losses.fused import FocalWeights, classification_terms

# Class targets of samples that are not positive.
BACKGROUND = -1
IGNORED = -2

CLASSIFICATION_LOSSES = ("focal", "cross_entropy")
IOU_LOSSES = ("hiou", "iou", "giou", "ciou")


def _check_choice(name: str, value: str | None, choices, optional: bool = False) -> None:
    if value not in choices and not (optional and value is None):
        allowed = ", ".join(repr(choice) for choice in choices) + (", None" if optional else "")
        raise ValueError(f"HarmonicLoss: {name} = {value!r} is unknown. Choose one of {allowed}.")


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicLoss(keras.losses.Loss):
    """The joint loss of both branches of a detector, each term switchable.

    With all terms on it is HarmonicDet: `(1 + b_r) CE + (1 + b_c) L + L_TC` for positives and CE
    for negatives, `L = smooth L1 + iou_weight * IoU loss`. With `harmonic=False,
    task_contrasting=False, iou_loss=None` it is RetinaNet's focal + smooth L1, the baseline; with
    `classification="cross_entropy", iou_loss="ciou", smooth_l1_weight=0.0` in addition, YOLOv8's.
    Pass it as `loss` to the `compile` of a model of `harmonic_tf.models`.

    Args:
        classification: `"focal"` or `"cross_entropy"`, both on sigmoid scores, summed over classes.
        focal_alpha: weight of the true class in the focal loss, in [0, 1].
        focal_gamma: focusing exponent of the focal loss, >= 0.
        smooth_l1_weight: weight of smooth L1, >= 0; the paper's is 1.
        smooth_l1_beta: where smooth L1 turns from square to straight, in encoded offsets, > 0.
        iou_loss: `"hiou"` (Harmonic IoU), `"iou"`, `"giou"`, `"ciou"` or None.
        iou_weight: weight a of the IoU loss beside smooth L1, >= 0.
        iou_gamma: exponent of the Harmonic IoU loss, in [0, 1].
        dfl_weight: weight of the distribution focal loss as a part of L, >= 0; for detectors that
            predict distances as distributions.
        harmonic: whether the branches weigh each other (the factors b_r and b_c).
        task_contrasting: whether the task-contrasting loss is added.
        margin: difference of score and IoU that the task-contrasting loss lets pass, in [0, 1].
        stop_gradient: whether b_r and b_c count as constants in the gradient (an ablation).
        reduction: Keras reduction of `__call__`; the sum by default.
        name: name of the loss.

    Raises:
        ValueError: for an unknown choice or a number out of its range.

    Source: Wang and Zhang, ICCV 2021, arXiv 2108.10809; defaults are the paper's.
    """

    def __init__(
        self,
        classification: str = "focal",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        smooth_l1_weight: float = 1.0,
        smooth_l1_beta: float = 1.0,
        iou_loss: str | None = "hiou",
        iou_weight: float = 1.5,
        iou_gamma: float = 0.8,
        dfl_weight: float = 0.0,
        harmonic: bool = True,
        task_contrasting: bool = True,
        margin: float = 0.2,
        stop_gradient: bool = False,
        reduction: str = "sum",
        name: str = "harmonic_loss",
    ):
        super().__init__(reduction=reduction, name=name)
        _check_choice("classification", classification, CLASSIFICATION_LOSSES)
        _check_choice("iou_loss", iou_loss, IOU_LOSSES, optional=True)
        F.check_iou_gamma(iou_gamma)
        for key, value, low, high in (
            ("focal_alpha", focal_alpha, 0.0, 1.0),
            ("focal_gamma", focal_gamma, 0.0, float("inf")),
            ("smooth_l1_weight", smooth_l1_weight, 0.0, float("inf")),
            ("iou_weight", iou_weight, 0.0, float("inf")),
            ("dfl_weight", dfl_weight, 0.0, float("inf")),
            ("margin", margin, 0.0, 1.0),
        ):
            if not low <= value <= high:
                raise ValueError(f"HarmonicLoss: {key} = {value} must be in [{low}, {high}].")
        if not smooth_l1_beta > 0:
            raise ValueError(f"HarmonicLoss: smooth_l1_beta = {smooth_l1_beta} must be positive.")
        self.classification = classification
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.smooth_l1_weight = smooth_l1_weight
        self.smooth_l1_beta = smooth_l1_beta
        self.iou_loss = iou_loss
        self.iou_weight = iou_weight
        self.iou_gamma = iou_gamma
        self.dfl_weight = dfl_weight
        self.harmonic = harmonic
        self.task_contrasting = task_contrasting
        self.margin = margin
        self.stop_gradient = stop_gradient

    def call(self, y_true: Mapping[str, tf.Tensor], y_pred: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Total loss per sample.

        Args:
            y_true: as in `terms`.
            y_pred: as in `terms`.

        Returns:
            Float32 [B, A], not normalized: the sum of the three loss terms of `terms`.
        """
        terms = self.terms(y_true, y_pred)
        return terms["classification"] + terms["localization"] + terms["task_contrasting"]

    def terms(
        self, y_true: Mapping[str, tf.Tensor], y_pred: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Every term of the loss and what explains it, per sample.

        Args:
            y_true: `classes` int [B, A] (class of positives, `BACKGROUND`, `IGNORED`), `offsets`
                float32 [B, A, 4] (encoded regression targets) and `boxes` float32 [B, A, 4]
                (assigned ground truth, xyxy, pixels); the last two are read at positives only.
                Where the assigner says how good a score positives deserve, `scores` float32
                [B, A] in [0, 1]: what the true class learns in place of 1, and how much the
                positive weighs in what is not classification.
            y_pred: `logits` float32 [B, A, C], `offsets` float32 [B, A, 4], `boxes` float32
                [B, A, 4] (decoded, xyxy, pixels); for the distribution focal loss also `bins`
                float32 [B, A, 4, N], logits of whole offsets.

        Returns:
            Float32 [B, A] each. `classification` = (1 + b_r) CE for positives, CE for negatives;
            `localization` = (1 + b_c) L and `task_contrasting`, times the positive's weight; and
            for positives, 0 elsewhere, `positives` (1), `weights` (1 or their score) and, times
            that weight, `b_r`, `b_c`, `iou`.
        """
        classes = y_true["classes"]
        positive = tf.cast(classes >= 0, tf.float32)
        counted = tf.cast(tf.not_equal(classes, IGNORED), tf.float32)
        targets = y_true.get("scores")
        weight = positive if targets is None else positive * targets

        overlap = box_ops.iou(y_true["boxes"], y_pred["boxes"])
        classification, entropy, score = classification_terms(
            y_pred["logits"], classes, self._focal_weights, targets
        )
        localization = self._localization(y_true, y_pred, overlap)
        b_r, b_c = F.harmonic_factors(classification, localization, self.stop_gradient)
        coupling = 1.0 if self.harmonic else 0.0

        contrast = tf.zeros_like(localization)
        if self.task_contrasting:
            contrast = F.weighted_contrast(score, overlap, entropy, self.margin)
        return {
            "classification": counted * (1.0 + coupling * positive * b_r) * classification,
            "localization": weight * (1.0 + coupling * b_c) * localization,
            "task_contrasting": weight * contrast,
            "positives": positive,
            "weights": weight,
            "b_r": weight * b_r,
            "b_c": weight * b_c,
            "iou": weight * overlap,
        }

    @property
    def _focal_weights(self) -> FocalWeights:
        if self.classification == "focal":
            return FocalWeights(self.focal_alpha, 1.0 - self.focal_alpha, self.focal_gamma)
        return FocalWeights(1.0, 1.0, 0.0)  # the cross entropy

    def _localization(self, y_true, y_pred, overlap: tf.Tensor) -> tf.Tensor:
        loss = tf.zeros_like(overlap)
        if self.smooth_l1_weight:
            distance = F.smooth_l1(y_true["offsets"], y_pred["offsets"], self.smooth_l1_beta)
            loss += self.smooth_l1_weight * distance
        if self.iou_loss is not None:
            loss += self.iou_weight * self._iou_loss(y_true["boxes"], y_pred["boxes"], overlap)
        if self.dfl_weight:
            if "bins" not in y_pred:
                raise ValueError(
                    f"HarmonicLoss: dfl_weight = {self.dfl_weight} needs a detector that predicts "
                    "distributions of distances, such as HarmonicYOLOV8Detector. Set it to 0."
                )
            distribution = F.distribution_focal_loss(y_true["offsets"], y_pred["bins"])
            loss += self.dfl_weight * distribution
        return loss

    def _iou_loss(self, truth: tf.Tensor, prediction: tf.Tensor, overlap: tf.Tensor) -> tf.Tensor:
        if self.iou_loss == "hiou":
            return F.harmonic_iou_loss(overlap, self.iou_gamma)
        if self.iou_loss == "iou":
            return 1.0 - overlap
        generalized = box_ops.giou if self.iou_loss == "giou" else box_ops.ciou
        return 1.0 - generalized(truth, prediction)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "classification": self.classification,
            "focal_alpha": self.focal_alpha,
            "focal_gamma": self.focal_gamma,
            "smooth_l1_weight": self.smooth_l1_weight,
            "smooth_l1_beta": self.smooth_l1_beta,
            "iou_loss": self.iou_loss,
            "iou_weight": self.iou_weight,
            "iou_gamma": self.iou_gamma,
            "dfl_weight": self.dfl_weight,
            "harmonic": self.harmonic,
            "task_contrasting": self.task_contrasting,
            "margin": self.margin,
            "stop_gradient": self.stop_gradient,
        }


@keras.saving.register_keras_serializable(package="harmonic_tf")
class TaskContrastingLoss(keras.losses.Loss):
    """The task-contrasting loss of positives alone, for a detector with a loss of its own.

    Args:
        margin: difference of score and IoU that costs nothing, in [0, 1].
        reduction: Keras reduction of `__call__`.
        name: name of the loss.

    Source: arXiv 2108.10809, task-contrasting loss.
    """

    def __init__(
        self, margin: float = 0.2, reduction: str = "sum", name: str = "task_contrasting_loss"
    ):
        super().__init__(reduction=reduction, name=name)
        self.margin = margin

    def call(self, y_true: Mapping[str, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        """Loss per sample.

        Args:
            y_true: `classes` int [...] (>= 0 for positives, anything below counts nowhere) and
                `iou` float [...], the overlap of predicted and true box, in [0, 1].
            y_pred: float [..., C], logits of sigmoid scores.

        Returns:
            Float [...], 0 for samples that are not positive.
        """
        logits = tf.cast(y_pred, tf.float32)
        scores = tf.sigmoid(logits)
        labels = tf.one_hot(y_true["classes"], logits.shape[-1], dtype=logits.dtype)
        score = tf.reduce_sum(labels * scores, axis=-1)
        overlap = tf.cast(y_true["iou"], logits.dtype)
        positive = tf.cast(y_true["classes"] >= 0, logits.dtype)
        return positive * F.task_contrasting_loss(score, overlap, scores, self.margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicIoULoss(keras.losses.Loss):
    """The Harmonic IoU loss of boxes: a `box_loss` for keras-cv detectors that predict boxes.

    For `keras_cv.models.YOLOV8Detector.compile(box_loss=HarmonicIoULoss(reduction="sum"), ...)`
    and the like. keras-cv's own RetinaNet hands encoded offsets to its `box_loss`, which have no
    overlap: use `harmonic_tf.models.HarmonicRetinaNet` with `HarmonicLoss` there.

    Args:
        gamma: exponent g in [0, 1].
        bounding_box_format: format of the boxes, as in keras-cv; absolute ones only.
        reduction: Keras reduction of `__call__`.
        name: name of the loss.

    Raises:
        ValueError: when gamma is outside [0, 1] or the format is a relative one.

    Source: arXiv 2108.10809, Harmonic IoU loss.
    """

    def __init__(
        self,
        gamma: float = 0.8,
        bounding_box_format: str = "xyxy",
        reduction: str = "sum",
        name: str = "harmonic_iou_loss",
    ):
        super().__init__(reduction=reduction, name=name)
        if bounding_box_format.lower().startswith("rel_"):
            raise ValueError(
                f"HarmonicIoULoss: bounding_box_format = {bounding_box_format!r} is relative to a "
                "picture that a loss does not see. Choose an absolute one, such as 'xyxy'."
            )
        self.gamma = F.check_iou_gamma(gamma)
        self.bounding_box_format = bounding_box_format

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss per box.

        Args:
            y_true: float [..., 4], true boxes in `bounding_box_format`.
            y_pred: float [..., 4], predicted boxes, pair by pair.

        Returns:
            Float32 [...] in [0, 1].
        """
        truth, prediction = (
            box_ops.convert(tf.cast(b, tf.float32), self.bounding_box_format, "xyxy", 0, 0)
            for b in (y_true, y_pred)
        )
        return F.harmonic_iou_loss(box_ops.iou(truth, prediction), self.gamma)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "bounding_box_format": self.bounding_box_format,
        }

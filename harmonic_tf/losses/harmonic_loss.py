"""The joint loss of both branches of a detector, as a Keras loss.

It returns un-normalized per-sample values; what to divide by (the positives of the whole global
batch) is known to the train step alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import functional as F
from harmonic_tf.losses.classification import CLASSIFICATION_LOSSES
from harmonic_tf.losses.fused import FocalWeights, classification_terms
from harmonic_tf.losses.over_batch import BATCH_LOSSES, Samples, shares
from harmonic_tf.losses.overlap import IOU_LOSSES

# Class targets of samples that are not positive.
BACKGROUND = -1
IGNORED = -2

COUPLINGS = ("paper", "unit")

INFINITE = float("inf")
# What the constructor takes, by argument: the least and the greatest number.
RANGES = {
    "focal_alpha": (0.0, 1.0),
    "focal_gamma": (0.0, INFINITE),
    "smooth_l1_weight": (0.0, INFINITE),
    "smooth_l1_beta": (1e-6, INFINITE),
    "iou_weight": (0.0, INFINITE),
    "iou_gamma": (0.0, 1.0),
    "dfl_weight": (0.0, INFINITE),
    "margin": (0.0, 1.0),
    "correlation_weight": (0.0, INFINITE),
}
CHOICES = {
    "classification": tuple(CLASSIFICATION_LOSSES),
    "iou_loss": (*IOU_LOSSES, None),
    "coupling": (*COUPLINGS, None),
    "batch_loss": (*BATCH_LOSSES, None),
}
SWITCHES = ("task_contrasting", "regressed_labels", "stop_gradient")

# What `terms` reads, and the argument that makes it; None: always.
READS = (
    ("y_true", "classes", None),
    ("y_true", "boxes", None),
    ("y_true", "offsets", "smooth_l1_weight"),
    ("y_true", "offsets", "dfl_weight"),
    ("y_true", "regressed_classes", "regressed_labels"),
    ("y_pred", "logits", None),
    ("y_pred", "boxes", None),
    ("y_pred", "offsets", "smooth_l1_weight"),
    ("y_pred", "bins", "dfl_weight"),
)


@keras.saving.register_keras_serializable(package="harmonic_tf")
class HarmonicLoss(keras.losses.Loss):
    """The joint loss of both branches of a detector, each term switchable.

    With all terms on it is HarmonicDet: `(1 + b_r) CE + (1 + b_c) L + L_TC` for positives and CE
    for negatives, `L = smooth L1 + iou_weight * IoU loss`. With `coupling=None,
    task_contrasting=False, iou_loss=None` it is RetinaNet's focal + smooth L1, the baseline; with
    `classification="cross_entropy", iou_loss="ciou", smooth_l1_weight=0.0` in addition, YOLOv8's.
    Pass it as `loss` to the `compile` of a model of `harmonic_tf.models`.

    Args:
        classification: `"focal"`, `"cross_entropy"`, `"qfl"` (quality focal loss) or `"vfl"`
            (varifocal loss), all on sigmoid scores, summed over classes; with the last two the true
            class of a positive learns the IoU of its predicted box, through which no gradient
            flows. Or `"softmax_cross_entropy"`, on softmax scores with the background last.
        focal_alpha: weight of the true class in the focal loss, in [0, 1]; it and the varifocal
            loss weigh the other classes by 1 - focal_alpha.
        focal_gamma: focusing exponent of focal, quality focal and varifocal loss, >= 0; of the
            quality focal loss not between 0 and 1.
        smooth_l1_weight: weight of smooth L1, >= 0; the paper's is 1.
        smooth_l1_beta: where smooth L1 turns from square to straight, in encoded offsets, > 0.
        iou_loss: `"hiou"` (Harmonic IoU), `"iou"`, `"giou"`, `"ciou"` or None.
        iou_weight: weight a of the IoU loss beside smooth L1, >= 0.
        iou_gamma: exponent of the Harmonic IoU loss, in [0, 1].
        dfl_weight: weight of the distribution focal loss as a part of L, >= 0; for detectors that
            predict distances as distributions.
        coupling: how the branches weigh each other: `"paper"` by the paper's formula, `"unit"` on
            one scale, by b_r = exp(-l) and b_c = exp(-c) with the Harmonic IoU loss l and the
            classification loss c above the least that its target allows, see
            `functional.unit_terms`; None not at all.
        task_contrasting: whether the task-contrasting loss is added.
        margin: difference of score and IoU that the task-contrasting loss lets pass, in [0, 1].
        batch_loss: a loss of all positives of the global batch at once: `"pearson"` or
            `"concordance"` add a term, 1 - the correlation of scores and IoUs; `"carl"` weighs box
            losses by the score, `"iou_balanced"` class and box losses by the IoU. None for none.
        correlation_weight: weight of that term, >= 0; the authors' are 0.1 to 0.3.
        regressed_labels: whether every sample is classified once more, by the label of its
            predicted box: a term of its own, which nothing is coupled with. For losses that learn
            labels, not the IoU.
        stop_gradient: whether b_r and b_c count as constants in the gradient (an ablation).
        reduction: Keras reduction of `__call__`; the sum by default.
        name: name of the loss.

    Raises:
        ValueError: for an unknown choice or a number out of its range.

    Attributes:
        statistic_names: what `terms` returns beside `term_names`, to explain the loss.

    Source: Wang and Zhang, ICCV 2021, arXiv 2108.10809; defaults are the paper's.
    """

    statistic_names = ("positives", "weights", "b_r", "b_c", "iou")

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
        coupling: str | None = "paper",
        task_contrasting: bool = True,
        margin: float = 0.2,
        batch_loss: str | None = None,
        correlation_weight: float = 0.2,
        regressed_labels: bool = False,
        stop_gradient: bool = False,
        reduction: str = "sum",
        name: str = "harmonic_loss",
    ):
        super().__init__(reduction=reduction, name=name)
        self.classification = classification
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.smooth_l1_weight = smooth_l1_weight
        self.smooth_l1_beta = smooth_l1_beta
        self.iou_loss = iou_loss
        self.iou_weight = iou_weight
        self.iou_gamma = iou_gamma
        self.dfl_weight = dfl_weight
        self.coupling = coupling
        self.task_contrasting = task_contrasting
        self.margin = margin
        self.batch_loss = batch_loss
        self.correlation_weight = correlation_weight
        self.regressed_labels = regressed_labels
        self.stop_gradient = stop_gradient
        self._check()

    def _check(self) -> None:
        for argument, choices in CHOICES.items():
            value = getattr(self, argument)
            if value not in choices:
                raise ValueError(
                    f"HarmonicLoss: {argument} = {value!r} is unknown. Choose one of "
                    f"{', '.join(map(repr, choices))}."
                )
        for argument, (low, high) in RANGES.items():
            value = getattr(self, argument)
            if not low <= value <= high:
                raise ValueError(f"HarmonicLoss: {argument} = {value} must be in [{low}, {high}].")
        if self.classification == "qfl" and 0.0 < self.focal_gamma < 1.0:
            raise ValueError(
                f"HarmonicLoss: focal_gamma = {self.focal_gamma} gives the quality focal loss an "
                "infinite gradient where a score is its target. Choose 0, or at least 1."
            )
        if self.regressed_labels and CLASSIFICATION_LOSSES[self.classification].of_overlap:
            raise ValueError(
                f"HarmonicLoss: classification = {self.classification!r} learns the IoU of the "
                "regressed box already. Leave regressed_labels out, or choose 'focal' or "
                "'cross_entropy'."
            )

    @property
    def term_names(self) -> tuple[str, ...]:
        """The terms that add up to the loss."""
        of_regressed = ("regressed_classification",) if self.regressed_labels else ()
        added = BATCH_LOSSES[self.batch_loss].adds if self.batch_loss else ()
        return ("classification", "localization", "task_contrasting", *of_regressed, *added)

    def call(self, y_true: Mapping[str, tf.Tensor], y_pred: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Total loss per sample.

        Args:
            y_true: as in `terms`.
            y_pred: as in `terms`.

        Returns:
            Float32 [B, A], not normalized: the sum of the loss terms of `terms`.
        """
        terms = self.terms(y_true, y_pred)
        return tf.add_n([terms[name] for name in self.term_names])

    def batch_sums(
        self, y_true: Mapping[str, tf.Tensor], y_pred: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """What `batch_loss` has to know of all positives; added up over all parts of a batch.

        Args:
            y_true: as in `terms`.
            y_pred: as in `terms`.

        Returns:
            Float32 scalars, without gradient; none without `batch_loss`.
        """
        _, summands = self._of_samples(y_true, y_pred)
        return _sums(summands)

    def terms(
        self,
        y_true: Mapping[str, tf.Tensor],
        y_pred: Mapping[str, tf.Tensor],
        batch_sums: Mapping[str, tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """Every term of the loss and what explains it, per sample.

        Args:
            y_true: `classes` int [B, A] (class of positives, `BACKGROUND`, `IGNORED`) and `boxes`
                float32 [B, A, 4] (assigned ground truth, xyxy, pixels); for smooth L1 and the
                distribution focal loss `offsets` float32 [B, A, 4] (encoded regression targets);
                boxes and offsets are read at positives only. For `regressed_labels`
                `regressed_classes` int [B, A]: as `classes`, what the predicted boxes are by
                their own overlap with objects. Where the assigner says how good a score positives
                deserve, `scores` float32 [B, A] in [0, 1]: what the true class learns in place of
                1 where it does not learn the IoU, and how much the positive weighs in what is not
                classification.
            y_pred: `logits` float32 [B, A, C], for softmax scores [B, A, C + 1], and `boxes`
                float32 [B, A, 4] (decoded, xyxy, pixels); for smooth L1 `offsets` float32
                [B, A, 4]; for the distribution focal loss `bins` float32 [B, A, 4, N], logits of
                whole offsets.
            batch_sums: where these samples are a part of a batch, the `batch_sums` of all its parts
                added up; None where they are all. Only `batch_loss` looks at them.

        Returns:
            Float32 [B, A] each. `classification` = (1 + b_r) CE for positives, CE for negatives;
            `localization` = (1 + b_c) L and `task_contrasting`, times the positive's weight; with
            `regressed_labels` also `regressed_classification`, CE by the labels of the
            predicted boxes; and for positives, 0 elsewhere, `positives` (1), `weights` (1 or their
            score) and, times that weight, `b_r`, `b_c`, `iou`. With the coupling `"unit"`, CE of
            positives is what exceeds the least that their target allows. What `batch_loss` changes,
            and the term `correlation` that some add, are shares of the whole: of those of the
            positives, the sum over the batch counts alone; one may be negative.

        Raises:
            ValueError: something that the loss reads is not there.
        """
        terms, summands = self._of_samples(y_true, y_pred)
        if self.batch_loss:
            sums = _sums(summands) if batch_sums is None else batch_sums
            changed = shares(BATCH_LOSSES[self.batch_loss], summands, sums)
            if "correlation" in changed:
                changed["correlation"] *= self.correlation_weight
            for name, value in changed.items():
                before = terms.get(name, tf.zeros_like(value))
                terms[name] = tf.where(y_true["classes"] >= 0, value, before)
        return terms

    def _of_samples(self, y_true, y_pred) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The terms as far as each sample knows them alone, and what is to be summed of it."""
        self._check_given(y_true, y_pred)
        y_pred = {name: tf.cast(value, tf.float32) for name, value in y_pred.items()}
        classes = y_true["classes"]
        positive = tf.cast(classes >= 0, tf.float32)
        targets = y_true.get("scores")
        weight = positive if targets is None else positive * targets

        overlap = box_ops.iou(y_true["boxes"], y_pred["boxes"])
        classification, excess, entropy, score = self._classification(
            y_pred["logits"], classes, targets, overlap
        )
        localization = self._localization(y_true, y_pred, overlap)
        coupled, localization, b_r, b_c = self._couple(
            classification, excess, localization, overlap
        )
        classification = tf.where(classes >= 0, coupled, classification)
        contrast = tf.zeros_like(localization)
        if self.task_contrasting:
            contrast = F.weighted_contrast(score, overlap, entropy, self.margin)
        summands = {}
        if self.batch_loss:
            summands = BATCH_LOSSES[self.batch_loss].summands(
                Samples(positive, weight, score, overlap, classification, localization)
            )
        terms = {
            "classification": _counted(classes) * classification,
            "localization": weight * localization,
            "task_contrasting": weight * contrast,
            "positives": positive,
            "weights": weight,
            "b_r": weight * b_r,
            "b_c": weight * b_c,
            "iou": weight * overlap,
        }
        if self.regressed_labels:
            labels = y_true["regressed_classes"]
            value, *_ = self._scored(y_pred["logits"], labels)
            terms["regressed_classification"] = _counted(labels) * value
        return terms, summands

    def true_scores(self, logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """The score of each sample's true class, as the loss reads it.

        Args:
            logits: as in `terms`, `y_pred`.
            classes: as in `terms`, `y_true`.

        Returns:
            Float32 [B, A] in [0, 1], 0 for samples that are not positive.
        """
        _, _, score, _ = self._scored(tf.cast(logits, tf.float32), classes)
        return score

    def _check_given(self, y_true, y_pred) -> None:
        given = {"y_true": y_true, "y_pred": y_pred}
        for side, name, argument in READS:
            needed = argument is None or getattr(self, argument)
            if needed and name not in given[side]:
                reader = f", which {argument} = {needed} reads" if argument else ""
                raise ValueError(
                    f"HarmonicLoss: {side} has {sorted(given[side])}, but no {name!r}{reader}. "
                    "See HarmonicLoss.terms."
                )

    def _class_weights(self) -> FocalWeights:
        loss = CLASSIFICATION_LOSSES[self.classification]
        return loss.weights(self.focal_alpha, self.focal_gamma)

    def _scored(self, logits, classes, targets=None) -> tuple[tf.Tensor, ...]:
        """CE, entropy, true score and true logit of every sample."""
        if CLASSIFICATION_LOSSES[self.classification].softmax:
            return F.softmax_terms(logits, classes)
        return classification_terms(logits, classes, self._class_weights(), targets)

    def _classification(self, logits, classes, targets, overlap) -> tuple[tf.Tensor, ...]:
        """CE of every sample, by how much it exceeds the least, its entropy and true score."""
        loss = CLASSIFICATION_LOSSES[self.classification]
        if loss.of_overlap:
            value, entropy, score, logit = self._scored(logits, classes)
            targets = tf.stop_gradient(overlap)
            of_true = loss.of_overlap(targets, logit, self._class_weights())
            value += tf.where(classes >= 0, of_true, 0.0)
        else:
            value, entropy, score, _ = self._scored(logits, classes, targets)
        if targets is None or loss.least is None:
            return value, value, entropy, score
        return value, value - loss.least(targets), entropy, score

    def _couple(self, classification, excess, localization, overlap) -> tuple[tf.Tensor, ...]:
        """Both terms of positives, and the factors b_r and b_c."""
        if self.coupling == "unit":
            misplacement = F.harmonic_iou_loss(overlap, self.iou_gamma)
            terms = F.unit_terms(excess, localization, misplacement, self.stop_gradient)
            return (*terms, *F.harmonic_factors(excess, misplacement))
        factors = F.harmonic_factors(classification, localization)
        if self.coupling is None:
            return (classification, localization, *factors)
        return (*F.harmonic_terms(classification, localization, self.stop_gradient), *factors)

    def _localization(self, y_true, y_pred, overlap: tf.Tensor) -> tf.Tensor:
        """L of every sample, read at positives only."""
        distance = by_overlap = tf.zeros_like(overlap)
        if self.smooth_l1_weight:
            distance = F.smooth_l1(y_true["offsets"], y_pred["offsets"], self.smooth_l1_beta)
        if self.iou_loss is not None:
            iou_loss = IOU_LOSSES[self.iou_loss]
            by_overlap = iou_loss(y_true["boxes"], y_pred["boxes"], overlap, self.iou_gamma)
        loss = F.localization_loss(distance, by_overlap, self.smooth_l1_weight, self.iou_weight)
        if self.dfl_weight:
            loss += self.dfl_weight * F.distribution_focal_loss(y_true["offsets"], y_pred["bins"])
        return loss

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {name: getattr(self, name) for name in (*CHOICES, *RANGES, *SWITCHES)}
        return {**super().get_config(), **own}


def _counted(classes: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.not_equal(classes, IGNORED), tf.float32)


def _sums(summands: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: tf.stop_gradient(tf.reduce_sum(value)) for name, value in summands.items()}

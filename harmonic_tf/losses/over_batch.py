"""Losses that look at all positives of a batch at once, by the name that `HarmonicLoss` knows.

Each is a function of sums over the positives, so it is exact however a batch is spread: the sums of
the parts are added up first, then every part works out its share. A share is linear in what is
summed, with the derivatives of the loss by the sums as coefficients. So its gradient is that of
the loss over the whole batch; and because a loss of twice as many samples is twice as large, the
shares add up to the loss itself, by Euler's theorem on homogeneous functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, NamedTuple

from harmonic_tf.backend import tf

# A variance that is a smaller part of the mean square is rounding, not a variance.
LEAST_VARIANCE = 1e-6

Tensors = Mapping[str, tf.Tensor]


class Samples(NamedTuple):
    """What there is to sum, float [...] each.

    Args:
        positive: 1 for positives, 0 for the others, whose other values count nowhere.
        weight: what a positive weighs in what is not classification, 0 for the others.
        score: of the true class, in [0, 1].
        iou: overlap of predicted and true box, in [0, 1].
        classification: classification loss, >= 0.
        localization: localization loss, >= 0.
    """

    positive: tf.Tensor
    weight: tf.Tensor
    score: tf.Tensor
    iou: tf.Tensor
    classification: tf.Tensor
    localization: tf.Tensor


class BatchLoss(NamedTuple):
    """One such loss.

    Args:
        summands: from samples to what is summed of each, float [...] each, 0 for samples that are
            not positive.
        total: from the sums over all samples to terms of `HarmonicLoss` over all positives, which
            take the place of those of the same name. Homogeneous of degree 1, where what it
            takes for constant (`tf.stop_gradient`) counts as degree 0.
        adds: names of its terms that no other loss has.
    """

    summands: Callable[[Samples], Tensors]
    total: Callable[[Tensors], Tensors]
    adds: tuple[str, ...] = ()


def shares(loss: BatchLoss, summands: Tensors, sums: Tensors) -> dict[str, tf.Tensor]:
    """What each sample adds to each term of a loss.

    Args:
        loss: which.
        summands: what it sums, float [...] each, of these samples.
        sums: the sums over all samples, scalars; they count as constants.

    Returns:
        Term to float [...]. The sum over all samples is the term's value, the sum of its
        gradients the term's gradient.
    """
    sums = {name: tf.stop_gradient(value) for name, value in sums.items()}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sums)
        totals = loss.total(sums)
    terms = {}
    for term, value in totals.items():
        slopes = tape.gradient(value, sums, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        terms[term] = tf.add_n([slopes[name] * summands[name] for name in summands])
    return terms


def _moments(x: Samples) -> Tensors:
    iou = tf.stop_gradient(x.iou)
    products = {
        "count": tf.ones_like(iou),
        "score": x.score,
        "iou": iou,
        "score^2": x.score * x.score,
        "iou^2": iou * iou,
        "score iou": x.score * iou,
    }
    return {"weight": x.weight, **{name: x.positive * value for name, value in products.items()}}


def _pearson(covariance, of_scores, of_ious, squared_bias) -> tf.Tensor:
    product = of_scores * of_ious
    return tf.where(product > 0.0, covariance / tf.sqrt(tf.where(product > 0.0, product, 1.0)), 0.0)


def _concordance(covariance, of_scores, of_ious, squared_bias) -> tf.Tensor:
    return tf.math.divide_no_nan(2.0 * covariance, of_scores + of_ious + squared_bias)


def _correlation_loss(coefficient: Callable[..., tf.Tensor]) -> BatchLoss:
    """`weight of the positives x (1 - rho)` of scores and IoUs, 0 for fewer than two positives.

    Source: Kahraman et al., "Correlation Loss", arXiv 2301.01019, whose authors correlate within
    each level of the pyramid; here it is all positives of the batch.
    """

    def total(sums: Tensors) -> Tensors:
        names = ("score", "iou", "score^2", "iou^2", "score iou")
        score, iou, score2, iou2, both = (
            tf.math.divide_no_nan(sums[name], sums["count"]) for name in names
        )
        variances = (
            tf.where(mean2 - mean * mean > LEAST_VARIANCE * mean2, mean2 - mean * mean, 0.0)
            for mean, mean2 in ((score, score2), (iou, iou2))
        )
        rho = coefficient(both - score * iou, *variances, tf.square(score - iou))
        loss = sums["weight"] * (1.0 - rho)
        return {"correlation": tf.where(sums["count"] >= 2.0, loss, tf.zeros_like(loss))}

    return BatchLoss(_moments, total, adds=("correlation",))


def _classification_aware(least: float = 0.2) -> BatchLoss:
    """Box losses weighed by `v = b + (1 - b) score`, whose mean counts as 1.

    Gradient flows into the scores: those of well placed boxes rise.

    Source: Cao et al., "Prime Sample Attention" (CARL), arXiv 1904.04821, with its power k = 1.
    """

    def summands(x: Samples) -> Tensors:
        v = x.weight * (least + (1.0 - least) * x.score)
        return {"weight": x.weight, "v": v, "v loss": v * x.localization}

    def total(sums: Tensors) -> Tensors:
        mean = tf.math.divide_no_nan(sums["v loss"], sums["v"])
        return {"localization": sums["weight"] * mean}

    return BatchLoss(summands, total)


def _iou_balanced(of_scores: float = 1.5, of_boxes: float = 1.5) -> BatchLoss:
    """Class losses of positives weighed by `iou^h`, box losses by `iou^d`.

    The former keep their sum. No gradient flows through the weights.

    Source: Wu et al., "IoU-balanced Loss Functions", arXiv 1908.05641.
    """

    def summands(x: Samples) -> Tensors:
        iou = tf.stop_gradient(x.iou)
        loss = x.positive * x.classification
        return {
            "loss": loss,
            "iou loss": tf.pow(iou, of_scores) * loss,
            "boxes": x.weight * tf.pow(iou, of_boxes) * x.localization,
        }

    def total(sums: Tensors) -> Tensors:
        factor = tf.stop_gradient(tf.math.divide_no_nan(sums["loss"], sums["iou loss"]))
        return {"classification": factor * sums["iou loss"], "localization": sums["boxes"]}

    return BatchLoss(summands, total)


BATCH_LOSSES: dict[str, BatchLoss] = {
    "pearson": _correlation_loss(_pearson),
    "concordance": _correlation_loss(_concordance),
    "carl": _classification_aware(),
    "iou_balanced": _iou_balanced(),
}

"""All that the joint loss reads from the class logits: one pass forward, one pass backward.

The logits are by far the largest tensor of a detector's loss. Automatic differentiation of the
plain formulas in `functional` walks over them many times and keeps what it met for the way back.
Here one exponential per logit gives focal loss, entropy and score, and, taken once more, their
derivatives in closed form; nothing of the logits' size is kept in between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harmonic_tf.backend import tf

# Classes that are added side by side before XLA sums what is left one number after the other, as
# it does along the last dimension on a CPU: 16 float32 fill the widest register, AVX-512's.
LANES = 16

# log(1 + u) / u on [0, 1] as a polynomial, lowest power first. Interpolated at Chebyshev's points;
# degree 9 leaves a relative error of 5e-9, a tenth of the rounding of float32.
LOG1P_COEFFICIENTS = tuple(
    np.polynomial.Chebyshev.interpolate(lambda u: np.log1p(u) / u, deg=9, domain=[0.0, 1.0])
    .convert(kind=np.polynomial.Polynomial)
    .coef.tolist()
)


class FocalWeights(NamedTuple):
    """The constants of a focal loss; `FocalWeights(1.0, 1.0, 0.0)` makes it the cross entropy.

    Args:
        true: weight of the true class.
        other: weight of every other class.
        gamma: focusing exponent, >= 0.
    """

    true: float
    other: float
    gamma: float


class _Elements(NamedTuple):
    """What one class of one sample has to say; all float32 [..., C], all from one exponential."""

    score: tf.Tensor  # sigmoid of the logit
    surprisal: tf.Tensor  # -ln score
    variance: tf.Tensor  # score (1 - score), the derivative of the score by the logit
    right: tf.Tensor  # probability of the right answer, p_t in arXiv 1708.02002
    wrong: tf.Tensor  # 1 - p_t
    cross_entropy: tf.Tensor  # -ln p_t


def log1p_of_unit(u: tf.Tensor) -> tf.Tensor:
    """`log(1 + u)` for u in [0, 1] to the precision of float32, down to the smallest u.

    A third of the cost of `tf.math.log1p`, which must be ready for any u.

    Args:
        u: float [...] in [0, 1].

    Returns:
        Float [...] in [0, ln 2].
    """
    ratio = LOG1P_COEFFICIENTS[-1]
    for coefficient in LOG1P_COEFFICIENTS[-2::-1]:
        ratio = ratio * u + coefficient
    return ratio * u


def _elements(logits: tf.Tensor, is_true: tf.Tensor) -> _Elements:
    """The elements of logits, exact and finite however far from 0; `is_true` bool [..., C]."""
    magnitude = tf.abs(logits)
    u = tf.exp(-magnitude)
    larger = 1.0 / (1.0 + u)
    smaller = u * larger
    # softplus(x) = max(x, 0) + log(1 + exp(-|x|)). The maximum is written (|x| + x) / 2, which
    # hands on what is not a number; XLA's exponential and maximum do not.
    log_term = log1p_of_unit(u)
    wrongness = tf.where(is_true, -logits, logits)
    predicted = logits >= 0.0
    correct = tf.equal(predicted, is_true)
    return _Elements(
        score=tf.where(predicted, larger, smaller),
        surprisal=0.5 * (magnitude - logits) + log_term,
        variance=larger * smaller,
        right=tf.where(correct, larger, smaller),
        wrong=tf.where(correct, smaller, larger),
        cross_entropy=0.5 * (magnitude + wrongness) + log_term,
    )


def _values(logits: tf.Tensor, is_true: tf.Tensor, weights: FocalWeights) -> tf.Tensor:
    """Focal loss and entropy of every class, complex64 [..., C].

    One complex number because XLA on a CPU would sum two real ones in two passes.
    """
    x = _elements(logits, is_true)
    weight = tf.where(is_true, weights.true, weights.other)
    focal = weight * tf.pow(x.wrong, weights.gamma) * x.cross_entropy
    return tf.complex(focal, x.score * x.surprisal)


def _derivatives(
    logits: tf.Tensor, is_true: tf.Tensor, weights: FocalWeights
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Derivatives of focal loss, entropy and score of every class by its logit, [..., C] each."""
    x = _elements(logits, is_true)
    weight = tf.where(is_true, -weights.true, weights.other)
    slope = weights.gamma * x.right * x.cross_entropy + x.wrong
    focal = weight * tf.pow(x.wrong, weights.gamma) * slope
    return focal, (x.surprisal - 1.0) * x.variance, x.variance


def _sums_over_classes(logits: tf.Tensor, classes: tf.Tensor, weights: FocalWeights) -> tf.Tensor:
    """Sums of `_values` over the classes, complex64 [...]."""
    count = logits.shape[-1]
    slices = [
        _values(
            logits[..., start : start + LANES],
            tf.range(start, min(start + LANES, count)) == classes[..., None],
            weights,
        )
        for start in range(0, count, LANES)
    ]
    full, rest = slices[: count // LANES], slices[count // LANES :]
    return tf.add_n([tf.reduce_sum(tf.add_n(part), axis=-1) for part in (full, rest) if part])


def classification_terms(
    logits: tf.Tensor, classes: tf.Tensor, weights: FocalWeights, targets: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Focal loss, entropy, true score and true logit of samples with at most one true class.

    The values of `functional.sigmoid_focal_loss`, `functional.entropy` and of the sigmoid at the
    true class, with a hand-written first derivative. Second derivatives do not exist.

    Args:
        logits: float32 [..., C].
        classes: int [...], the true class; any negative number where none is true.
        weights: constants of the focal loss.
        targets: float32 [...], score that the true class has to learn, in [0, 1]; None for 1. It
            counts as a constant, and only the cross entropy has one.

    Returns:
        Focal loss summed over classes, nats, >= 0; entropy of the scores, nats, >= 0; score of
        the true class in [0, 1], 0 where none is true; its logit, any number without a gradient
        where none is true. Float32 [...] each.

    Source: Lin et al., arXiv 1708.02002, equation 5 and appendix B.
    """
    classes = tf.cast(classes, tf.int32)

    @tf.custom_gradient
    def terms(logits):
        sums = _sums_over_classes(logits, classes, weights)
        true_logit = tf.gather(
            logits, tf.maximum(classes, 0), axis=-1, batch_dims=classes.shape.rank
        )
        score = tf.where(classes >= 0, tf.sigmoid(true_logit), 0.0)
        # With a target y, the cross entropy softplus(x) - y x is (softplus(x) - x) + (1 - y) x.
        short = None if targets is None else tf.where(classes >= 0, 1.0 - targets, 0.0)
        loss = tf.math.real(sums)
        if short is not None:
            loss += short * true_logit

        def gradient(*upstream):
            by_focal, by_entropy, by_score, by_logit = (g[..., None] for g in upstream)
            is_true = tf.range(logits.shape[-1]) == classes[..., None]
            focal, entropy, score = _derivatives(logits, is_true, weights)
            if short is not None:
                focal += tf.where(is_true, short[..., None], 0.0)
            by_score = tf.where(is_true, by_score, 0.0)
            by_logit = tf.where(is_true, by_logit, 0.0)
            return by_focal * focal + by_entropy * entropy + by_score * score + by_logit

        return (loss, tf.math.imag(sums), score, true_logit), gradient

    return terms(logits)

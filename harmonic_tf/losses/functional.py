"""The paper's formulas and their baselines, element by element.

Every function is pure, knows nothing of anchors, batches or reductions, and gives finite values
and gradients for any finite input. Equations are those of Wang and Zhang, "Reconcile Prediction
Consistency for Balanced Object Detection", ICCV 2021, arXiv 2108.10809.
"""

from __future__ import annotations

from harmonic_tf.backend import tf


def harmonic_factors(
    classification: tf.Tensor, localization: tf.Tensor, stop_gradient: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The factors by which each branch weighs the other's loss.

    Args:
        classification: float [...], classification loss per sample, nats, >= 0.
        localization: float [...], localization loss per sample, >= 0.
        stop_gradient: whether the factors count as constants in the gradient.

    Returns:
        `b_r = exp(-localization)` and `b_c = exp(-classification)`, float [...] in (0, 1].

    Source: arXiv 2108.10809, harmonic loss.
    """
    b_r, b_c = tf.exp(-localization), tf.exp(-classification)
    if stop_gradient:
        return tf.stop_gradient(b_r), tf.stop_gradient(b_c)
    return b_r, b_c


def harmonic_terms(
    classification: tf.Tensor, localization: tf.Tensor, stop_gradient: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The two terms of the harmonic loss: each branch's loss, weighed by the other's.

    Args:
        classification: float [...], classification loss CE per sample, nats, >= 0.
        localization: float [...], localization loss L per sample, >= 0.
        stop_gradient: whether the factors count as constants in the gradient (an ablation).

    Returns:
        `(1 + b_r) CE` and `(1 + b_c) L`, float [...], >= 0.

    Source: arXiv 2108.10809, harmonic loss.
    """
    b_r, b_c = harmonic_factors(classification, localization, stop_gradient)
    return (1.0 + b_r) * classification, (1.0 + b_c) * localization


def harmonic_loss(
    classification: tf.Tensor, localization: tf.Tensor, stop_gradient: bool = False
) -> tf.Tensor:
    """Joint loss of a positive sample: each branch's loss weighs the other's.

    `(1 + b_r) CE + (1 + b_c) L`. Gradients flow through the factors, so that
    `d/dCE = 1 + exp(-L) - L exp(-CE)`: a confident score on a badly placed box is pushed down.

    Args:
        classification: float [...], classification loss CE per sample, nats, >= 0.
        localization: float [...], localization loss L per sample, >= 0.
        stop_gradient: whether the factors count as constants in the gradient (an ablation).

    Returns:
        Float [...], >= 0: the sum of `harmonic_terms`.

    Source: arXiv 2108.10809, harmonic loss.
    """
    return tf.add_n(list(harmonic_terms(classification, localization, stop_gradient)))


def unit_terms(
    excess: tf.Tensor,
    localization: tf.Tensor,
    misplacement: tf.Tensor,
    stop_gradient: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The two terms of the harmonic loss, coupled on one scale: `(1 + e^-l) c` and `(1 + e^-c) L`.

    The factors look at what has no unit and no weight, whatever L is measured in. What flows
    through them is not that of the formula: c learns as if L were l, and l as if c were at most 1,

        d/dc = 1 + exp(-l) - l exp(-c)                            >= exp(-1),
        d/dl = (1 + exp(-c)) dL/dl - min(c, 1) exp(-l)            >= 0 where dL/dl >= 1.

    So every score is pulled towards its target, harder the better the box. Where L = l and c <= 1
    it is `harmonic_terms`, gradient included.

    Args:
        excess: float [...], c: classification loss above the least that its target allows, nats,
            >= 0.
        localization: float [...], localization loss L, >= 0.
        misplacement: float [...], l: loss of the overlap of the boxes, in [0, 1].
        stop_gradient: whether the factors count as constants in the gradient (an ablation).

    Returns:
        The two terms, float [...], >= 0. What flows through both factors flows from the second, so
        that a weight of that term is a weight of the coupling.
    """
    b_r, b_c = harmonic_factors(excess, misplacement)
    fixed_r, fixed_c = tf.stop_gradient(b_r), tf.stop_gradient(b_c)
    classification, localization = (1.0 + fixed_r) * excess, (1.0 + fixed_c) * localization
    if not stop_gradient:
        # Without a value of their own; gradients alone.
        localization += tf.stop_gradient(misplacement) * (b_c - fixed_c)
        localization += tf.stop_gradient(tf.minimum(excess, 1.0)) * (b_r - fixed_r)
    return classification, localization


def localization_loss(
    smooth_l1: tf.Tensor,
    iou_loss: tf.Tensor,
    smooth_l1_weight: float = 1.0,
    iou_weight: float = 1.5,
) -> tf.Tensor:
    """Localization loss L of a positive sample: `SmoothL1 + a L_HIoU`.

    Args:
        smooth_l1: float [...], distance of the encoded offsets, >= 0.
        iou_loss: float [...], loss of the overlap of the decoded boxes, >= 0.
        smooth_l1_weight: weight of the first, >= 0; the paper's is 1.
        iou_weight: weight a of the second, >= 0.

    Returns:
        Float [...], >= 0.

    Source: arXiv 2108.10809, localization loss.
    """
    return smooth_l1_weight * smooth_l1 + iou_weight * iou_loss


def check_iou_gamma(gamma: float) -> float:
    """Gives back `gamma` if the Harmonic IoU loss is monotone for it.

    Args:
        gamma: the exponent.

    Returns:
        The exponent.

    Raises:
        ValueError: when it is outside [0, 1]: a better box could then cost more.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(
            f"harmonic_iou_loss: gamma = {gamma} is outside [0, 1], where the loss falls as the "
            "IoU rises. Choose a value inside; the paper's is 0.8."
        )
    return gamma


def harmonic_iou_loss(iou: tf.Tensor, gamma: float = 0.8) -> tf.Tensor:
    """IoU loss that weighs well-placed boxes more and outliers less: `(1 + IoU)^g (1 - IoU)`.

    Its slope runs from `-(1 - g)` at IoU 0 to `-2^g` at IoU 1; plain IoU loss has -1 everywhere.

    Args:
        iou: float [...], overlap of predicted and true box, in [0, 1].
        gamma: exponent g in [0, 1]; 0 gives the plain IoU loss.

    Returns:
        Float [...] in [0, 1].

    Raises:
        ValueError: when gamma is outside [0, 1].

    Source: arXiv 2108.10809, Harmonic IoU loss.
    """
    # XLA turns exp and log1p into vector instructions; of pow it makes a call per number.
    return tf.exp(check_iou_gamma(gamma) * tf.math.log1p(iou)) * (1.0 - iou)


def entropy(probabilities: tf.Tensor) -> tf.Tensor:
    """Uncertainty of a sample's scores, `-sum_k p_k ln p_k`.

    Args:
        probabilities: float [..., C] in [0, 1]; softmax or sigmoid scores.

    Returns:
        Float [...], nats, >= 0.
    """
    return -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1)


def weighted_contrast(
    score: tf.Tensor, iou: tf.Tensor, uncertainty: tf.Tensor, margin: float = 0.2
) -> tf.Tensor:
    """Difference of score and overlap beyond a margin; uncertain samples weigh less.

    Args:
        score: float [...], predicted score p of the true class, in [0, 1].
        iou: float [...], overlap of predicted and true box, in [0, 1].
        uncertainty: float [...], entropy H of the scores of all classes, nats.
        margin: difference m that costs nothing, in [0, 1].

    Returns:
        Float [...] in [0, (1 - m) / 2]: `max(0, |p - IoU| - m) / (1 + exp(H))`.
    """
    gap = tf.maximum(tf.abs(score - iou) - margin, 0.0)
    return gap * tf.sigmoid(-uncertainty)  # 1 / (1 + exp(H)), which cannot overflow


def task_contrasting_loss(
    score: tf.Tensor, iou: tf.Tensor, probabilities: tf.Tensor, margin: float = 0.2
) -> tf.Tensor:
    """Punishes a positive whose score and overlap differ by more than a margin.

    `max(0, |p - IoU| - m) / (1 + exp(H))`, H the entropy of the scores: uncertain samples weigh
    less.

    Args:
        score: float [...], predicted score p of the true class, in [0, 1].
        iou: float [...], overlap of predicted and true box, in [0, 1].
        probabilities: float [..., C], scores of all classes, in [0, 1].
        margin: difference m that costs nothing, in [0, 1].

    Returns:
        Float [...] in [0, (1 - m) / 2].

    Source: arXiv 2108.10809, task-contrasting loss.
    """
    return weighted_contrast(score, iou, entropy(probabilities), margin)


def binary_entropy(probability: tf.Tensor) -> tf.Tensor:
    """The least binary cross entropy that a target allows: where the score is the target.

    Args:
        probability: float [...] in [0, 1], the target.

    Returns:
        Float [...], nats, in [0, ln 2].
    """
    return entropy(tf.stack([probability, 1.0 - probability], axis=-1))


def sigmoid_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross entropy summed over classes.

    Args:
        labels: float [..., C] in [0, 1].
        logits: float [..., C].

    Returns:
        Float [...], nats, >= 0.
    """
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(entropies, axis=-1)


def softmax_terms(
    logits: tf.Tensor, classes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cross entropy, entropy and true score of softmax scores, whose last class is the background.

    Args:
        logits: float32 [..., C + 1], the background's last.
        classes: int [...], the true class; any negative number where that is the background.

    Returns:
        Cross entropy, nats, >= 0; entropy of all scores, the background's among them, nats, >= 0;
        score of the true class in [0, 1], 0 for the background; logit of the true class or the
        background. Float32 [...] each.
    """
    positive, background = classes >= 0, logits.shape[-1] - 1
    true = tf.where(positive, tf.cast(classes, tf.int32), background)
    surprisals = -tf.nn.log_softmax(logits)
    cross_entropy, logit = (
        tf.gather(values, true, axis=-1, batch_dims=classes.shape.rank)
        for values in (surprisals, logits)
    )
    uncertainty = tf.reduce_sum(tf.exp(-surprisals) * surprisals, axis=-1)
    score = tf.where(positive, tf.exp(-cross_entropy), 0.0)
    return cross_entropy, uncertainty, score, logit


def sigmoid_focal_loss(
    labels: tf.Tensor, logits: tf.Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> tf.Tensor:
    """Focal loss of sigmoid scores, summed over classes.

    `-alpha_t (1 - p_t)^gamma ln p_t`, written with softplus of the logit, so that it is exact
    and has a gradient however far the logit is from 0.

    Args:
        labels: float [..., C], 0 or 1.
        logits: float [..., C].
        alpha: weight of the 1s; the 0s weigh 1 - alpha. In [0, 1].
        gamma: focusing exponent, >= 0.

    Returns:
        Float [...], nats, >= 0.

    Source: Lin et al., arXiv 1708.02002, equation 5.
    """
    margin = (2.0 * labels - 1.0) * logits  # > 0 where the prediction is right
    alpha_t = alpha * labels + (1.0 - alpha) * (1.0 - labels)
    modulation = tf.exp(-gamma * tf.nn.softplus(margin))  # (1 - p_t) ** gamma
    return tf.reduce_sum(alpha_t * modulation * tf.nn.softplus(-margin), axis=-1)


def quality_focal_loss(labels: tf.Tensor, logits: tf.Tensor, beta: float = 2.0) -> tf.Tensor:
    """Focal loss of scores that learn a quality, summed over classes: `|t - s|^b BCE(s, t)`.

    It is 0, and least, where every score is its target.

    Args:
        labels: float [..., C], targets t in [0, 1]: the IoU at the true class, 0 elsewhere.
        logits: float [..., C], of the scores s.
        beta: focusing exponent b, 0 or >= 1; between them the gradient is infinite where s = t.

    Returns:
        Float [...], nats, >= 0.

    Source: Li et al., "Generalized Focal Loss", arXiv 2006.04388, equation 5.
    """
    distance = tf.abs(labels - tf.sigmoid(logits))
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(tf.pow(distance, beta) * entropies, axis=-1)


def varifocal_loss(
    labels: tf.Tensor, logits: tf.Tensor, alpha: float = 0.75, gamma: float = 2.0
) -> tf.Tensor:
    """Cross entropy on a quality and weighed by it, focal where that is 0; summed over classes.

    `t BCE(s, t)` where t > 0, `a s^g BCE(s, 0)` elsewhere.

    Args:
        labels: float [..., C], targets t in [0, 1]: the IoU at the true class, 0 elsewhere.
        logits: float [..., C], of the scores s.
        alpha: weight a of the 0s, >= 0.
        gamma: focusing exponent g of the 0s, >= 0.

    Returns:
        Float [...], nats, >= 0.

    Source: Zhang et al., "VarifocalNet", arXiv 2008.13367, equation 2.
    """
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    without = alpha * tf.exp(-gamma * tf.nn.softplus(-logits))  # a s ** g
    return tf.reduce_sum(tf.where(labels > 0.0, labels, without) * entropies, axis=-1)


def smooth_l1(target: tf.Tensor, prediction: tf.Tensor, beta: float = 1.0) -> tf.Tensor:
    """Smooth L1 distance, summed over the last dimension.

    Args:
        target: float [..., D].
        prediction: float [..., D].
        beta: where the square turns into a straight line, > 0.

    Returns:
        Float [...], >= 0.

    Source: Girshick, "Fast R-CNN", arXiv 1504.08083, equation 3.
    """
    difference = tf.abs(target - prediction)
    square_part = tf.minimum(difference, beta)
    return tf.reduce_sum(square_part * (difference - 0.5 * square_part) / beta, axis=-1)


def distribution_focal_loss(distance: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross entropy of a predicted distribution over whole numbers, summed over the sides of a box.

    The target is all on the two whole numbers next to the true distance, in such parts that its
    mean is the distance.

    Args:
        distance: float [..., D], true distances in [0, N - 1].
        logits: float [..., D, N], one for each of the whole numbers 0 to N - 1.

    Returns:
        Float [...], nats, >= 0.

    Source: Li et al., "Generalized Focal Loss", arXiv 2006.04388, equation 6.
    """
    numbers = tf.range(logits.shape[-1], dtype=logits.dtype)
    labels = tf.maximum(1.0 - tf.abs(distance[..., None] - numbers), 0.0)
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(losses, axis=-1)

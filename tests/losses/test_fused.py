"""The one-pass classification terms against the plain formulas and their automatic gradients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harmonic_tf.backend import tf
from harmonic_tf.losses import functional as F
from harmonic_tf.losses.fused import LANES, FocalWeights, classification_terms, log1p_of_unit

RNG = np.random.default_rng(3)
FOCAL = FocalWeights(0.25, 0.75, 2.0)
CROSS_ENTROPY = FocalWeights(1.0, 1.0, 0.0)
WEIGHTS = [FOCAL, CROSS_ENTROPY, FocalWeights(0.6, 0.4, 0.5), FocalWeights(0.5, 0.5, 5.0)]
COMPILED = tf.function(classification_terms, jit_compile=True)


def plain_terms(logits, classes, weights):
    """The first three values by the plain formulas, which TensorFlow differentiates."""
    labels = tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    right = tf.sigmoid((2.0 * labels - 1.0) * logits)
    weight = weights.true * labels + weights.other * (1.0 - labels)
    scores = tf.sigmoid(logits)
    return (
        tf.reduce_sum(weight * (1.0 - right) ** weights.gamma * -tf.math.log(right), axis=-1),
        F.entropy(scores),
        tf.reduce_sum(labels * scores, axis=-1),
    )


def values_and_slopes(function, logits, classes, weights, upstream=1.0):
    """Each of the three terms, and the gradient of each times `upstream`, by the logits."""
    logits = tf.constant(logits)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        terms = function(logits, tf.constant(classes), weights)
        weighted = [tf.constant(upstream, logits.dtype) * term for term in terms]
    return [t.numpy() for t in terms], [tape.gradient(t, logits).numpy() for t in weighted]


def random_case(count, samples=200):
    logits = RNG.normal(0.0, 4.0, (2, samples, count)).astype(np.float32)
    return logits, RNG.integers(-2, count, (2, samples))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 1, 5 * LANES])
@pytest.mark.parametrize("function", [classification_terms, COMPILED], ids=["plain", "xla"])
def test_values_and_gradients_are_those_of_the_plain_formulas(function, count, weights):
    logits, classes = random_case(count)
    upstream = RNG.normal(0.0, 1.0, classes.shape)  # differs per sample, as b_r and b_c make it
    ours = values_and_slopes(function, logits, classes, weights, upstream)
    plain = values_and_slopes(plain_terms, logits.astype(np.float64), classes, weights, upstream)
    for value, expected in zip(ours[0], plain[0]):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    for slope, expected in zip(ours[1], plain[1]):
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def test_the_public_formulas_give_the_same_values():
    logits, classes = random_case(20)
    labels = tf.one_hot(classes, 20)
    focal, entropy, *_ = classification_terms(logits, tf.constant(classes), FOCAL)
    cross_entropy, *_ = classification_terms(logits, tf.constant(classes), CROSS_ENTROPY)
    np.testing.assert_allclose(focal, F.sigmoid_focal_loss(labels, logits), rtol=1e-5)
    np.testing.assert_allclose(cross_entropy, F.sigmoid_cross_entropy(labels, logits), rtol=1e-5)
    np.testing.assert_allclose(entropy, F.entropy(tf.sigmoid(logits)), rtol=1e-5)


def test_the_true_logit_is_handed_on_with_its_gradient():
    logits, classes = random_case(20)
    values, slopes = values_and_slopes(classification_terms, logits, classes, FOCAL)
    true = np.maximum(classes, 0)[..., None]
    assert np.all((values[3] == np.take_along_axis(logits, true, -1)[..., 0]) | (classes < 0))
    np.testing.assert_array_equal(slopes[3], np.arange(20) == classes[..., None])


def test_where_no_class_is_true_the_score_is_0_and_has_no_gradient():
    logits, _ = random_case(7)
    classes = RNG.integers(-2, 0, logits.shape[:2])
    values, slopes = values_and_slopes(classification_terms, logits, classes, FOCAL)
    assert not values[2].any()
    assert not slopes[2].any()


def oracle(x, is_true, weights):
    """The three values and slopes for one class in float64, from ln(1 + exp(x)) alone."""
    softplus = np.logaddexp(0.0, x), np.logaddexp(0.0, -x)  # -ln(1 - score), -ln score
    ln_right, ln_wrong = (-softplus[1], -softplus[0])[:: 1 if is_true else -1]
    weight = weights.true if is_true else weights.other
    score, variance = np.exp(-softplus[1]), np.exp(-softplus[0] - softplus[1])
    # With w = 1 - p_t: d(w^g CE)/dw = g w^(g-1) CE + w^g / (1 - w), and dw/dx = -+w (1 - w).
    slope = np.exp(weights.gamma * ln_wrong) * (
        np.exp(ln_wrong) - weights.gamma * np.exp(ln_right) * ln_right
    )
    values = (
        weight * np.exp(weights.gamma * ln_wrong) * -ln_right,
        score * softplus[1],
        score * is_true,
    )
    slopes = (
        weight * slope * (-1.0 if is_true else 1.0),
        (softplus[1] - 1.0) * variance,
        variance * is_true,
    )
    return values, slopes


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("true_class", [-1, 0])
@pytest.mark.parametrize("function", [classification_terms, COMPILED], ids=["plain", "xla"])
def test_every_digit_is_right_however_far_the_logit_is_from_0(function, true_class, weights):
    x = np.float32([0.0, 1e-30, 1e-6, 0.7, 17.0, 60.0, 88.8, 104.0, 1e4])
    x = np.concatenate([-x, x])
    ours = values_and_slopes(function, x[:, None], np.full(x.shape, true_class), weights)
    expected = oracle(x.astype(np.float64), true_class == 0, weights)
    for value, truth in zip(ours[0], expected[0]):
        np.testing.assert_allclose(value, truth, rtol=2e-6, atol=1e-30)
    for slope, truth in zip(ours[1], expected[1]):
        np.testing.assert_allclose(slope[:, 0], truth, rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("function", [classification_terms, COMPILED], ids=["plain", "xla"])
def test_what_is_not_a_number_is_handed_on(function, weights):
    logits, classes = random_case(2 * LANES)
    broken = RNG.random(classes.shape) < 0.3
    logits[broken, RNG.integers(0, 2 * LANES, broken.sum())] = np.nan
    (focal, entropy, *_), slopes = values_and_slopes(function, logits, classes, weights)
    np.testing.assert_array_equal(np.isnan(focal), broken)
    np.testing.assert_array_equal(np.isnan(entropy), broken)
    for slope in slopes[:2]:
        np.testing.assert_array_equal(np.isnan(slope), np.isnan(logits))


def float32_logits(limit):
    elements = st.floats(-limit, limit, width=32, allow_subnormal=False)
    return arrays(np.float32, (5, 3), elements=elements)


@settings(deadline=None, max_examples=30)
@given(float32_logits(10_000), st.sampled_from(WEIGHTS))
def test_bounds_hold_for_any_logits(logits, weights):
    (focal, entropy, score, _), slopes = values_and_slopes(
        classification_terms, logits, np.zeros(5, int), weights
    )
    assert np.all(np.isfinite(slopes))
    assert np.all(np.isfinite(focal) & (focal >= 0))
    assert np.all((entropy >= 0) & (entropy <= 3 / np.e + 1e-6))  # -p ln p is at most 1 / e
    assert np.all((score >= 0) & (score <= 1))
    assert np.all(slopes[0][:, 0] <= 0) and np.all(slopes[0][:, 1:] >= 0)


@settings(deadline=None, max_examples=30)
@given(float32_logits(10_000), st.sampled_from(WEIGHTS))
def test_a_true_class_at_x_is_as_wrong_as_a_false_one_at_minus_x(logits, weights):
    swapped = FocalWeights(weights.other, weights.true, weights.gamma)
    true, *_ = classification_terms(logits[:, :1], tf.zeros([5], tf.int32), weights)
    false, *_ = classification_terms(-logits[:, :1], tf.fill([5], -1), swapped)
    np.testing.assert_array_equal(true, false)


@settings(deadline=None, max_examples=30)
@given(float32_logits(80))
def test_exp_of_minus_the_cross_entropy_of_a_lone_class_is_its_score(logits):
    loss, _, score, _ = classification_terms(logits[:, :1], tf.zeros([5], tf.int32), CROSS_ENTROPY)
    np.testing.assert_allclose(np.exp(-loss.numpy().astype(np.float64)), score, rtol=1e-4)


def test_log1p_of_unit_has_the_precision_of_float32():
    u = np.concatenate([[0.0, 1e-37, 1e-20], np.logspace(-12, 0, 10_001)]).astype(np.float32)
    expected = np.log1p(u.astype(np.float64))
    np.testing.assert_allclose(log1p_of_unit(tf.constant(u)), expected, rtol=3e-7)


def test_soft_targets_and_their_gradient_against_the_plain_formula():
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(0, 4, (7, 5)), tf.float32)
    classes = tf.constant([0, 1, 4, -1, -2, 3, 2])
    targets = tf.constant(rng.uniform(0, 1, 7), tf.float32)
    soft = targets[:, None] * tf.one_hot(classes, 5)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        found = classification_terms(logits, classes, FocalWeights(1.0, 1.0, 0.0), targets)[0]
        plain = F.sigmoid_cross_entropy(soft, logits)
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)
    gradient, plain_gradient = (tape.gradient(loss, logits) for loss in (found, plain))
    np.testing.assert_allclose(gradient, plain_gradient, rtol=1e-4, atol=1e-6)

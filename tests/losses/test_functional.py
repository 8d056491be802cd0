"""The formulas against NumPy in float64, their identities, and their behaviour at the extremes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import tf
from harmonic_tf.losses import functional as F

RNG = np.random.default_rng(0)
EXTREME_LOGITS = np.array([-1e4, -88.8, -17.0, -1e-6, 0.0, 1e-6, 17.0, 88.8, 1e4], np.float32)


def gradient(function, *inputs):
    inputs = [tf.constant(x, tf.float64) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(function(*inputs))
    return [g.numpy() for g in tape.gradient(value, inputs)]


losses = st.floats(0.0, 20.0, allow_subnormal=False)


@settings(deadline=None, max_examples=50)
@given(losses, losses)
def test_harmonic_loss_is_the_papers_formula(ce, loc):
    expected = (1 + np.exp(-loc)) * ce + (1 + np.exp(-ce)) * loc
    np.testing.assert_allclose(F.harmonic_loss(np.float64(ce), np.float64(loc)), expected)


@settings(deadline=None, max_examples=50)
@given(losses, losses)
def test_harmonic_loss_derivatives(ce, loc):
    d_ce, d_loc = gradient(F.harmonic_loss, ce, loc)
    np.testing.assert_allclose(d_ce, 1 + np.exp(-loc) - loc * np.exp(-ce), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d_loc, 1 + np.exp(-ce) - ce * np.exp(-loc), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(losses, losses)
def test_harmonic_loss_is_symmetric(ce, loc):
    a, b = (
        F.harmonic_loss(np.float64(ce), np.float64(loc)),
        F.harmonic_loss(np.float64(loc), np.float64(ce)),
    )
    np.testing.assert_allclose(a, b)


def test_confident_score_on_a_badly_placed_box_is_pushed_down():
    d_ce, _ = gradient(F.harmonic_loss, 0.01, 2.5)
    assert d_ce < 0
    d_ce, _ = gradient(F.harmonic_loss, 0.01, 0.5)
    assert d_ce > 0


def test_harmonic_loss_vanishes_with_both_losses():
    np.testing.assert_allclose(F.harmonic_loss(np.float64(0.0), np.float64(0.0)), 0.0)
    assert F.harmonic_loss(np.float64(1e-9), np.float64(1e-9)) < 1e-8


def test_stop_gradient_detaches_both_factors_but_keeps_the_value():
    ce, loc = RNG.uniform(0, 5, (2, 100))
    detached = gradient(lambda a, b: F.harmonic_loss(a, b, stop_gradient=True), ce, loc)
    np.testing.assert_allclose(detached[0], 1 + np.exp(-loc))
    np.testing.assert_allclose(detached[1], 1 + np.exp(-ce))
    np.testing.assert_allclose(F.harmonic_loss(ce, loc, True), F.harmonic_loss(ce, loc))


def test_with_plain_cross_entropy_b_c_is_the_score():
    logits = RNG.normal(0, 3, 50)
    cross_entropy = F.sigmoid_cross_entropy(np.ones((50, 1)), logits[:, None])
    _, b_c = F.harmonic_factors(cross_entropy, tf.zeros_like(cross_entropy))
    np.testing.assert_allclose(b_c, 1 / (1 + np.exp(-logits)), rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.8, 1.0])
def test_harmonic_iou_loss_is_the_papers_formula_and_falls(gamma):
    iou = np.linspace(0, 1, 1001)
    value = F.harmonic_iou_loss(iou, gamma).numpy()
    np.testing.assert_allclose(value, (1 + iou) ** gamma * (1 - iou), atol=1e-12)
    assert np.all(np.diff(value) <= 1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.8, 1.0])
def test_harmonic_iou_loss_slopes_at_its_ends(gamma):
    (slope,) = gradient(lambda x: F.harmonic_iou_loss(x, gamma), np.array([0.0, 1.0]))
    np.testing.assert_allclose(slope, [-(1 - gamma), -(2**gamma)])


@pytest.mark.parametrize("gamma", [-0.1, 1.01, 2.0, float("nan")])
def test_harmonic_iou_loss_refuses_gamma_outside_its_range(gamma):
    with pytest.raises(ValueError, match=r"gamma = .* outside \[0, 1\]"):
        F.harmonic_iou_loss(tf.constant(0.5), gamma)


def test_harmonic_iou_loss_is_not_monotone_beyond_the_range():
    # Why a larger gamma is an error: with g = 1.5 the loss rises from IoU 0 to IoU 0.1.
    assert (1 + 0.1) ** 1.5 * (1 - 0.1) > 1.0


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_task_contrasting_loss_is_the_papers_formula(score, iou, probabilities):
    p = np.array(probabilities)
    entropy = -sum(x * np.log(x) for x in p if x > 0)
    expected = max(0.0, abs(score - iou) - 0.2) / (1 + np.exp(entropy))
    value = F.task_contrasting_loss(np.float64(score), np.float64(iou), p)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-15)


def test_task_contrasting_loss_weighs_certain_samples_by_a_half():
    # One class at probability 1 has entropy 0: (0.9 - 0.2) / (1 + 1).
    value = F.task_contrasting_loss(np.float64(1.0), np.float64(0.1), np.array([1.0, 0.0]))
    np.testing.assert_allclose(value, 0.35)


def test_task_contrasting_loss_survives_any_number_of_uncertain_classes():
    # 1,000 classes at 1 / e have an entropy of 368 nats; exp of it overflows float32.
    probabilities = tf.fill([1000], np.float32(np.exp(-1)))
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        value = F.task_contrasting_loss(tf.constant(0.9), tf.constant(0.0), probabilities)
    assert np.isfinite(value)
    assert np.all(np.isfinite(tape.gradient(value, probabilities)))


def focal_oracle(labels, logits, alpha, gamma):
    p = 1 / (1 + np.exp(-logits))
    p_t = np.where(labels == 1, p, 1 - p)
    alpha_t = np.where(labels == 1, alpha, 1 - alpha)
    return np.sum(-alpha_t * (1 - p_t) ** gamma * np.log(p_t), axis=-1)


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.5, 0.0), (0.75, 0.5), (0.25, 5.0)])
def test_focal_loss_against_numpy(alpha, gamma):
    logits = RNG.normal(0, 4, (64, 7))
    labels = RNG.integers(0, 2, (64, 7)).astype(float)
    np.testing.assert_allclose(
        F.sigmoid_focal_loss(labels, logits, alpha, gamma),
        focal_oracle(labels, logits, alpha, gamma),
        rtol=1e-9,
    )


def test_cross_entropy_against_numpy():
    logits, labels = RNG.normal(0, 4, (64, 7)), RNG.uniform(0, 1, (64, 7))
    p = 1 / (1 + np.exp(-logits))
    expected = -np.sum(labels * np.log(p) + (1 - labels) * np.log(1 - p), axis=-1)
    np.testing.assert_allclose(F.sigmoid_cross_entropy(labels, logits), expected, rtol=1e-9)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_smooth_l1_against_numpy(beta):
    target, prediction = RNG.normal(0, 3, (2, 64, 4))
    d = np.abs(target - prediction)
    expected = np.sum(np.where(d < beta, 0.5 * d**2 / beta, d - 0.5 * beta), axis=-1)
    np.testing.assert_allclose(F.smooth_l1(target, prediction, beta), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: F.sigmoid_focal_loss(y, x),
        lambda x, y: F.sigmoid_cross_entropy(y, x),
        lambda x, y: F.quality_focal_loss(y, x),
        lambda x, y: F.varifocal_loss(y, x),
        lambda x, y: F.harmonic_loss(F.sigmoid_focal_loss(y, x), F.smooth_l1(tf.zeros_like(x), x)),
        lambda x, y: F.task_contrasting_loss(
            tf.sigmoid(x[..., 0]), tf.zeros_like(x[..., 0]), tf.sigmoid(x)
        ),
    ],
    ids=["focal", "cross_entropy", "qfl", "vfl", "harmonic", "task_contrasting"],
)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_values_and_gradients_are_finite_for_extreme_logits(function, label):
    logits = tf.constant(EXTREME_LOGITS[:, None])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits, tf.fill(logits.shape, label))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(tape.gradient(value, logits)))


def test_focal_loss_still_has_a_gradient_where_it_is_very_wrong():
    logits = tf.constant([[-1e4]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = F.sigmoid_focal_loss(tf.ones_like(logits), logits)
    np.testing.assert_allclose(value, 0.25 * 1e4)
    np.testing.assert_allclose(tape.gradient(value, logits), -0.25)


def test_distribution_focal_loss_by_hand():
    # 2.25 is three quarters 2 and one quarter 3; 15 is all 15.
    logits = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    log_p = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    expected = -(0.75 * log_p[0, 2] + 0.25 * log_p[0, 3]) - log_p[1, 15]
    found = F.distribution_focal_loss(tf.constant([2.25, 15.0]), tf.constant(logits))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


excesses = st.floats(0.0, 20.0, allow_subnormal=False)
misplacements = st.floats(0.0, 1.0, allow_subnormal=False)
gains = st.floats(0.01, 100.0)


def unit_loss(gain, weight=1.0, stop_gradient=False):
    """Both terms of the unit coupling with L = gain l, as a function of c and l."""

    def loss(excess, misplacement):
        first, second = F.unit_terms(excess, gain * misplacement, misplacement, stop_gradient)
        return first + weight * second

    return loss


@settings(deadline=None, max_examples=50)
@given(excesses, misplacements, gains, st.floats(0.0, 1.0))
def test_unit_coupling_and_its_derivatives_in_closed_form(c, l, gain, weight):  # noqa: E741
    value = unit_loss(gain, weight)(np.float64(c), np.float64(l))
    expected = (1 + np.exp(-l)) * c + weight * (1 + np.exp(-c)) * gain * l
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-300)
    d_c, d_l = gradient(unit_loss(gain, weight), c, l)
    by_c = 1 + np.exp(-l) - weight * l * np.exp(-c)
    by_l = weight * (gain * (1 + np.exp(-c)) - min(c, 1) * np.exp(-l))
    np.testing.assert_allclose(d_c, by_c, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d_l, by_l, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(excesses, misplacements, misplacements, gains, st.floats(0.0, 1.0))
def test_unit_coupling_never_teaches_a_worse_score_for_a_better_box(c, l, other, gain, weight):  # noqa: E741
    better, worse = sorted((l, other))
    pull, weaker_pull = (gradient(unit_loss(gain, weight), c, x)[0] for x in (better, worse))
    assert pull >= weaker_pull >= np.exp(-1) - 1e-12  # towards the target, whatever the box
    if gain >= 1:
        assert gradient(unit_loss(gain, weight), c, l)[1] >= 0  # no box is pushed away either


@settings(deadline=None, max_examples=50)
@given(st.floats(0.0, 1.0), misplacements)
def test_unit_coupling_is_the_papers_where_both_losses_are_at_most_1(c, l):  # noqa: E741
    unit, paper = unit_loss(1.0), F.harmonic_loss
    values = (loss(np.float64(c), np.float64(l)) for loss in (unit, paper))
    np.testing.assert_allclose(*values, rtol=1e-12)
    np.testing.assert_allclose(gradient(unit, c, l), gradient(paper, c, l), rtol=1e-9, atol=1e-12)


def test_unit_coupling_with_stop_gradient_keeps_the_value_and_detaches_the_factors():
    c, misplacement = RNG.uniform(0, 5, 100), RNG.uniform(0, 1, 100)
    detached = unit_loss(15.0, stop_gradient=True)
    np.testing.assert_array_equal(detached(c, misplacement), unit_loss(15.0)(c, misplacement))
    by_c, by_l = gradient(detached, c, misplacement)
    np.testing.assert_allclose(by_c, 1 + np.exp(-misplacement))
    np.testing.assert_allclose(by_l, 15 * (1 + np.exp(-c)))


def test_binary_entropy_is_the_least_cross_entropy_of_a_target():
    targets = np.array([0.0, 1e-6, 0.1, 0.5, 0.9, 1.0])
    logits = np.linspace(-40, 40, 80_001)[:, None]
    losses = np.logaddexp(0, logits) - targets * logits
    np.testing.assert_allclose(F.binary_entropy(targets), losses.min(axis=0), atol=1e-7)


def overlap_targets(samples=64, classes=7):
    """Logits, and labels that are an IoU at one class and 0 elsewhere; some IoUs are 0 and 1."""
    logits = RNG.normal(0, 3, (samples, classes))
    iou = np.concatenate([[0.0, 1.0], RNG.uniform(0, 1, samples - 2)])
    return logits, iou[:, None] * np.eye(classes)[RNG.integers(0, classes, samples)]


def binary_cross_entropy(s, t):
    return -t * np.log(s) - (1 - t) * np.log(1 - s)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.5, 2.0])
def test_quality_focal_loss_and_its_gradient_against_numpy(beta):
    logits, t = overlap_targets()
    s = 1 / (1 + np.exp(-logits))
    expected = np.abs(t - s) ** beta * binary_cross_entropy(s, t)
    value = F.quality_focal_loss(t, logits, beta)
    np.testing.assert_allclose(value, expected.sum(axis=-1), rtol=1e-9)
    (slope,) = gradient(lambda x: F.quality_focal_loss(t, x, beta), logits)
    gap = s - t  # the derivative of the cross entropy by the logit
    expected = beta * np.abs(gap) ** (beta - 1) * np.sign(gap) * s * (1 - s)
    expected = expected * binary_cross_entropy(s, t) + np.abs(gap) ** beta * gap
    np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha, gamma", [(0.75, 2.0), (1.0, 0.0), (0.25, 1.5)])
def test_varifocal_loss_and_its_gradient_against_numpy(alpha, gamma):
    logits, t = overlap_targets()
    s = 1 / (1 + np.exp(-logits))
    weight = np.where(t > 0, t, alpha * s**gamma)
    value = F.varifocal_loss(t, logits, alpha, gamma)
    expected = weight * binary_cross_entropy(s, t)
    np.testing.assert_allclose(value, expected.sum(axis=-1), rtol=1e-9)
    (slope,) = gradient(lambda x: F.varifocal_loss(t, x, alpha, gamma), logits)
    of_weight = np.where(t > 0, 0, weight * gamma * (1 - s))
    expected = weight * (s - t) + of_weight * binary_cross_entropy(s, t)
    np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-12)


def test_quality_focal_loss_on_hard_targets_is_the_focal_loss_without_alpha():
    logits, labels = RNG.normal(0, 4, (64, 7)), RNG.integers(0, 2, (64, 7)).astype(float)
    # With alpha 1/2 both labels weigh a half.
    focal = 2 * F.sigmoid_focal_loss(labels, logits, alpha=0.5, gamma=2.0)
    np.testing.assert_allclose(F.quality_focal_loss(labels, logits), focal, rtol=1e-9)


def test_varifocal_loss_without_overlap_is_the_focal_loss_of_the_background():
    logits = RNG.normal(0, 4, (64, 7))
    zeros = np.zeros_like(logits)
    focal = F.sigmoid_focal_loss(zeros, logits, alpha=0.25, gamma=2.0)  # 0s weigh 1 - alpha
    np.testing.assert_allclose(F.varifocal_loss(zeros, logits), focal, rtol=1e-9)
    ones = F.varifocal_loss(zeros + 1, logits)
    np.testing.assert_allclose(ones, F.sigmoid_cross_entropy(zeros + 1, logits), rtol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 0.99), st.floats(-8, 8))
def test_both_overlap_losses_are_least_where_the_score_is_the_overlap(iou, logit):
    at_target = np.log(iou / (1 - iou))
    for loss in (F.quality_focal_loss, F.varifocal_loss):
        ours, best = (loss(np.array([iou]), np.array([x])).numpy() for x in (logit, at_target))
        assert ours >= best - 1e-12
        (slope,) = gradient(lambda x, loss=loss: loss(np.array([iou]), x), np.array([logit]))
        assert slope[0] * (logit - at_target) >= -1e-12

"""The joint loss on softmax scores with a background, as the regions of two stages have it."""

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND, IGNORED, HarmonicLoss
from harmonic_tf.losses.functional import softmax_terms

RNG = np.random.default_rng(8)
CLASSES, SAMPLES = 4, 30


def batch():
    corners, sides = RNG.uniform(0, 40, (2, 1, SAMPLES, 2)), RNG.uniform(10, 40, (2, 1, SAMPLES, 2))
    truth, predicted = np.concatenate([corners, corners + sides], axis=-1)
    predicted = 0.3 * predicted + 0.7 * truth
    y_true = {
        "classes": RNG.integers(IGNORED, CLASSES, (1, SAMPLES)),
        "boxes": truth,
        "offsets": RNG.normal(0, 1, (1, SAMPLES, 4)),
    }
    y_pred = {
        "logits": RNG.normal(0, 2, (1, SAMPLES, CLASSES + 1)),
        "boxes": predicted,
        "offsets": y_true["offsets"] + RNG.normal(0, 0.5, (1, SAMPLES, 4)),
    }
    return y_true, y_pred


def as_tensors(side):
    return {k: tf.constant(v, tf.int32 if k == "classes" else tf.float32) for k, v in side.items()}


def of_sample(k, logits, truth, box, target, offsets, coupling, contrasting):
    """One sample in float64."""
    if k == IGNORED:
        return 0.0
    p = np.exp(logits - logits.max())
    p /= p.sum()
    ce = -np.log(p[k if k >= 0 else CLASSES])
    if k == BACKGROUND:
        return ce
    w, h = np.maximum(np.minimum(truth[2:], box[2:]) - np.maximum(truth[:2], box[:2]), 0)
    iou = w * h / (np.prod(truth[2:] - truth[:2]) + np.prod(box[2:] - box[:2]) - w * h)
    hiou = (1 + iou) ** 0.8 * (1 - iou)
    d = np.abs(target - offsets)
    loc = np.sum(np.where(d < 1, 0.5 * d**2, d - 0.5)) + 1.5 * hiou
    b_r = {"paper": np.exp(-loc), "unit": np.exp(-hiou), None: 0.0}[coupling]
    b_c = np.exp(-ce) if coupling else 0.0
    total = (1 + b_r) * ce + (1 + b_c) * loc
    if contrasting:
        entropy = -np.sum(p * np.log(p))
        total += max(abs(p[k] - iou) - 0.2, 0) / (1 + np.exp(entropy))
    return total


def oracle(y_true, y_pred, coupling, contrasting):
    columns = (
        y_true["classes"],
        y_pred["logits"],
        y_true["boxes"],
        y_pred["boxes"],
        y_true["offsets"],
        y_pred["offsets"],
    )
    samples = zip(*(column[0] for column in columns))
    return np.array([of_sample(*sample, coupling, contrasting) for sample in samples])


@pytest.mark.parametrize("coupling", ["paper", "unit", None])
@pytest.mark.parametrize("contrasting", [True, False])
def test_loss_of_rois_is_the_oracles(coupling, contrasting):
    y_true, y_pred = batch()
    loss = HarmonicLoss(
        "softmax_cross_entropy", coupling=coupling, task_contrasting=contrasting, reduction="none"
    )
    found = loss.call(as_tensors(y_true), as_tensors(y_pred))[0]
    expected = oracle(y_true, y_pred, coupling, contrasting)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("coupling", ["paper", None])
def test_gradient_of_rois_is_the_slope_of_the_oracle(coupling):
    y_true, y_pred = batch()
    loss = HarmonicLoss("softmax_cross_entropy", coupling=coupling)
    logits = tf.constant(y_pred["logits"], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(as_tensors(y_true), {**as_tensors(y_pred), "logits": logits})
    found, step = tape.gradient(value, logits)[0], 1e-5
    for c in range(CLASSES + 1):
        sides = []
        for sign in (1, -1):
            moved = y_pred["logits"].copy()
            moved[..., c] += sign * step
            sides.append(oracle(y_true, {**y_pred, "logits": moved}, coupling, True))
        slope = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(found[:, c], slope, rtol=1e-3, atol=1e-4)


def test_gradient_of_rois_on_one_scale_is_the_stated_one():
    """By c: 1 + exp(-l) - l exp(-c), times the slope of the cross entropy, p - y."""
    y_true, y_pred = batch()
    loss = HarmonicLoss("softmax_cross_entropy", coupling="unit", task_contrasting=False)
    logits = tf.constant(y_pred["logits"], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(as_tensors(y_true), {**as_tensors(y_pred), "logits": logits})
    found = tape.gradient(value, logits)[0].numpy()
    terms = loss.terms(as_tensors(y_true), as_tensors(y_pred))
    p = tf.nn.softmax(tf.constant(y_pred["logits"]))[0].numpy()
    for i, k in enumerate(y_true["classes"][0]):
        if k < 0:
            continue
        iou = float(terms["iou"][0, i])
        misplaced, ce = (1 + iou) ** 0.8 * (1 - iou), -np.log(p[i, k])
        factor = 1 + np.exp(-misplaced) - misplaced * np.exp(-ce)
        slope = factor * (p[i] - np.eye(CLASSES + 1)[k])
        np.testing.assert_allclose(found[i], slope, rtol=1e-3, atol=1e-4)


def test_roi_scores_of_one_class_against_a_background_of_0_are_sigmoid_scores():
    logits = RNG.normal(0, 3, (1, SAMPLES, 1))
    classes = RNG.integers(BACKGROUND, 1, (1, SAMPLES))
    both = tf.constant(np.concatenate([logits, np.zeros_like(logits)], axis=-1), tf.float32)
    found, _, score, _ = softmax_terms(both, tf.constant(classes))
    probability = 1 / (1 + np.exp(-logits[..., 0]))
    expected = -np.log(np.where(classes == 0, probability, 1 - probability))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(score, np.where(classes == 0, probability, 0), rtol=1e-4)


@pytest.mark.parametrize("classification", ["softmax_cross_entropy", "focal"])
def test_true_scores_of_rois_and_of_anchors_are_those_of_their_kind(classification):
    y_true, y_pred = batch()
    logits, classes = y_pred["logits"][0], y_true["classes"][0]
    odds, softmax = np.exp(logits), "softmax" in classification
    scores = odds / (odds.sum(axis=-1, keepdims=True) if softmax else 1 + odds)
    expected = [scores[i, k] if k >= 0 else 0 for i, k in enumerate(classes)]
    loss = HarmonicLoss(classification)
    found = loss.true_scores(tf.constant(logits), tf.constant(classes))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [0, BACKGROUND, IGNORED])
def test_extreme_logits_of_rois_give_finite_losses_and_gradients(k):
    values = [-1e4, 0.0, 1e4]
    logits = tf.constant([[[a, b, c] for a in values for b in values for c in values]])
    count = logits.shape[1]
    boxes = tf.tile(tf.constant([[[0.0, 0.0, 9.0, 9.0]]]), [1, count, 1])
    y_true = {"classes": tf.fill([1, count], k), "boxes": boxes, "offsets": tf.zeros_like(boxes)}
    loss = HarmonicLoss("softmax_cross_entropy")
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(y_true, {"logits": logits, "boxes": boxes + 1.0, "offsets": boxes})
    assert np.isfinite(value)
    assert np.all(np.isfinite(tape.gradient(value, logits)))

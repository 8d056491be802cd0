"""What keras-cv and tensorflow-addons compute rightly, and what they do not, beside ours."""

import warnings

import numpy as np
import pytest

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras_cv, tf
from harmonic_tf.backend.libraries import KERAS_3
from harmonic_tf.losses import functional as F

RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def tfa():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow_addons")


def random_boxes(count):
    corner, size = RNG.uniform(0, 60, (count, 2)), RNG.uniform(1, 60, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def test_focal_loss_of_tensorflow_addons(tfa):
    logits = RNG.normal(0, 4, (64, 5)).astype(np.float32)
    labels = RNG.integers(0, 2, (64, 5)).astype(np.float32)
    theirs = tfa.losses.sigmoid_focal_crossentropy(labels, logits, from_logits=True)
    np.testing.assert_allclose(F.sigmoid_focal_loss(labels, logits), theirs, rtol=1e-4)


def test_focal_loss_of_keras_cv_is_right_but_computes_in_float64_with_keras_2():
    # Twice the bytes of the largest tensor of the whole loss: why theirs is not reused.
    logits = np.append(RNG.normal(0, 4, (64, 5)), [[-1e3, -40, 0, 40, 1e3]], axis=0)
    labels = RNG.integers(0, 2, (65, 5)).astype(np.float32)
    logits = logits.astype(np.float32)
    theirs = keras_cv.losses.FocalLoss(from_logits=True, reduction="none")(labels, logits)
    np.testing.assert_allclose(F.sigmoid_focal_loss(labels, logits), theirs, rtol=1e-4)
    assert theirs.dtype == (tf.float32 if KERAS_3 else tf.float64)


def test_smooth_l1_of_keras_cv_is_the_mean_of_four():
    target, prediction = RNG.normal(0, 3, (2, 64, 4)).astype(np.float32)
    theirs = keras_cv.losses.SmoothL1Loss(reduction="none")(target, prediction)
    np.testing.assert_allclose(F.smooth_l1(target, prediction), 4 * theirs, rtol=1e-4)


def test_giou_of_tensorflow_addons(tfa):
    a, b = random_boxes(200), random_boxes(200)
    yxyx = [1, 0, 3, 2]
    theirs = tfa.losses.giou_loss(a[:, yxyx], b[:, yxyx])
    np.testing.assert_allclose(1 - box_ops.giou(a, b), theirs, rtol=1e-4, atol=1e-5)


def ciou_oracle(a, b, v_of_angles):
    x, y = a.astype(np.float64), b.astype(np.float64)
    width = [box[:, 2] - box[:, 0] for box in (x, y)]
    height = [box[:, 3] - box[:, 1] for box in (x, y)]
    shared = np.prod(
        np.maximum(np.minimum(x[:, 2:], y[:, 2:]) - np.maximum(x[:, :2], y[:, :2]), 0), axis=1
    )
    iou = shared / (width[0] * height[0] + width[1] * height[1] - shared)
    distance = np.sum(((x[:, :2] + x[:, 2:]) / 2 - (y[:, :2] + y[:, 2:]) / 2) ** 2, axis=1)
    corners = np.maximum(x[:, 2:], y[:, 2:]) - np.minimum(x[:, :2], y[:, :2])
    v = v_of_angles(np.arctan(width[1] / height[1]) - np.arctan(width[0] / height[0]))
    return iou - distance / np.sum(corners**2, axis=1) - v**2 / (1 - iou + v)


def test_ciou_is_the_published_formula():
    a, b = random_boxes(200), random_boxes(200)
    expected = ciou_oracle(a, b, lambda angle: 4 / np.pi**2 * angle**2)
    np.testing.assert_allclose(box_ops.ciou(a, b), expected, rtol=1e-4, atol=1e-5)


def test_why_the_ciou_of_keras_cv_is_not_reused():
    # It squares the factor 4 / pi^2 along with the angle.
    a, b = random_boxes(200), random_boxes(200)
    theirs = keras_cv.bounding_box.compute_ciou(a, b, "xyxy")
    wrong = ciou_oracle(a, b, lambda angle: (4 / np.pi**2 * angle) ** 2)
    np.testing.assert_allclose(theirs, wrong, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(theirs - box_ops.ciou(a, b))) > 0.05

"""The Keras losses: what counts where, every switch, serialization, extremes."""

import itertools

import numpy as np
import pytest

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import (
    BACKGROUND,
    CLASSIFICATION_LOSSES,
    IGNORED,
    HarmonicIoULoss,
    HarmonicLoss,
    TaskContrastingLoss,
)
from harmonic_tf.losses import functional as F

RNG = np.random.default_rng(2)
BASELINE = {"coupling": None, "task_contrasting": False, "iou_loss": None}


def random_boxes(*shape):
    corner, size = RNG.uniform(0, 60, (*shape, 2)), RNG.uniform(5, 60, (*shape, 2))
    return np.concatenate([corner, corner + size], axis=-1).astype(np.float32)


def batch(anchors=40, classes=5, targets=None):
    if targets is None:
        targets = RNG.integers(IGNORED, classes, (2, anchors))
    y_true = {
        "classes": np.asarray(targets, np.int32),
        "offsets": RNG.normal(0, 1, (2, anchors, 4)).astype(np.float32),
        "boxes": random_boxes(2, anchors),
    }
    y_pred = {
        "logits": RNG.normal(0, 2, (2, anchors, classes)).astype(np.float32),
        "offsets": RNG.normal(0, 1, (2, anchors, 4)).astype(np.float32),
        "boxes": random_boxes(2, anchors),
    }
    as_tensors = lambda d: {k: tf.constant(v) for k, v in d.items()}  # noqa: E731
    return as_tensors(y_true), as_tensors(y_pred)


def oracle(y_true, y_pred, coupling="paper", task_contrasting=True, iou_loss="hiou"):
    """The whole loss in float64, sample by sample."""
    y_true = {k: np.asarray(v, np.float64) for k, v in y_true.items()}
    y_pred = {k: np.asarray(v, np.float64) for k, v in y_pred.items()}
    total = np.zeros(y_true["classes"].shape)
    for i, j in np.ndindex(total.shape):
        k = int(y_true["classes"][i, j])
        if k == IGNORED:
            continue
        p = 1 / (1 + np.exp(-y_pred["logits"][i, j]))
        ce = 0.0
        for c, score in enumerate(p):
            if c == k:
                ce += -0.25 * (1 - score) ** 2 * np.log(score)
            else:
                ce += -0.75 * score**2 * np.log(1 - score)
        if k == BACKGROUND:
            total[i, j] = ce
            continue
        a, b = y_true["boxes"][i, j], y_pred["boxes"][i, j]
        w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        shared = max(w, 0) * max(h, 0)
        iou = shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)
        d = np.abs(y_true["offsets"][i, j] - y_pred["offsets"][i, j])
        loc = np.sum(np.where(d < 1, 0.5 * d**2, d - 0.5))
        if iou_loss == "hiou":
            loc += 1.5 * (1 + iou) ** 0.8 * (1 - iou)
        elif iou_loss == "iou":
            loc += 1.5 * (1 - iou)
        both = (1 + np.exp(-loc)) * ce + (1 + np.exp(-ce)) * loc if coupling else ce + loc
        total[i, j] = both
        if task_contrasting:
            entropy = -np.sum(p * np.log(p))
            total[i, j] += max(abs(p[k] - iou) - 0.2, 0) / (1 + np.exp(entropy))
    return total


@pytest.mark.parametrize(
    "switches",
    [
        dict(zip(("coupling", "task_contrasting", "iou_loss"), values))
        for values in itertools.product(("paper", None), (True, False), ("hiou", "iou", None))
    ],
    ids=str,
)
def test_every_combination_of_terms_against_numpy(switches):
    y_true, y_pred = batch()
    loss = HarmonicLoss(**switches)
    np.testing.assert_allclose(
        loss.call(y_true, y_pred), oracle(y_true, y_pred, **switches), rtol=1e-4, atol=1e-5
    )


def unit_oracle(y_true, y_pred, smooth_l1_weight, iou_weight):
    """Cross entropy on soft targets, smooth L1 and HIoU, coupled on one scale, in float64."""
    y_true = {k: np.asarray(v, np.float64) for k, v in y_true.items()}
    y_pred = {k: np.asarray(v, np.float64) for k, v in y_pred.items()}
    total = np.zeros(y_true["classes"].shape)
    for i, j in np.ndindex(total.shape):
        k, t = int(y_true["classes"][i, j]), y_true["scores"][i, j]
        p = 1 / (1 + np.exp(-y_pred["logits"][i, j]))
        labels = t * (np.arange(len(p)) == k)
        ce = -np.sum(labels * np.log(p) + (1 - labels) * np.log(1 - p))
        if k < 0:
            total[i, j] = ce if k == BACKGROUND else 0
            continue
        c = ce + t * np.log(t) + (1 - t) * np.log(1 - t)
        a, b = y_true["boxes"][i, j], y_pred["boxes"][i, j]
        w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        shared = max(w, 0) * max(h, 0)
        iou = shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)
        misplaced = (1 + iou) ** 0.8 * (1 - iou)
        d = np.abs(y_true["offsets"][i, j] - y_pred["offsets"][i, j])
        loc = smooth_l1_weight * np.sum(np.where(d < 1, 0.5 * d**2, d - 0.5))
        loc += iou_weight * misplaced
        total[i, j] = (1 + np.exp(-misplaced)) * c + t * (1 + np.exp(-c)) * loc
    return total


@pytest.mark.parametrize("smooth_l1_weight, iou_weight", [(1.0, 1.5), (0.0, 15.0)])
def test_the_unit_coupling_with_soft_targets_against_numpy(smooth_l1_weight, iou_weight):
    y_true, y_pred = batch()
    scores = RNG.uniform(0.01, 0.99, y_true["classes"].shape).astype(np.float32)
    y_true["scores"] = tf.where(y_true["classes"] >= 0, scores, 0.0)
    arguments = {"smooth_l1_weight": smooth_l1_weight, "iou_weight": iou_weight}
    loss = HarmonicLoss("cross_entropy", coupling="unit", task_contrasting=False, **arguments)
    np.testing.assert_allclose(
        loss.call(y_true, y_pred), unit_oracle(y_true, y_pred, **arguments), rtol=1e-4, atol=1e-5
    )


def gradients_with(y_true, y_pred, **arguments):
    return loss_and_gradients(HarmonicLoss(**arguments), y_true, y_pred)[1]


def test_with_the_unit_coupling_no_unit_or_weight_of_the_boxes_reaches_the_scores():
    y_true, y_pred = batch()
    light, heavy = (
        gradients_with(y_true, y_pred, coupling="unit", iou_weight=w, smooth_l1_weight=w)
        for w in (0.1, 15.0)
    )
    np.testing.assert_array_equal(light["logits"], heavy["logits"])
    paper = gradients_with(y_true, y_pred, coupling="paper", iou_weight=15.0)
    assert not np.allclose(paper["logits"], light["logits"])


def test_with_the_unit_coupling_the_best_score_is_the_target_and_there_b_c_is_1():
    y_true, y_pred = batch(classes=1, targets=np.zeros((2, 40)))
    y_true["scores"] = tf.constant(RNG.uniform(0.05, 0.95, (2, 40)), tf.float32)
    at_target = np.log(y_true["scores"] / (1 - y_true["scores"]))[..., None]
    loss = HarmonicLoss("cross_entropy", coupling="unit", task_contrasting=False)
    for shift, sign in ((-0.5, -1), (0.0, 0), (0.5, 1)):
        y_pred["logits"] = tf.constant(at_target + shift)
        slopes = loss_and_gradients(loss, y_true, y_pred)[1]["logits"].numpy()
        if sign:
            assert np.all(np.sign(slopes) == sign)
        else:
            np.testing.assert_allclose(slopes, 0, atol=1e-6)
            terms = loss.terms(y_true, y_pred)
            np.testing.assert_allclose(terms["b_c"], terms["weights"], rtol=1e-6)


def classified_by(labels, logits, classification):
    """Loss of the class scores by one label a sample, in float64."""
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    true = np.arange(p.shape[-1]) == labels[..., None]
    right = np.where(true, p, 1 - p)
    focal = np.where(true, 0.25, 0.75) * (1 - right) ** 2 if classification == "focal" else 1.0
    return np.where(labels == IGNORED, 0.0, -np.sum(focal * np.log(right), axis=-1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("classification", ["focal", "cross_entropy"])
def test_labels_of_regressed_boxes_add_a_term_and_change_no_other(classification, dtype):
    y_true, y_pred = batch()
    y_pred = {name: tf.cast(value, dtype) for name, value in y_pred.items()}
    labels = RNG.integers(IGNORED, 5, (2, 40))
    with_labels = {**y_true, "regressed_classes": tf.constant(labels)}
    expected = classified_by(labels, tf.cast(y_pred["logits"], tf.float32), classification)
    plain = HarmonicLoss(classification).terms(y_true, y_pred)
    loss = HarmonicLoss(classification, regressed_labels=True)
    for function in (loss.terms, tf.function(loss.terms, jit_compile=True)):
        terms = function(with_labels, y_pred)
        found = terms.pop("regressed_classification")
        np.testing.assert_allclose(found, expected, rtol=2e-5)
        assert terms.keys() == plain.keys()
        for name, value in terms.items():
            np.testing.assert_allclose(value, plain[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_labels_of_regressed_boxes_pull_the_logits_as_labels_of_anchors_do():
    y_true, y_pred = batch()
    labels = tf.constant(RNG.integers(IGNORED, 5, (2, 40)), tf.int32)
    plain = gradients_with(y_true, y_pred)
    both = gradients_with({**y_true, "regressed_classes": labels}, y_pred, regressed_labels=True)
    alone = {**BASELINE, "smooth_l1_weight": 0.0}
    by_label = gradients_with({**y_true, "classes": labels}, y_pred, **alone)["logits"]
    np.testing.assert_allclose(both["logits"], plain["logits"] + by_label, rtol=1e-5, atol=1e-6)
    for name in ("offsets", "boxes"):
        np.testing.assert_array_equal(both[name], plain[name])


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "name, formula", [("qfl", F.quality_focal_loss), ("vfl", F.varifocal_loss)]
)
def test_with_an_overlap_loss_positives_learn_the_iou_of_their_box(name, formula, soft):
    y_true, y_pred = batch(classes=21)
    if soft:  # what an assigner says a positive deserves is its weight, not its target
        scores = RNG.uniform(0, 1, y_true["classes"].shape).astype(np.float32)
        y_true["scores"] = tf.where(y_true["classes"] >= 0, scores, 0.0)
    loss = HarmonicLoss(name, **BASELINE)
    iou = box_ops.iou(y_true["boxes"], y_pred["boxes"])
    labels = iou[..., None] * tf.one_hot(y_true["classes"], 21)
    counted = tf.cast(y_true["classes"] != IGNORED, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(y_pred)
        value = loss.terms(y_true, y_pred)["classification"]
        expected = counted * formula(labels, y_pred["logits"])
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    slopes = (tape.gradient(x, y_pred["logits"]) for x in (value, expected))
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-6)
    assert tape.gradient(value, y_pred["boxes"]) is None  # the target is a constant


@pytest.mark.parametrize("name", ["qfl", "vfl"])
def test_with_the_unit_coupling_b_c_of_an_overlap_loss_is_1_where_the_score_is_the_iou(name):
    y_true, y_pred = batch(classes=1, targets=np.zeros((2, 40)))
    iou = box_ops.iou(y_true["boxes"], y_pred["boxes"])
    iou = tf.clip_by_value(iou, 0.01, 0.99)
    y_pred["logits"] = tf.math.log(iou / (1 - iou))[..., None]
    overlapping = box_ops.iou(y_true["boxes"], y_pred["boxes"]) > 0.01
    b_c = HarmonicLoss(name, coupling="unit").terms(y_true, y_pred)["b_c"]
    np.testing.assert_allclose(b_c[overlapping], 1.0, rtol=1e-5)


def test_terms_add_up_to_the_loss_and_its_reduction():
    y_true, y_pred = batch()
    loss = HarmonicLoss()
    terms = loss.terms(y_true, y_pred)
    total = terms["classification"] + terms["localization"] + terms["task_contrasting"]
    np.testing.assert_allclose(loss(y_true, y_pred), tf.reduce_sum(total), rtol=1e-5)


def test_positives_negatives_and_ignored_are_counted_right():
    targets = [[0, 3, BACKGROUND, BACKGROUND, IGNORED], [IGNORED] * 5]
    y_true, y_pred = batch(anchors=5, targets=targets)
    terms = {k: v.numpy() for k, v in HarmonicLoss().terms(y_true, y_pred).items()}
    np.testing.assert_array_equal(terms["positives"], [[1, 1, 0, 0, 0], [0] * 5])
    assert np.all(terms["classification"][0, :4] > 0)
    assert np.all(terms["localization"][0, :2] > 0)
    assert np.all(terms["localization"][0, 2:] == 0)
    for name, value in terms.items():
        assert np.all(value[1] == 0), name
        assert value[0, 4] == 0, name


def test_negatives_keep_the_plain_classification_loss():
    y_true, y_pred = batch(targets=np.full((2, 40), BACKGROUND))
    full, baseline = (
        HarmonicLoss().call(y_true, y_pred),
        HarmonicLoss(**BASELINE).call(y_true, y_pred),
    )
    np.testing.assert_array_equal(full, baseline)


def test_what_stands_at_samples_that_are_not_positive_does_not_matter():
    targets = RNG.integers(IGNORED, 0, (2, 40))
    y_true, y_pred = batch(targets=targets)
    other_true = {**y_true, "boxes": y_true["boxes"] + 7.0, "offsets": y_true["offsets"] - 3.0}
    np.testing.assert_array_equal(
        HarmonicLoss().call(y_true, y_pred), HarmonicLoss().call(other_true, y_pred)
    )


def loss_and_gradients(loss, y_true, y_pred):
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    return value, tape.gradient(value, y_pred)


def test_without_positives_only_the_logits_learn():
    y_true, y_pred = batch(targets=RNG.integers(IGNORED, 0, (2, 40)))
    value, gradients = loss_and_gradients(HarmonicLoss(), y_true, y_pred)
    assert value > 0
    assert np.all(gradients["logits"].numpy()[y_true["classes"] == BACKGROUND] > 0)
    assert not np.any(gradients["logits"].numpy()[y_true["classes"] == IGNORED])
    assert not np.any(gradients["offsets"]) and not np.any(gradients["boxes"])


@pytest.mark.parametrize(
    "arguments",
    [
        *({"classification": name} for name in CLASSIFICATION_LOSSES),
        {"coupling": "unit"},
        {"coupling": "unit", "classification": "vfl"},
    ],
    ids=str,
)
def test_xla_gives_the_same_loss_and_gradients(arguments):
    y_true, y_pred = batch(classes=21)
    loss = HarmonicLoss(**arguments)
    plain = loss_and_gradients(loss, y_true, y_pred)
    compiled = tf.function(loss_and_gradients, jit_compile=True)(loss, y_true, y_pred)
    np.testing.assert_allclose(plain[0], compiled[0], rtol=1e-5)
    for name, gradient in plain[1].items():
        np.testing.assert_allclose(gradient, compiled[1][name], rtol=1e-4, atol=1e-5)


EXTREMES = list(itertools.product((-1e4, 0.0, 1e4), (-1e4, 0.0, 1e4)))
HARD_BOXES = np.array(
    [[0, 0, 0, 0], [5, 5, 5, 5], [0, 0, 10, 10], [0, 0, 1e4, 1e-3], [-1e5, -1e5, 1e5, 1e5]],
    np.float32,
)


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            {"classification": classification, "iou_loss": iou_loss}
            for classification in ("focal", "cross_entropy")
            for iou_loss in ("hiou", "iou", "giou", "ciou", None)
        ),
        {"coupling": "unit"},
        {"classification": "qfl"},
        {"classification": "vfl", "coupling": "unit"},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", [0, BACKGROUND, IGNORED])
def test_any_finite_input_gives_finite_values_and_gradients(arguments, target):
    cases = list(itertools.product(EXTREMES, HARD_BOXES, HARD_BOXES))
    logits = tf.constant([[case[0]] for case in cases], tf.float32)
    offsets = tf.repeat(logits, 2, axis=-1)
    boxes = tf.constant(np.array([[case[2]] for case in cases]))
    y_true = {
        "classes": tf.fill(logits.shape[:2], target),
        "offsets": tf.zeros_like(offsets),
        "boxes": tf.constant(np.array([[case[1]] for case in cases])),
    }
    loss = HarmonicLoss(**arguments)
    with tf.GradientTape() as tape:
        tape.watch([logits, offsets, boxes])
        value = loss(y_true, {"logits": logits, "offsets": offsets, "boxes": boxes})
    assert np.isfinite(value)
    for g in tape.gradient(value, [logits, offsets, boxes], unconnected_gradients="zero"):
        assert np.all(np.isfinite(g))


@pytest.mark.parametrize(
    "loss",
    [
        HarmonicLoss(classification="cross_entropy", iou_loss="giou", margin=0.1),
        HarmonicLoss(coupling="unit", name="unit"),
        HarmonicLoss(**BASELINE, stop_gradient=True, reduction="none", name="mine"),
        HarmonicIoULoss(gamma=0.5, bounding_box_format="xywh"),
        TaskContrastingLoss(margin=0.3),
    ],
    ids=lambda loss: loss.name,
)
def test_losses_survive_serialization(loss):
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"classification": "softmax"}, "classification = 'softmax'"),
        ({"iou_loss": "diou"}, "iou_loss = 'diou'"),
        ({"batch_loss": "spearman"}, "batch_loss = 'spearman' is unknown"),
        ({"coupling": "harmonic"}, "coupling = 'harmonic' is unknown. Choose one of 'paper'"),
        ({"iou_gamma": 1.2}, "gamma = 1.2"),
        ({"iou_weight": -1.0}, "iou_weight = -1.0"),
        ({"margin": 1.5}, "margin = 1.5"),
        ({"focal_alpha": 2.0}, "focal_alpha = 2.0"),
        ({"classification": "qfl", "focal_gamma": 0.5}, "focal_gamma = 0.5 gives the quality"),
        ({"smooth_l1_beta": 0.0}, "smooth_l1_beta = 0.0"),
    ],
)
def test_nonsense_is_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        HarmonicLoss(**arguments)


def test_harmonic_iou_loss_agrees_in_every_format():
    truth, prediction = random_boxes(30), random_boxes(30)

    def to_xywh(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    as_xyxy = HarmonicIoULoss(reduction="none")(truth, prediction)
    as_xywh = HarmonicIoULoss(bounding_box_format="xywh", reduction="none")(
        to_xywh(truth), to_xywh(prediction)
    )
    np.testing.assert_allclose(as_xyxy, as_xywh, rtol=1e-4)
    assert as_xyxy.shape == (30,)


def test_harmonic_iou_loss_refuses_relative_formats():
    with pytest.raises(ValueError, match="rel_xyxy"):
        HarmonicIoULoss(bounding_box_format="rel_xyxy")


def test_task_contrasting_loss_alone_equals_its_term_in_the_joint_loss():
    y_true, y_pred = batch()
    terms = HarmonicLoss().terms(y_true, y_pred)
    iou = terms["iou"]  # 0 where there is no positive, which counts nowhere either
    alone = TaskContrastingLoss(reduction="none").call(
        {"classes": y_true["classes"], "iou": iou}, y_pred["logits"]
    )
    np.testing.assert_allclose(alone, terms["task_contrasting"], rtol=1e-5, atol=1e-7)

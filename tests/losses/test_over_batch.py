"""Losses over the whole batch: against NumPy, by finite differences, and in parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import tf
from harmonic_tf.losses import BACKGROUND, BATCH_LOSSES, IGNORED, HarmonicLoss
from harmonic_tf.losses.over_batch import Samples, shares
from tests.losses.test_harmonic_loss import BASELINE, batch, loss_and_gradients

RNG = np.random.default_rng(5)
# What flows gradient: the IoU is a constant everywhere.
LEARNED = ("score", "classification", "localization")


def random_samples(count=12, negatives=3, soft=False):
    positive = np.r_[np.ones(count - negatives), np.zeros(negatives)]
    return Samples(
        positive=positive,
        weight=positive * (RNG.uniform(0.1, 1, count) if soft else 1),
        score=RNG.uniform(0.05, 0.95, count),
        iou=RNG.uniform(0.05, 0.95, count),
        classification=RNG.uniform(0.1, 3, count),
        localization=RNG.uniform(0.1, 3, count),
    )


def correlation(x, rho):
    p = x.positive > 0
    return {"correlation": x.weight.sum() * (1 - rho(x.score[p], x.iou[p]))}


def concordance(s, u):
    return 2 * np.cov(s, u, bias=True)[0, 1] / (s.var() + u.var() + (s.mean() - u.mean()) ** 2)


def carl(x):
    v = 0.2 + 0.8 * x.score
    mean = np.average(v, weights=x.weight)
    return {"localization": np.sum(x.weight * v / mean * x.localization)}


def iou_balanced(x, fixed=None):
    """`fixed` has the losses that the weights are made of, which are constants."""
    c = x.positive * (fixed or x).classification
    w = x.iou**1.5 * c.sum() / np.sum(x.iou**1.5 * c)
    return {
        "classification": np.sum(w * x.positive * x.classification),
        "localization": np.sum(x.weight * x.iou**1.5 * x.localization),
    }


ORACLES = {
    "pearson": lambda x, _: correlation(x, lambda s, u: np.corrcoef(s, u)[0, 1]),
    "concordance": lambda x, _: correlation(x, concordance),
    "carl": lambda x, _: carl(x),
    "iou_balanced": iou_balanced,
}


def summed(tensors):
    return {name: tf.reduce_sum(value) for name, value in tensors.items()}


def values_and_slopes(name, x, sums=None):
    """Each term over the given samples, and its gradient by what is learned."""
    loss = BATCH_LOSSES[name]
    x = Samples(*(tf.constant(value) for value in x))
    learned = [getattr(x, field) for field in LEARNED]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([*learned, x.iou])
        summands = loss.summands(x)
        terms = summed(shares(loss, summands, sums or summed(summands)))
    slopes = {
        term: tape.gradient(v, learned, unconnected_gradients="zero") for term, v in terms.items()
    }
    assert all(tape.gradient(v, x.iou) is None for v in terms.values())
    return terms, slopes


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_value_and_gradient_are_those_of_the_formula_over_the_whole_batch(name, soft):
    x = random_samples(soft=soft)
    oracle, step = ORACLES[name], 1e-6
    terms, slopes = values_and_slopes(name, x)
    expected = oracle(x, x)
    assert terms.keys() == expected.keys()
    for term, value in terms.items():
        np.testing.assert_allclose(value, expected[term], rtol=1e-9)
        for field, slope in zip(LEARNED, slopes[term]):
            for i in range(len(slope)):
                up, down = (
                    x._replace(**{field: getattr(x, field) + d * (np.arange(len(slope)) == i)})
                    for d in (step, -step)
                )
                difference = (oracle(up, x)[term] - oracle(down, x)[term]) / (2 * step)
                np.testing.assert_allclose(slope[i], difference, atol=1e-7, err_msg=field)


@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_parts_that_know_the_sums_of_all_add_up_to_the_whole(name):
    x = random_samples(count=20, soft=True)
    whole, slopes = values_and_slopes(name, x)
    parts = [Samples(*(value[part] for value in x)) for part in (slice(7), slice(7, None))]
    loss = BATCH_LOSSES[name]
    sums = [summed(loss.summands(Samples(*map(tf.constant, part)))) for part in parts]
    total = {key: sums[0][key] + sums[1][key] for key in sums[0]}
    shared = [values_and_slopes(name, part, total) for part in parts]
    for term, value in whole.items():
        np.testing.assert_allclose(sum(part[0][term] for part in shared), value, rtol=1e-9)
        for i, slope in enumerate(slopes[term]):
            joined = np.concatenate([part[1][term][i] for part in shared])
            np.testing.assert_allclose(joined, slope, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 0.9), st.floats(0.05, 0.5), st.booleans())
def test_correlation_losses_vanish_for_scores_that_are_the_ious(mean, scale, shifted):
    iou = mean + scale * np.array([-0.2, 0.0, 0.1, 0.15])
    x = random_samples(4, 0)._replace(iou=iou, score=0.5 * iou if shifted else iou)
    (pearson,) = values_and_slopes("pearson", x)[0].values()
    (concordant,) = values_and_slopes("concordance", x)[0].values()
    np.testing.assert_allclose(pearson, 0, atol=1e-6)  # whatever scale and shift
    if shifted:
        assert concordant > 0.01
    else:
        np.testing.assert_allclose(concordant, 0, atol=1e-6)


def test_equal_scores_leave_carl_and_equal_ious_leave_iou_balanced_the_plain_loss():
    x = random_samples()._replace(score=np.full(12, 0.3), iou=np.full(12, 0.6))
    boxes = sum(x.weight * x.localization)
    np.testing.assert_allclose(values_and_slopes("carl", x)[0]["localization"], boxes)
    terms = values_and_slopes("iou_balanced", x)[0]
    np.testing.assert_allclose(terms["classification"], sum(x.positive * x.classification))
    np.testing.assert_allclose(terms["localization"], 0.6**1.5 * boxes)


@pytest.mark.parametrize("name", BATCH_LOSSES)
@pytest.mark.parametrize("positives", [0, 1, 2])
@pytest.mark.parametrize("score, iou", [(0.5, 0.5), (0.0, 0.7), (1.0, 0.0)])
def test_few_or_equal_positives_give_finite_values_and_gradients(name, positives, score, iou):
    x = random_samples(4, 4 - positives)._replace(score=np.full(4, score), iou=np.full(4, iou))
    x = Samples(*(value.astype(np.float32) for value in x))
    terms, slopes = values_and_slopes(name, x)
    for term, value in terms.items():
        assert np.isfinite(value)
        assert np.all(np.isfinite(slopes[term]))
        if positives < 2 and term == "correlation":
            assert value == 0


@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_in_the_joint_loss_its_term_is_the_formula_and_the_others_stay(name):
    y_true, y_pred = batch()
    scores = RNG.uniform(0.1, 1, y_true["classes"].shape).astype(np.float32)
    y_true["scores"] = tf.where(y_true["classes"] >= 0, scores, 0.0)
    arguments = {**BASELINE, "classification": "cross_entropy", "iou_loss": "hiou"}
    plain = HarmonicLoss(**arguments).terms(y_true, y_pred)
    loss = HarmonicLoss(**arguments, batch_loss=name, correlation_weight=0.3)
    terms = loss.terms(y_true, y_pred)
    positive = y_true["classes"].numpy() >= 0
    labels = np.maximum(y_true["classes"], 0)[..., None]
    logit = np.take_along_axis(y_pred["logits"].numpy(), labels, -1)[..., 0].astype(np.float64)
    weight = np.where(positive, scores, 0.0)
    x = Samples(
        *(positive * 1.0, weight, 1 / (1 + np.exp(-logit))),
        plain["iou"] / np.where(positive, scores, 1),
        np.where(positive, plain["classification"], 0),
        plain["localization"] / np.where(positive, scores, 1),
    )
    x = Samples(*(np.asarray(value, np.float64).ravel() for value in x))
    expected = ORACLES[name](x, x)
    for term in loss.term_names:
        own = terms[term].numpy()
        if term in expected:
            factor = 0.3 if term == "correlation" else 1.0
            np.testing.assert_allclose(own[positive].sum(), factor * expected[term], rtol=1e-4)
            own = own[~positive]
            assert term != "correlation" or not own.any()
        if term != "correlation":
            others = plain[term].numpy()
            np.testing.assert_array_equal(own, others[~positive] if term in expected else others)


@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_pictures_apart_that_know_the_sums_of_all_have_the_gradients_of_the_batch(name):
    y_true, y_pred = batch()
    loss = HarmonicLoss(coupling="unit", batch_loss=name)
    value, gradients = loss_and_gradients(loss, y_true, y_pred)
    apart = [
        [{key: tensor[i : i + 1] for key, tensor in side.items()} for side in (y_true, y_pred)]
        for i in range(2)
    ]
    sums = [loss.batch_sums(*sides) for sides in apart]
    total = {key: sums[0][key] + sums[1][key] for key in sums[0]}

    def value_given(y_true, y_pred):
        terms = loss.terms(y_true, y_pred, total)
        return tf.add_n([tf.reduce_sum(terms[term]) for term in loss.term_names])

    parts = [loss_and_gradients(value_given, *sides) for sides in apart]
    np.testing.assert_allclose(parts[0][0] + parts[1][0], value, rtol=1e-5)
    for key, gradient in gradients.items():
        joined = np.concatenate([part[1][key] for part in parts])
        np.testing.assert_allclose(joined, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_xla_gives_the_same(name):
    y_true, y_pred = batch()
    loss = HarmonicLoss(**BASELINE, batch_loss=name)
    plain = loss_and_gradients(loss, y_true, y_pred)
    compiled = tf.function(loss_and_gradients, jit_compile=True)(loss, y_true, y_pred)
    np.testing.assert_allclose(plain[0], compiled[0], rtol=1e-5)
    np.testing.assert_allclose(plain[1]["logits"], compiled[1]["logits"], rtol=1e-3, atol=1e-6)


def test_without_positives_nothing_of_it_is_left():
    y_true, y_pred = batch(targets=RNG.integers(IGNORED, 0, (2, 40)))
    plain = loss_and_gradients(HarmonicLoss(**BASELINE), y_true, y_pred)
    for name in BATCH_LOSSES:
        ours = loss_and_gradients(HarmonicLoss(**BASELINE, batch_loss=name), y_true, y_pred)
        np.testing.assert_array_equal(ours[0], plain[0])
        np.testing.assert_array_equal(ours[1]["logits"], plain[1]["logits"])
    assert np.any(y_true["classes"] == BACKGROUND)


def test_nothing_is_summed_where_no_loss_looks_at_the_batch():
    assert HarmonicLoss().batch_sums(*batch()) == {}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_predictions_in_half_precision_are_summed_in_float32(dtype):
    y_true, y_pred = batch()
    half = {name: tf.cast(value, dtype) for name, value in y_pred.items()}
    exact = {name: tf.cast(value, tf.float32) for name, value in half.items()}
    loss = HarmonicLoss("vfl", coupling="unit", batch_loss="concordance")
    for ours, expected in (
        (loss.terms(y_true, half), loss.terms(y_true, exact)),
        (loss.batch_sums(y_true, half), loss.batch_sums(y_true, exact)),
    ):
        for name, value in ours.items():
            assert value.dtype == tf.float32
            np.testing.assert_array_equal(value, expected[name])

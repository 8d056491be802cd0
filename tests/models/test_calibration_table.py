"""Calibrated scores in a graph: looked up as NumPy does, in order, kept by what is saved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harmonic_tf.backend import keras, tf
from harmonic_tf.models import NMS_CHOICES, DetectionDecoder, PortableDecoder
from harmonic_tf.models.calibration import calibrated

CLASSES, KNOTS = 3, 101


def rising_table(seed=0, classes=CLASSES, knots=KNOTS):
    """Rows with plateaus that all but level scores, as isotonic regression gives them."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0, 1, (classes, knots)) * (rng.uniform(0, 1, (classes, knots)) < 0.1)
    rises = np.cumsum(steps + 1e-3 / knots, axis=1)
    return rises / rises[:, -1:] * rng.uniform(0.5, 1, (classes, 1))


def looked_up(scores, classes, table):
    """The same by NumPy, in float64."""
    knots = np.linspace(0, 1, table.shape[1])
    rows = [np.interp(s, knots, table[k]) for s, k in zip(scores.ravel(), classes.ravel())]
    return np.reshape(rows, scores.shape)


@settings(deadline=None, max_examples=50)
@given(
    scores=arrays.arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32)),
    knots=st.integers(2, 120),
    seed=st.integers(0, 99),
)
def test_calibrated_scores_are_interpolated(scores, knots, seed):
    table = rising_table(seed, 5, knots)
    classes = np.broadcast_to(np.arange(5), (4, 5))
    found = calibrated(tf.constant(scores), tf.range(5), table)
    np.testing.assert_allclose(found, looked_up(scores, classes, table), atol=1e-6)


def test_knots_are_calibrated_exactly():
    table = rising_table()
    scores = np.linspace(0, 1, KNOTS, dtype=np.float32)
    found = calibrated(tf.constant(scores[:, None]), tf.range(CLASSES), table)
    np.testing.assert_allclose(found, table.T, atol=1e-6)


def predictions(seed=3):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (2, 50, 2)), rng.uniform(10, 40, (2, 50, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    return boxes, rng.uniform(0, 1, (2, 50, CLASSES)).astype(np.float32)


def decoded(decoder, batch, boxes, scores, **thresholds):
    specs = [tf.TensorSpec([batch, 50, size], tf.float32) for size in (4, CLASSES)]
    function = tf.function(lambda b, s: decoder(b, s, **thresholds), input_signature=specs)
    return {name: value.numpy() for name, value in function(boxes, scores).items()}


def by_numpy(raw, table, above=0.0):
    """What a calibrated decoder has to make of the detections of the same one without a table."""
    found = {name: value.copy() for name, value in raw.items()}
    scores = looked_up(raw["confidence"], raw["classes"], table)
    scores[(raw["classes"] < 0) | (scores <= above)] = -1
    order = np.argsort(-scores, axis=1, kind="stable")
    for name, value in (*raw.items(), ("confidence", scores)):
        if name != "num_detections":
            value = np.array([v[o] for v, o in zip(value, order)])
            value[np.take_along_axis(scores, order, 1) < 0] = -1
            found[name] = value
    return {**found, "num_detections": np.sum(scores >= 0, axis=1)}


@pytest.mark.parametrize("nms", NMS_CHOICES)
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_detections_are_those_of_raw_scores_with_calibrated_ones(nms, class_agnostic):
    table, arguments = rising_table(), (0.2, 0.5, 30, nms, class_agnostic)
    raw = decoded(DetectionDecoder(*arguments), None, *predictions())
    expected = by_numpy(raw, table)
    for cls, batch in ((DetectionDecoder, None), (PortableDecoder, 2)):
        found = decoded(cls(*arguments, calibration=table), batch, *predictions())
        np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-6)
        for name in ("boxes", "classes", "num_detections"):
            np.testing.assert_array_equal(found[name], expected[name])


def test_the_threshold_of_a_call_is_one_of_calibrated_scores():
    table = rising_table()
    raw = decoded(DetectionDecoder(0.2), None, *predictions())
    decoder = DetectionDecoder(0.2, calibration=table)
    middle = float(np.median(by_numpy(raw, table)["confidence"][:, :20]))
    found = decoded(decoder, None, *predictions(), score_threshold=middle)
    expected = by_numpy(raw, table, above=middle)
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-6)
    assert np.all(found["num_detections"] < raw["num_detections"])
    # The decoder's own is one of raw scores, and holds in any case.
    lowest = decoded(decoder, None, *predictions(), score_threshold=decoder.lowest_score)
    np.testing.assert_array_equal(lowest["num_detections"], raw["num_detections"])
    assert (decoder.lowest_score, DetectionDecoder(0.2).lowest_score) == (0.0, 0.2)


def test_equal_calibrated_scores_keep_the_order_of_raw_ones():
    table = np.tile(0.5 + 1e-12 * np.arange(KNOTS), (CLASSES, 1))  # equal in float32
    found = decoded(DetectionDecoder(0.2, calibration=table), None, *predictions())
    raw = decoded(DetectionDecoder(0.2), None, *predictions())
    assert set(found["confidence"][raw["confidence"] > 0]) == {np.float32(0.5)}
    np.testing.assert_array_equal(found["boxes"], raw["boxes"])


def test_dense_scores_are_calibrated_class_by_class():
    table, (_, scores) = rising_table(), predictions()
    classes = np.broadcast_to(np.arange(CLASSES), scores.shape)
    found = DetectionDecoder(calibration=table).calibrate_dense(tf.constant(scores))
    np.testing.assert_allclose(found, looked_up(scores, classes, table), atol=1e-6)
    np.testing.assert_array_equal(DetectionDecoder().calibrate_dense(scores), scores)


def test_a_calibration_is_kept_by_what_is_saved():
    decoder = DetectionDecoder(0.3, nms="soft", calibration=rising_table())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
    np.testing.assert_array_equal(again.calibration, decoder.calibration)
    without = again.calibrated_by(None)
    assert without.calibration is None
    assert (without.score_threshold, without.nms) == (0.3, "soft")
    portable = PortableDecoder(**decoder.get_config())
    np.testing.assert_array_equal(portable.calibration, decoder.calibration)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (7, "calibration = 7 is not a list of one row a class"),
        ([], "calibration = .* is not a list"),
        ([0.0, 1.0], "is not a list"),
        ([[0.0], [1.0]], "2 at least"),
        ([[0.0, 1.0], [0.0, 0.5, 1.0]], "is not a list"),
        ([["a", "b"]], "is not a list"),
        ([[0.0, 1.0], [0.5, 0.5]], r"row 1 = \[0.5, 0.5\] does not rise"),
        ([[0.0, 1.5]], "row 0 = .* within"),
        ([[0.0, float("nan")]], "row 0 = .* does not rise"),
    ],
)
def test_what_is_no_calibration_is_refused(table, words):
    with pytest.raises(ValueError, match=words):
        DetectionDecoder(calibration=table)


def test_a_calibration_of_other_classes_is_refused():
    decoder, (boxes, scores) = DetectionDecoder(calibration=rising_table(classes=2)), predictions()
    for call in (lambda: decoder(boxes, scores), lambda: decoder.calibrate_dense(scores)):
        with pytest.raises(ValueError, match=r"calibration has 2 rows, .* of 3 classes"):
            call()

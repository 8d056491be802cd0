"""Batch normalization in one operation gives what Keras's own gives."""

import numpy as np
import pytest

from harmonic_tf.backend import fuse_batch_norms, keras, tf, value_of

SHAPE = (3, 5, 4, 6)


def network(axis=-1, shape=SHAPE, policy="float32"):
    layer = keras.layers.BatchNormalization(axis=axis, momentum=0.8, epsilon=1e-2, dtype=policy)
    images = keras.Input(shape[1:], batch_size=shape[0])
    model = keras.Model(images, layer(images))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    return model, layer


def trained(model, images, gradient):
    """Outputs, gradients and running statistics of a training step."""
    variables = [value_of(weight) for weight in model.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = tf.cast(model(images, training=True), tf.float32)
        loss = tf.reduce_sum(outputs * gradient)
    gradients = tape.gradient(loss, [images, *variables])
    return [outputs, *gradients], [value_of(w) for w in model.non_trainable_weights]


def random(seed, shape=SHAPE):
    return tf.constant(np.random.default_rng(seed).normal(3, 2, shape), tf.float32)


@pytest.mark.parametrize("policy, tolerance", [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_outputs_gradients_and_statistics(policy, tolerance):
    images, gradient = random(1), random(2)
    results = []
    for fused in (False, True):
        model, _ = network(policy=policy)
        if fused:
            fuse_batch_norms(model)
        results.append(trained(model, images, gradient))
    (plain, plain_statistics), (fast, statistics) = results
    for expected, value in zip(plain, fast):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * scale)
    rtol = max(tolerance, 1e-5)
    np.testing.assert_allclose(statistics[0], plain_statistics[0], rtol=rtol)


def test_running_statistics_are_of_the_population_that_the_batch_is_drawn_from():
    images = random(1)
    model, layer = network()
    before = [value_of(w).numpy() for w in (layer.moving_mean, layer.moving_variance)]
    fuse_batch_norms(model)
    trained(model, images, random(2))
    pixels = images.numpy().reshape(-1, SHAPE[-1]).astype(np.float64)
    after = [
        0.8 * old + 0.2 * new for old, new in zip(before, (pixels.mean(0), pixels.var(0, ddof=1)))
    ]
    np.testing.assert_allclose(value_of(layer.moving_mean), after[0], rtol=1e-5)
    np.testing.assert_allclose(value_of(layer.moving_variance), after[1], rtol=1e-5)


def test_frozen_layers_and_inference_are_left_as_they_are():
    images = random(1)
    for training, trainable in ((False, True), (True, False)):
        model, layer = network()
        layer.trainable = trainable
        expected = model(images, training=training)
        fuse_batch_norms(model)
        fuse_batch_norms(model)
        np.testing.assert_array_equal(model(images, training=training), expected)


@pytest.mark.parametrize("axis, shape", [(1, SHAPE), (-1, (3, 5, 6))])
def test_other_layouts_are_keras_own(axis, shape):
    images, gradient = random(1, shape), random(2, shape)
    (plain, before), (fast, after) = (
        trained(network(axis, shape)[0], images, gradient),
        trained(fused(network(axis, shape)[0]), images, gradient),
    )
    for expected, value in zip([*plain, *before], [*fast, *after]):
        np.testing.assert_array_equal(value, expected)


def fused(model):
    fuse_batch_norms(model)
    return model

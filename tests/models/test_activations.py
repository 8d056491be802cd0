"""Swish with a gradient in one pass: the same function, in every precision and inside of models."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, layers_in, tf
from harmonic_tf.models.activations import choose_swish, fused_swish


def value_and_gradient(function, features, upstream):
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = function(features)
    return value, tape.gradient(value, features, output_gradients=upstream)


@pytest.mark.parametrize("dtype", ("float32", "bfloat16", "float16"))
def test_value_and_gradient(dtype):
    """Against float64; far out too, where the sigmoid is 0 or 1."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 3, 500), [-90.0, -20.0, 0.0, 20.0, 90.0]])
    features = tf.constant(x, dtype)
    upstream = tf.constant(rng.normal(size=x.shape), dtype)
    value, gradient = value_and_gradient(fused_swish, features, upstream)
    x, g = (tensor.numpy().astype(np.float64) for tensor in (features, upstream))
    gate = 1 / (1 + np.exp(-x))
    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
    assert value.dtype == gradient.dtype == features.dtype
    np.testing.assert_allclose(value.numpy().astype(float), x * gate, tolerance, tolerance)
    expected = g * (gate + x * gate * (1 - gate))
    np.testing.assert_allclose(gradient.numpy().astype(float), expected, tolerance, tolerance)


@pytest.mark.parametrize("tiny", ["yolov8"], indirect=True)
def test_chosen_by_compile_and_not_saved(tiny, tmp_path):
    model = tiny.model()
    outputs = model(tiny.pictures()[0])

    def swishes(model):
        layers = [layer for layer in layers_in(model) if isinstance(layer, keras.layers.Activation)]
        return {layer.activation for layer in layers} & {fused_swish, keras.activations.swish}

    assert swishes(model) == {keras.activations.swish}
    model.compile("sgd", jit_compile="auto")
    assert swishes(model) == {fused_swish}
    for name, output in model(tiny.pictures()[0]).items():
        np.testing.assert_allclose(output.numpy(), outputs[name].numpy(), rtol=1e-5, atol=1e-5)
    model.save(tmp_path / "model.keras")
    assert swishes(keras.models.load_model(tmp_path / "model.keras", compile=False)) == {
        keras.activations.swish
    }
    model.compile("sgd", jit_compile=False)
    assert swishes(model) == {keras.activations.swish}


def test_other_activations_are_left_alone():
    inputs = keras.Input([4])
    model = keras.Model(inputs, keras.layers.Activation("relu")(inputs))
    choose_swish(model, fused=True)
    assert model.layers[-1].activation is keras.activations.relu

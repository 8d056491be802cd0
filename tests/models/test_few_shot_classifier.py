"""The cosine classifier of few-shot learning: against NumPy, its identities, and in a detector."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf, traced, value_of
from harmonic_tf.models.cosine import SCALE, CosineConv2D
from tests.models.conftest import CLASSES, pictures, tiny_retinanet


def random_layer(filters=5, channels=4, **kwargs):
    layer = CosineConv2D(filters, 3, padding="same", **kwargs)
    layer.build((None, None, None, channels))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0, 3, weight.shape) for weight in layer.get_weights()])
    return layer


def features(seed=1, channels=4):
    return np.random.default_rng(seed).normal(0, 2, (2, 6, 5, channels)).astype(np.float32)


def oracle(images, kernel, bias):
    """Place by place, in float64."""
    images, kernel, bias = (value.astype(np.float64) for value in (images, kernel, bias))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.empty((*images.shape[:3], kernel.shape[-1]))
    for b, y, x, k in np.ndindex(out.shape):
        patch, weights = padded[b, y : y + 3, x : x + 3].ravel(), kernel[..., k].ravel()
        cosine = patch @ weights / (np.linalg.norm(patch) * np.linalg.norm(weights))
        out[b, y, x, k] = SCALE * cosine + bias[k]
    return out


@pytest.mark.parametrize("jit_compile", (False, True))
def test_few_shot_classifier_is_the_scaled_cosine(jit_compile):
    layer, images = random_layer(), features()
    answer = traced(lambda x: layer(x), jit_compile=jit_compile)(tf.constant(images))
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(answer.numpy(), oracle(images, kernel, bias), atol=2e-5)


def test_few_shot_classifier_sees_no_lengths():
    layer, images = random_layer(), features()
    before = layer(images).numpy()
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * np.linspace(0.1, 50, kernel.shape[-1]), bias])
    np.testing.assert_allclose(layer(images * 7.0).numpy(), before, atol=2e-5)
    assert np.all(np.abs(before - bias) <= SCALE * (1 + 1e-6))


@pytest.mark.parametrize("jit_compile", (False, True))
def test_few_shot_classifier_has_a_gradient_where_there_are_no_features(jit_compile):
    layer = random_layer()
    kernel, bias = layer.get_weights()
    layer.set_weights([np.where(np.arange(5) == 2, 0.0, kernel), bias])
    images = tf.constant(np.where(np.arange(6)[None, :, None, None] < 3, 0.0, features()))
    images = tf.cast(images, tf.float32)

    def answer_and_gradients(images):
        variables = [value_of(variable) for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(images)
            answer = layer(images)
            loss = tf.reduce_sum(answer**2)
        return answer, tape.gradient(loss, [images, *variables])

    answer, gradients = traced(answer_and_gradients, jit_compile=jit_compile)(images)
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)
    np.testing.assert_array_equal(answer[:, 0], np.broadcast_to(bias, (2, 5, 5)))
    np.testing.assert_array_equal(answer[..., 2], np.full((2, 6, 5), bias[2]))


def test_few_shot_classifier_computes_in_float32(mixed_bfloat16):
    layer, images = random_layer(), features()
    exact = tf.cast(tf.cast(images, tf.bfloat16), tf.float32).numpy()
    answer = layer(tf.cast(images, tf.bfloat16))
    assert answer.dtype == tf.float32
    np.testing.assert_allclose(answer.numpy(), oracle(exact, *layer.get_weights()), atol=2e-5)


def test_few_shot_classifier_in_a_detector(mixed_bfloat16, tmp_path):
    model = tiny_retinanet(cosine_classifier=True)
    head = model.get_layer("classification_head")
    assert isinstance(head.prediction, CosineConv2D)
    assert not isinstance(model.get_layer("box_head").prediction, CosineConv2D)
    images, labels = pictures()
    model.compile("adam", jit_compile=False)
    before = head.prediction.get_weights()
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert np.isfinite(logs["loss"])
    for old, new in zip(before, head.prediction.get_weights()):
        assert (old != new).any()
    expected = model(images, training=False)
    assert expected["classification"].shape[-1] == CLASSES
    model.save(tmp_path / "cosine.keras")
    loaded = keras.models.load_model(tmp_path / "cosine.keras", compile=False)
    assert loaded.cosine_classifier
    for name, value in loaded(images, training=False).items():
        np.testing.assert_array_equal(value.numpy(), expected[name].numpy())

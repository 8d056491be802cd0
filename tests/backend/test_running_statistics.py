"""Batch normalization's running statistics: of all replicas together, and in a training's state."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, keras_cv, state_of, tf, value_of
from harmonic_tf.models import HarmonicRetinaNet
from tests.tiny import SIZE, TinyBackbone


def retinanet(backbone=None, seed=0):
    keras.utils.set_random_seed(seed)
    return HarmonicRetinaNet(backbone or TinyBackbone(), 2, "xyxy", channels=8, head_depth=0)


def pictures(count):
    images = np.random.default_rng(0).uniform(0, 255, (count, SIZE, SIZE, 3)).astype(np.float32)
    images[: count // 2] /= 8  # so that the halves differ
    labels = {
        "boxes": np.tile(np.float32([[4, 4, 40, 44]]), (count, 1, 1)),
        "classes": np.zeros((count, 1), np.float32),
    }
    return images, labels


def statistics(model):
    weights = [weight for weight in model.weights if "moving" in weight.name]
    assert weights
    return [value_of(weight) for weight in weights]


def after_a_step(images, labels, strategy=None):
    with (strategy or tf.distribute.get_strategy()).scope():
        model = retinanet()
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False, run_eagerly=strategy is None)
    data = tf.data.Dataset.from_tensors((images, labels)).unbatch().batch(len(images))
    model.fit(data, verbose=0)
    return model


def test_two_replicas_keep_the_mean_of_what_each_has_seen():
    images, labels = pictures(4)
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    shared = statistics(after_a_step(images, labels, strategy))
    halves = [
        statistics(after_a_step(images[part], {name: v[part] for name, v in labels.items()}))
        for part in (slice(0, 2), slice(2, 4))
    ]
    differ = 0
    for both, first, second in zip(shared, *halves):
        first, second = first.numpy(), second.numpy()
        differ += not np.allclose(first, second, rtol=0.01)
        np.testing.assert_allclose(both.numpy(), (first + second) / 2, rtol=1e-4, atol=1e-7)
    assert differ > 2


@pytest.mark.parametrize("kind", ["CSPDarkNetBackbone", "YOLOV8Backbone"])
def test_a_state_holds_every_weight_of_nested_blocks(kind, tmp_path):
    def model(seed):
        backbone = getattr(keras_cv.models, kind)(
            stackwise_channels=[8] * 4,
            stackwise_depth=[1] * 4,
            include_rescaling=True,
            input_shape=(SIZE, SIZE, 3),
        )
        return retinanet(backbone, seed)

    saved, restored = model(0), model(1)
    rng = np.random.default_rng(0)
    for weight in saved.weights:
        weight.assign(rng.uniform(size=weight.shape))
    path = tf.train.Checkpoint(model=state_of(saved)).write(str(tmp_path / "state"))
    checkpoint = tf.train.Checkpoint(model=state_of(restored))
    checkpoint.read(path).assert_existing_objects_matched()
    for before, after in zip(saved.weights, restored.weights):
        np.testing.assert_array_equal(before.numpy(), after.numpy())

"""Batches of several picture sizes: each is trained on as if its size had been known beforehand."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.models import HarmonicRetinaNet
from tests.tiny import TinyBackbone

SIZES = (64, 96)


def retinanet():
    return HarmonicRetinaNet(TinyBackbone(image_size=None), 3, "xyxy", channels=8, head_depth=0)


def batch(number, count=4):
    rng, size = np.random.default_rng(number), SIZES[number]
    images = rng.uniform(0, 255, (count, size, size, 3)).astype(np.float32)
    boxes = np.tile(np.float32([[4, 4, 40, 44], [20, 10, 60, 50]]), (count, 1, 1))
    return images, {"boxes": boxes, "classes": rng.integers(0, 3, (count, 2)).astype(np.float32)}


def stream(parts=1):
    """The batches, each in so many parts, with sides that are not known beforehand."""

    def generate():
        for number in range(len(SIZES)):
            images, labels = batch(number)
            for part in range(parts):
                yield images[part::parts], {name: v[part::parts] for name, v in labels.items()}

    count = 4 // parts
    labels = {"boxes": tf.TensorSpec([count, 2, 4]), "classes": tf.TensorSpec([count, 2])}
    spec = (tf.TensorSpec([count, None, None, 3]), labels)
    return tf.data.Dataset.from_generator(generate, output_signature=spec)


def compiled(**arguments):
    keras.utils.set_random_seed(0)
    model = retinanet()
    model.compile(keras.optimizers.SGD(0.01), **arguments)
    return model


def test_the_same_as_batch_by_batch():
    together, apart = compiled(), compiled()
    history = together.fit(stream(), verbose=0).history
    for number in range(len(SIZES)):
        tensors = tf.nest.map_structure(tf.constant, batch(number))
        logs = tf.function(apart.train_step)(tensors)
    for one, other in zip(together.weights, apart.weights):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)
    assert history["loss"][0] == pytest.approx(float(logs["loss"]), rel=1e-4)
    assert int(together.weight_update.attempted) == len(SIZES)


def test_two_replicas():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = compiled(jit_compile=False)
    batches = strategy.distribute_datasets_from_function(lambda context: stream(parts=2))
    logs = model.fit(batches, steps_per_epoch=len(SIZES), verbose=0).history
    assert np.isfinite(logs["loss"][0]) and logs["skipped_steps"] == [0]
    assert int(model.weight_update.attempted.numpy()) == len(SIZES)

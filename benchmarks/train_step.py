"""What a train step costs: keras-cv's RetinaNet, the bare network, and HarmonicRetinaNet.

python benchmarks/train_step.py --image_size=256 --batch_size=8

All three are timed in one process, in turns, on the same batch; what counts are the ratios. Stock
keras-cv runs in float32, the only precision in which it trains. The bare network is the forward
and backward pass of ours with a trivial loss and no update: the floor. Writes JSON beside the
table when --json names a file.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models import HarmonicRetinaNet, build_backbone
from harmonic_tf.training.precision import PRECISIONS, set_precision

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 256, "Side of the pictures, pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Pictures per step.")
_CLASSES = flags.DEFINE_integer("classes", 20, "Number of classes.")
_PRECISION = flags.DEFINE_enum("precision", "auto", PRECISIONS, "Precision of our network.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns that each takes.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps per turn.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")


def random_batch(size: int, count: int, classes: int, boxes: int = 10):
    """Noise pictures with random boxes, padded as training batches are."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (count, size, size, 3)).astype(np.float32)
    corners = rng.uniform(0, size / 2, (count, boxes, 2))
    sides = rng.uniform(size / 8, size / 2, (count, boxes, 2))
    labels = {
        "boxes": tf.constant(np.concatenate([corners, corners + sides], -1), tf.float32),
        "classes": tf.constant(rng.integers(0, classes, (count, boxes)), tf.float32),
    }
    return tf.constant(images), labels


def stock_step(size: int, batch, classes: int) -> Callable[[], object]:
    """One train step of keras-cv's RetinaNet as it ships."""
    keras.mixed_precision.set_global_policy("float32")
    model = keras_cv.models.RetinaNet(
        build_backbone("resnet18", size), classes, bounding_box_format="xyxy"
    )
    model.compile(
        optimizer="sgd", box_loss="smoothl1", classification_loss="focal", jit_compile=False
    )
    step = tf.function(model.train_step)
    return lambda: step(batch)["loss"]


def our_steps(size: int, batch, classes: int, precision: str):
    """The bare network and the whole train step of HarmonicRetinaNet, of the stock one's size."""
    set_precision(precision)
    model = HarmonicRetinaNet(
        build_backbone("resnet18", size), classes, "xyxy", AnchorGrid(), head_depth=3
    )
    model.compile("sgd", HarmonicLoss())

    @tf.function
    def bare():
        with tf.GradientTape() as tape:
            outputs = model(batch[0], training=True)
            total = tf.add_n([tf.reduce_sum(value) for value in outputs.values()])
        return tf.linalg.global_norm(tape.gradient(total, model.trainable_variables))

    step = tf.function(model.train_step)
    return bare, lambda: step(batch)["loss"]


def time_in_turns(steps: dict[str, Callable[[], object]], rounds: int, count: int):
    """Median seconds of each step, all taking turns so that noise falls on all alike."""
    for step in steps.values():
        for _ in range(2):
            float(step())
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(count):
                float(step())
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main(_: list[str]) -> None:
    """Times all three and prints one table."""
    size, count, classes = _IMAGE_SIZE.value, _BATCH_SIZE.value, _CLASSES.value
    batch = random_batch(size, count, classes)
    steps = {"stock keras-cv, float32": stock_step(size, batch, classes)}
    policy = set_precision(_PRECISION.value)
    bare, ours = our_steps(size, batch, classes, policy)
    steps[f"bare network, {policy}"] = bare
    steps[f"HarmonicRetinaNet, {policy}"] = ours
    seconds = time_in_turns(steps, _ROUNDS.value, _STEPS.value)

    stock = next(iter(seconds.values()))
    print(f"\nResNet-18, {size} px, batch {count}, {classes} classes\n")
    print(f"{'':<36}{'images/s':>10}{'x stock':>10}")
    for name, value in seconds.items():
        print(f"{name:<36}{count / value:>10.2f}{stock / value:>10.2f}")
    if _JSON.value:
        write_metrics(_JSON.value, {name: count / value for name, value in seconds.items()})


if __name__ == "__main__":
    app.run(main)

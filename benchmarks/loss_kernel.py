"""What the joint loss costs, forward and backward, beside keras-cv's losses and a plain copy.

python benchmarks/loss_kernel.py --image_sizes=256,512,1024

For every picture size, all three are timed in one process, in turns, on the same logits, those of
RetinaNet's anchors: the copy reads and writes the logits once, which no loss can undercut; stock is
keras-cv's FocalLoss + SmoothL1Loss in a tf.function, with the targets that its RetinaNet makes;
ours is the full HarmonicLoss on boxes decoded from the offsets, compiled with XLA, derivatives by
logits and offsets included. What counts are the ratios, and that the time per anchor stays the
same. Writes JSON beside the table when --json names a file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from absl import app, flags
from timing import time_in_turns

from harmonic_tf import boxes as box_ops
from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras_cv, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.losses import BACKGROUND, IGNORED, HarmonicLoss

_IMAGE_SIZES = flags.DEFINE_list(
    "image_sizes", ["256", "384", "512", "768", "1024"], "Sides of the pictures, pixels."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Pictures per step.")
_CLASSES = flags.DEFINE_integer("classes", 80, "Number of classes.")
_CLASSIFICATION = flags.DEFINE_enum(
    "classification", "focal", ("focal", "cross_entropy"), "Classification loss of ours."
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns that each takes.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

# Share of anchors that are positive, and as many that are ignored: about COCO's.
_SHARE = 0.005


def random_batch(anchors: np.ndarray, count: int, classes: int):
    """Targets and predictions as early in training: low scores, boxes near their targets."""
    rng = np.random.default_rng(0)
    shape = (count, len(anchors))
    kind = rng.choice([0, IGNORED, BACKGROUND], shape, p=[_SHARE, _SHARE, 1.0 - 2.0 * _SHARE])
    targets = rng.normal(0.0, 1.0, (*shape, 4)).astype(np.float32)
    y_true = {
        "classes": tf.constant(np.where(kind < 0, kind, rng.integers(0, classes, shape)), tf.int32),
        "offsets": tf.constant(targets),
        "boxes": box_ops.decode(targets, anchors),
    }
    logits = rng.normal(-4.0, 2.0, (*shape, classes)).astype(np.float32)
    offsets = targets + rng.normal(0.0, 0.5, targets.shape).astype(np.float32)
    return y_true, tf.constant(logits), tf.constant(offsets)


def copy_step(logits: tf.Tensor) -> Callable[[], object]:
    """One read and one write of the logits; negated, so that nothing can optimize it away."""
    step = tf.function(tf.negative)
    return lambda: step(logits)[0, 0, 0]


def stock_step(y_true, logits: tf.Tensor, offsets: tf.Tensor) -> Callable[[], object]:
    """Forward and backward pass of keras-cv's losses, weighted as its RetinaNet does."""
    focal = keras_cv.losses.FocalLoss(from_logits=True, reduction="sum")
    smooth_l1 = keras_cv.losses.SmoothL1Loss(reduction="sum")

    @tf.function
    def step(y_true, logits, offsets):
        labels = tf.one_hot(y_true["classes"], logits.shape[-1])
        positive = tf.cast(y_true["classes"] >= 0, tf.float32)
        counted = tf.cast(tf.not_equal(y_true["classes"], IGNORED), tf.float32)
        normalizer = tf.reduce_sum(positive)
        with tf.GradientTape() as tape:
            tape.watch([logits, offsets])
            total = tf.cast(focal(labels, logits, counted / normalizer), tf.float32)
            total += smooth_l1(y_true["offsets"], offsets, positive / normalizer)
        return total, tape.gradient(total, [logits, offsets])

    return lambda: step(y_true, logits, offsets)[0]


def joint_step(
    loss: HarmonicLoss, anchors: np.ndarray, y_true, logits: tf.Tensor, offsets: tf.Tensor
) -> Callable[[], object]:
    """Forward and backward pass of the joint loss as one XLA program."""

    @tf.function(jit_compile=True)
    def step(y_true, logits, offsets):
        with tf.GradientTape() as tape:
            tape.watch([logits, offsets])
            boxes = box_ops.decode(offsets, tf.constant(anchors))
            y_pred = {"logits": logits, "offsets": offsets, "boxes": boxes}
            total = tf.reduce_sum(loss.call(y_true, y_pred))
        return total, tape.gradient(total, [logits, offsets])

    return lambda: step(y_true, logits, offsets)[0]


def measure(size: int) -> dict[str, float]:
    """Seconds of all three for pictures of one size, and what follows from them."""
    anchors = AnchorGrid().boxes(size, size)
    batch = random_batch(anchors, _BATCH_SIZE.value, _CLASSES.value)
    loss = HarmonicLoss(classification=_CLASSIFICATION.value)
    steps = {
        "copy_seconds": copy_step(batch[1]),
        "stock_seconds": stock_step(*batch),
        "joint_seconds": joint_step(loss, anchors, *batch),
    }
    for step in steps.values():
        for _ in range(2):
            float(step())
    seconds = time_in_turns(steps, _ROUNDS.value)
    return {
        "anchors": len(anchors),
        **seconds,
        "joint_to_stock": seconds["joint_seconds"] / seconds["stock_seconds"],
        "joint_to_copy": seconds["joint_seconds"] / seconds["copy_seconds"],
        "joint_seconds_per_anchor": seconds["joint_seconds"] / (len(anchors) * _BATCH_SIZE.value),
    }


def main(_: list[str]) -> None:
    """Measures every size and prints one table."""
    print(f"\nForward + backward, batch {_BATCH_SIZE.value}, {_CLASSES.value} classes\n")
    titles = ("px", "anchors", "copy ms", "stock ms", "ours ms", "x stock", "x copy", "ns/anchor")
    print("".join(f"{title:>10}" for title in titles))
    numbers = {}
    for size in map(int, _IMAGE_SIZES.value):
        numbers[str(size)] = row = measure(size)
        milliseconds = [1e3 * row[f"{name}_seconds"] for name in ("copy", "stock", "joint")]
        print(
            f"{size:>10}{row['anchors']:>10}"
            + "".join(f"{value:>10.1f}" for value in milliseconds)
            + f"{row['joint_to_stock']:>10.3f}{row['joint_to_copy']:>10.1f}"
            + f"{1e9 * row['joint_seconds_per_anchor']:>10.0f}",
            flush=True,
        )
    if _JSON.value:
        write_metrics(_JSON.value, numbers)


if __name__ == "__main__":
    app.run(main)

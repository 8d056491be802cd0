"""What a train step costs: a detector of keras-cv, the bare network, and ours.

python benchmarks/train_step.py --image_size=256 --batch_size=8
python benchmarks/train_step.py --model=yolov8_xs
python benchmarks/train_step.py --model=faster_rcnn --batch_size=2

All are timed in one process, in turns, on the same batch; what counts are the ratios. Stock
keras-cv runs in float32, the only precision in which it trains. The bare network is the forward
and backward pass of ours with a trivial loss and no update: the floor. Peak memory is that of a
process of its own. Of Faster R-CNN, which is trained on as many regions as its first stage finds
here, suppression is a part of the network, and there is no stock one. Writes JSON beside the table
when --json names a file.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import numpy as np
from absl import app, flags
from timing import time_in_turns

from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.models import (
    CATALOG,
    DetectionDecoder,
    HarmonicRetinaNet,
    HarmonicYOLOV8Detector,
    JointDetector,
    build_backbone,
)
from harmonic_tf.training.precision import set_precision

_MODEL = flags.DEFINE_enum(
    "model", "retinanet", list(CATALOG), "Detector: with ResNet-18, or YOLOv8 by size."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 256, "Side of the pictures, pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Pictures per step.")
_CLASSES = flags.DEFINE_integer("classes", 20, "Number of classes.")
_PRECISIONS = flags.DEFINE_list(
    "precisions", ["float32", "mixed_bfloat16"], "Precisions of our network."
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns that each takes.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps per turn.")
_MEMORY = flags.DEFINE_bool("memory", True, "Measure peak memory too.")
_PEAK_OF = flags.DEFINE_string("peak_of", None, "Run this one alone and print its peak memory.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

REGIONS = 128  # per picture, of Faster R-CNN

STOCK, BARE, OURS = "keras-cv", "bare network", "harmonic_tf"
Step = Callable[[], object]


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


def stock_retinanet(size: int, classes: int) -> keras.Model:
    """keras-cv's RetinaNet as it ships, ready to train."""
    backbone = build_backbone("resnet18", size)
    model = keras_cv.models.RetinaNet(backbone, classes, bounding_box_format="xyxy")
    losses = {"box_loss": "smoothl1", "classification_loss": "focal"}
    model.compile(optimizer="sgd", **losses, jit_compile=False)
    return model


def stock_yolov8(size: int, classes: int) -> keras.Model:
    """keras-cv's YOLOv8 as it ships, ready to train."""
    depth = CATALOG[_MODEL.value].fixed["fpn_depth"]
    model = keras_cv.models.YOLOV8Detector(
        build_backbone(_MODEL.value, size), classes, bounding_box_format="xyxy", fpn_depth=depth
    )
    losses = {"box_loss": "ciou", "classification_loss": "binary_crossentropy"}
    model.compile(optimizer="sgd", **losses, jit_compile=False)
    return model


STOCK_DETECTORS = {HarmonicRetinaNet: stock_retinanet, HarmonicYOLOV8Detector: stock_yolov8}


def stock_step(size: int, batch, classes: int) -> Step:
    """One train step of keras-cv's detector."""
    model = STOCK_DETECTORS[CATALOG[_MODEL.value].detector](size, classes)
    step = tf.function(model.train_step)
    return lambda: step(batch)["loss"]


def our_model(size: int, classes: int) -> JointDetector:
    """Our detector of the stock one's size, compiled, with the full loss."""
    entry = CATALOG[_MODEL.value]
    backbone = build_backbone("resnet18" if entry.has_anchors else entry.backbone, size)
    model = entry.build(
        backbone,
        classes,
        DetectionDecoder(),
        anchors=entry.anchors,
        head_depth=3,
        proposals=REGIONS,
        sampled_rois=REGIONS,
    )
    model.compile("sgd")
    return model


def bare_step(size: int, batch, classes: int) -> Step:
    """Forward and backward pass of our network with a trivial loss."""
    model = our_model(size, classes)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = model(batch[0], training=True)
            total = tf.add_n([tf.reduce_sum(value) for value in outputs.values()])
        return tf.linalg.global_norm(tape.gradient(total, model.trainable_variables))

    return step


def our_step(size: int, batch, classes: int) -> Step:
    """One train step of our detector with the full loss."""
    step = tf.function(our_model(size, classes).train_step)
    return lambda: step(batch)["loss"]


def contestants() -> dict[str, tuple[str, Callable[..., Step]]]:
    """What takes part, by name: precision and what makes its step."""
    ours = {
        f"{name}, {precision}": (precision, build)
        for precision in _PRECISIONS.value
        for name, build in ((BARE, bare_step), (OURS, our_step))
    }
    if CATALOG[_MODEL.value].detector not in STOCK_DETECTORS:
        return ours
    return {f"{STOCK}, float32": ("float32", stock_step), **ours}


def build_step(name: str) -> Step:
    """The step of a contestant, ready to run."""
    precision, build = contestants()[name]
    set_precision(precision)
    size, count, classes = _IMAGE_SIZE.value, _BATCH_SIZE.value, _CLASSES.value
    step = build(size, random_batch(size, count, classes), classes)
    for _ in range(2):
        float(step())
    return step


def peak_memory(name: str) -> float:
    """Peak memory of a process that runs this contestant alone, GiB."""
    command = [sys.executable, *sys.argv, f"--peak_of={name}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def main(_: list[str]) -> None:
    """Times all and prints one table."""
    if _PEAK_OF.value:
        build_step(_PEAK_OF.value)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    memory = {name: peak_memory(name) for name in contestants()} if _MEMORY.value else {}
    steps = {name: build_step(name) for name in contestants()}
    seconds = time_in_turns(steps, _ROUNDS.value, _STEPS.value)

    rows, stock = {}, seconds.get(f"{STOCK}, float32")
    for name, value in seconds.items():
        floor = seconds.get(name.replace(OURS, BARE)) if name.startswith(OURS) else None
        rows[name] = {
            "images_per_second": _BATCH_SIZE.value / value,
            "times_stock": stock / value if stock else None,
            "of_bare_network": floor / value if floor else None,
            "peak_gib": memory.get(name),
        }
    size, count, classes = _IMAGE_SIZE.value, _BATCH_SIZE.value, _CLASSES.value
    print(f"\n{_MODEL.value}, {size} px, batch {count}, {classes} classes\n")
    print(f"{'':<36}{'images/s':>10}{'x stock':>10}{'of bare':>10}{'peak GiB':>10}")
    for name, row in rows.items():
        cells = (f"{value:>10.2f}" if value is not None else f"{'-':>10}" for value in row.values())
        print(f"{name:<36}{''.join(cells)}")
    if _JSON.value:
        write_metrics(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)

"""How close --batch_size=auto's estimate of a train step's memory is to what a step takes.

python benchmarks/batch_memory.py
python benchmarks/batch_memory.py --models=yolov8_s --image_sizes=640 --batch_sizes=4,8,16

Each row is a process of its own: what it takes from before the network is built until after some
steps, at its peak. Writes JSON beside the table when --json names a file.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import numpy as np
from absl import app, flags

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import tf, traced
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.models import CATALOG, DetectionDecoder, JointDetector, build_backbone
from harmonic_tf.training.batch_size import step_memory
from harmonic_tf.training.inference import prediction_function
from harmonic_tf.training.precision import set_precision

_MODELS = flags.DEFINE_list(
    "models", ["retinanet", "yolov8_xs"], "Detectors: RetinaNet with --backbone, YOLOv8 by size."
)
_BACKBONE = flags.DEFINE_string("backbone", "resnet18", "Of RetinaNet.")
_IMAGE_SIZES = flags.DEFINE_list("image_sizes", ["256", "512"], "Sides of the pictures, pixels.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["2", "8"], "Pictures per step.")
_PRECISION = flags.DEFINE_string("precision", "float32", "Precision of the network.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of each.")
_OBJECTS = flags.DEFINE_integer("objects", 100, "Room for objects per picture.")
_ONE = flags.DEFINE_list("one", None, "Measure this model, size and batch alone, in this process.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

CLASSES = 20
OPTIMIZER = "adamw"
MIB = 2**20


def build(name: str, size: int) -> JointDetector:
    """A detector, untrained."""
    entry = CATALOG[name]
    backbone = build_backbone(_BACKBONE.value if entry.has_anchors else entry.backbone, size)
    return entry.build(backbone, CLASSES, DetectionDecoder(), anchors=AnchorGrid())


def random_batch(size: int, count: int):
    """Noise with random boxes, with as much room for objects as training batches have."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (count, size, size, 3)).astype(np.float32)
    corners = rng.uniform(0, size / 2, (count, _OBJECTS.value, 2))
    sides = rng.uniform(size / 8, size / 2, (count, _OBJECTS.value, 2))
    labels = {
        "boxes": tf.constant(np.concatenate([corners, corners + sides], -1), tf.float32),
        "classes": tf.constant(rng.integers(0, CLASSES, (count, _OBJECTS.value)), tf.float32),
    }
    return tf.constant(images), labels


def resident() -> float:
    """Memory of this process now, MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def measure(name: str, size: int, count: int) -> tuple[float, float]:
    """Estimate and peak of a training in this process, MiB."""
    set_precision(_PRECISION.value)
    before = resident()
    estimate = step_memory(build(name, size), size, OPTIMIZER, averaged=True).of(count) / MIB
    model, detector = build(name, size), build(name, size)
    model.compile("adam", average_decay=0.99)
    batch = random_batch(size, count)
    step = traced(model.train_step)
    for _ in range(_STEPS.value):
        float(step(batch)["loss"])
    prediction_function(detector)(batch[0])
    return estimate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before


def measure_apart(*row: str) -> tuple[float, float]:
    """As `measure`, in a process of its own."""
    command = [sys.executable, *sys.argv, f"--one={','.join(row)}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    estimate, peak = map(float, printed.split()[-2:])
    return estimate, peak


def main(_: list[str]) -> None:
    """Measures all and prints one table."""
    if _ONE.value:
        name, size, count = _ONE.value
        print(*measure(name, int(size), int(count)))
        return
    rows = {}
    head = f"{'':<12}{'px':>6}{'batch':>7}{'estimate MiB':>14}{'peak MiB':>10}{'ratio':>8}"
    print(f"\n{_PRECISION.value}, {OPTIMIZER}, averaged weights\n\n{head}", flush=True)
    for name in _MODELS.value:
        for size in _IMAGE_SIZES.value:
            for count in _BATCH_SIZES.value:
                estimate, peak = measure_apart(name, size, count)
                rows[f"{name}, {size} px, batch {count}"] = {"estimate": estimate, "peak": peak}
                cells = f"{estimate:>14.0f}{peak:>10.0f}{estimate / peak:>8.2f}"
                print(f"{name:<12}{size:>6}{count:>7}{cells}", flush=True)
    if _JSON.value:
        write_metrics(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)

"""Which stack is faster: train steps and serving on two Pythons, in turns.

python benchmarks/stack_speed.py --other=.venv-home/bin/python

Each Python has a process of its own, which builds everything and then waits; they take turns, so
that noise falls on both alike. What counts is the ratio. A train step is one of the full loss with
AdamW; serving is a request to an exported model, from float pictures of the network's size to
detections. All in float32. Writes JSON beside the table when --json names a file.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from plausible_detectors import our_detector, spread_scores

from harmonic_tf.backend import keras, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.training.optimizers import AdamW

_OTHER = flags.DEFINE_string("other", None, "A Python where the other stack is installed.")
_MODELS = flags.DEFINE_list(
    "models", ["retinanet", "yolov8_xs"], "RetinaNet with ResNet-50, or YOLOv8 by size."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 256, "Side of the network's input, pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Pictures of a train step.")
_CLASSES = flags.DEFINE_integer("classes", 20, "Number of classes.")
_CANDIDATES = flags.DEFINE_integer("candidates", 1000, "Of a picture, above the threshold.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Turns that each takes.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
_WAIT = flags.DEFINE_bool("wait", False, "Build, and run what is named on standard input.")

Step = Callable[[], object]


def random_batch(count: int, boxes: int = 10):
    """Noise pictures with random boxes."""
    rng, size = np.random.default_rng(0), _IMAGE_SIZE.value
    images = rng.uniform(0, 255, (count, size, size, 3))
    corners = rng.uniform(0, size / 2, (count, boxes, 2))
    sides = rng.uniform(size / 8, size / 2, (count, boxes, 2))
    labels = {
        "boxes": tf.constant(np.concatenate([corners, corners + sides], -1), tf.float32),
        "classes": tf.constant(rng.integers(0, _CLASSES.value, (count, boxes)), tf.float32),
    }
    return tf.constant(images, tf.float32), labels


def train_step(model: keras.Model) -> Step:
    """One update of a detector."""
    model.compile(AdamW(learning_rate=1e-4, weight_decay=1e-4))
    step, batch = tf.function(model.train_step), random_batch(_BATCH_SIZE.value)
    return lambda: step(batch)["loss"]


def served_step(model: keras.Model, folder: str, count: int) -> Step:
    """A request to a detector that was exported and loaded again."""
    names, size = [f"class {k}" for k in range(_CLASSES.value)], _IMAGE_SIZE.value
    loaded = tf.saved_model.load(export_model(model, names, folder, ServingSettings(size)))
    request, _ = random_batch(count)
    signature = loaded.signatures["predict_float_images"]
    # Who calls a signature has to keep what it is of.
    return lambda of=loaded: tf.reduce_sum(signature(images=request)["scores"])


def steps_of(name: str, folder: str) -> dict[str, Step]:
    """What is timed of a detector, by name."""
    model = our_detector(name, _IMAGE_SIZE.value, _CLASSES.value)
    spread_scores(model, random_batch(2)[0], _CANDIDATES.value)
    served = {
        f"{name}, served, {count} pictures": served_step(model, f"{folder}/{name}_{count}", count)
        for count in (1, 8)
    }
    return {**served, f"{name}, train step of {_BATCH_SIZE.value}": train_step(model)}


def answer() -> None:
    """Builds everything; then times one step for each line of standard input."""
    with tempfile.TemporaryDirectory() as folder:
        steps = {k: v for name in _MODELS.value for k, v in steps_of(name, folder).items()}
        for step in steps.values():
            for _ in range(3):
                float(step())
        versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}"
        print("\t".join([versions, *steps]), flush=True)
        for line in sys.stdin:
            step = steps[line.rstrip("\n")]
            began = time.perf_counter()
            float(step())
            print(time.perf_counter() - began, flush=True)


def process(python: str) -> subprocess.Popen:
    """A process of a stack."""
    command = [python, *sys.argv, "--wait"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, bufsize=1)


def ask(worker: subprocess.Popen, name: str) -> float:
    """Seconds of a step in a process."""
    worker.stdin.write(f"{name}\n")
    return float(worker.stdout.readline())


def main(_) -> None:
    """Prints one table; or answers, in a process of a stack."""
    if _WAIT.value:
        answer()
        return
    workers = []
    for python in (sys.executable, _OTHER.value):  # one after the other, as both use all cores
        worker = process(python)
        stack, *names = worker.stdout.readline().rstrip("\n").split("\t")
        workers.append((stack, worker))
    rows = {}
    print(f"\n{_IMAGE_SIZE.value} px, {_CLASSES.value} classes, milliseconds\n")
    print(f"{'':<34}{''.join(f'{stack:>36}' for stack, _ in workers)}{'ratio':>8}")
    for name in names:
        seconds = {stack: [] for stack, _ in workers}
        for turn in range(_ROUNDS.value):
            for stack, worker in workers[:: -1 if turn % 2 else 1]:
                seconds[stack].append(ask(worker, name))
        medians = {stack: 1000.0 * statistics.median(s) for stack, s in seconds.items()}
        ratio = statistics.median(a / b for a, b in zip(*seconds.values()))
        rows[name] = {**medians, "ratio": ratio}
        print(f"{name:<34}{''.join(f'{m:>36.0f}' for m in medians.values())}{ratio:>8.2f}")
    for _, worker in workers:
        worker.stdin.close()
        worker.wait()
    if _JSON.value:
        write_metrics(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)

"""What a served detector costs beside its bare network and beside keras-cv's own predict.

python benchmarks/serving.py
python benchmarks/serving.py --models=yolov8_s --classes=80 --precision=float32

Each detector is exported and loaded again with plain TensorFlow. Then there take turns, with one
picture and with a batch of them:

- network: its forward pass alone, on pictures that are letterboxed already;
- served: `serving_default` on JPEGs of 640 x 480, so decoding, letterbox, suppression and the way
  back to source pixels are on top of the network;
- keras-cv: `model.predict` of the stock detector of the same size on letterboxed pictures, with its
  own suppression at the same thresholds, in float32, the only precision in which it runs.

What counts are the ratios of medians. Where tensorflow_model_server is on PATH, the exported model
is asked through it too, over gRPC and REST. Last, a small detector gets thousands of requests, half
of them broken in random ways, and the memory of its process is looked at (on Linux). Writes JSON
beside the tables when --json names a file.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from absl import app, flags
from model_server import BINARY, running_server
from PIL import Image
from plausible_detectors import our_detector, spread_scores, stock_detector
from request_memory import memory_over_time
from timing import samples_in_turns

from harmonic_tf.backend import keras, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.export.client import Connection, connect
from harmonic_tf.training.precision import resolve_precision, set_precision

_MODELS = flags.DEFINE_list(
    "models", ["retinanet", "yolov8_xs"], "RetinaNet with ResNet-50, or YOLOv8 by size."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 512, "Side of the network's input, pixels.")
_CLASSES = flags.DEFINE_integer("classes", 20, "Number of classes.")
_BATCHES = flags.DEFINE_list("batches", ["1", "8"], "Pictures of a request.")
_CANDIDATES = flags.DEFINE_integer(
    "candidates", 1000, "Pairs of box and class of a picture that are above the threshold."
)
_PRECISION = flags.DEFINE_string("precision", "auto", "Of our network: see train.py --precision.")
_PICTURES = flags.DEFINE_integer("pictures", 64, "Pictures that each is shown, for every batch.")
_REQUESTS = flags.DEFINE_integer("requests", 10_000, "Requests while memory is looked at.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

NETWORK, SERVED, STOCK = "network", "served", "keras-cv"
MEMORY_MODEL, MEMORY_IMAGE_SIZE, MEMORY_MAX_BATCH = "yolov8_xs", 64, 8
Step = Callable[[], object]


def random_jpeg(seed: int) -> bytes:
    """A picture of 640 x 480 as smooth as photographs are, of about 65 kB."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def export_plausible(name: str, image_size: int, folder: str):
    """Exports a detector whose scores are spread; returns it, and the folder of its version."""
    model = our_detector(name, image_size, _CLASSES.value)
    spread_scores(model, random_images(2, image_size), _CANDIDATES.value)
    names = [f"class {k}" for k in range(_CLASSES.value)]
    return model, export_model(model, names, folder, ServingSettings(image_size))


def random_images(count: int, image_size: int) -> tf.Tensor:
    """Letterboxed pictures, float32 [B, S, S, 3]."""
    rng = np.random.default_rng(0)
    return tf.constant(rng.uniform(0, 255, (count, image_size, image_size, 3)), tf.float32)


def network_step(model, images: tf.Tensor) -> Step:
    """The forward pass of a detector, compiled as an exported model is."""
    spec = tf.TensorSpec([None, *images.shape[1:]], tf.float32)
    forward = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    return lambda: tf.reduce_sum([tf.reduce_sum(v) for v in forward(images).values()])


def served_step(version: str, jpegs: list[bytes]) -> Step:
    """A request to an exported model."""
    model, request = tf.saved_model.load(version), tf.constant(jpegs)
    return lambda: tf.reduce_sum(model.signatures["serving_default"](images=request)["scores"])


def stock_step(model: keras.Model, images: np.ndarray) -> Step:
    """What keras-cv's users call."""
    return lambda: np.sum(model.predict(images, batch_size=len(images), verbose=0)["confidence"])


def server_step(connection: Connection, jpeg: bytes) -> Step:
    """A request through a server."""
    return lambda: np.sum(connection.detect(jpeg).scores)


def measure_model(name: str, folder: str) -> dict[str, list[float]]:
    """Milliseconds of every step of a detector, by what it is and how many pictures it has."""
    size, samples = _IMAGE_SIZE.value, {}
    set_precision(_PRECISION.value)
    model, version = export_plausible(name, size, folder)
    set_precision("float32")
    stock = stock_detector(name, size, _CLASSES.value)
    spread_scores(stock, random_images(2, size), _CANDIDATES.value)
    with connections_to(folder) as connections:
        for batch in map(int, _BATCHES.value):
            images = random_images(batch, size)
            jpegs = [random_jpeg(seed) for seed in range(batch)]
            steps = {
                NETWORK: network_step(model, images),
                SERVED: served_step(version, jpegs),
                STOCK: stock_step(stock, images.numpy()),
            }
            if batch == 1:
                for interface, connection in connections.items():
                    steps[f"{BINARY}, {interface}"] = server_step(connection, jpegs[0])
            for step in steps.values():
                for _ in range(2):
                    float(step())
            rounds = max(_PICTURES.value // batch, 5)
            for what, seconds in samples_in_turns(steps, rounds).items():
                samples[f"{what}, {batch}"] = [1000.0 * value for value in seconds]
    return samples


@contextlib.contextmanager
def connections_to(folder: str) -> Iterator[dict[str, Connection]]:
    """Connections to a real server of a model, by interface; none where there is no server."""
    binary = shutil.which(BINARY)
    if binary is None:
        yield {}
        return
    with running_server([binary], folder) as urls, contextlib.ExitStack() as stack:
        name = os.path.basename(folder)
        yield {k: stack.enter_context(connect(url, name)) for k, url in urls.items()}


def rows_of(samples: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, 99th percentile and ratio to network and to keras-cv of each."""
    medians = {what: float(np.median(values)) for what, values in samples.items()}
    rows = {}
    for what, values in samples.items():
        batch = what.rpartition(", ")[2]
        rows[what] = {
            "p50_ms": medians[what],
            "p99_ms": float(np.percentile(values, 99)),
            "of_network": medians[what] / medians[f"{NETWORK}, {batch}"],
            "times_stock": medians[f"{STOCK}, {batch}"] / medians[what],
        }
    return rows


def measure_memory(folder: str) -> dict[str, object]:
    """Memory of a process of its own that answers good and broken requests."""
    set_precision("float32")
    model = our_detector(MEMORY_MODEL, MEMORY_IMAGE_SIZE, _CLASSES.value)
    names = [f"class {k}" for k in range(_CLASSES.value)]
    settings = ServingSettings(MEMORY_IMAGE_SIZE, MEMORY_MAX_BATCH)
    version = export_model(model, names, os.path.join(folder, "small"), settings)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as process:
        arguments = (version, _REQUESTS.value, MEMORY_MAX_BATCH)
        return process.submit(memory_over_time, *arguments).result()


def main(_: list[str]) -> None:
    """Measures all and prints tables."""
    size, numbers = _IMAGE_SIZE.value, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in _MODELS.value:
            numbers[name] = rows_of(measure_model(name, os.path.join(folder, name)))
            precision = resolve_precision(_PRECISION.value)
            print(f"\n{name}, {size} px, {_CLASSES.value} classes, {precision}\n")
            print(f"{'':<36}{'p50 ms':>10}{'p99 ms':>10}{'x network':>11}{'x keras-cv':>12}")
            for what, row in numbers[name].items():
                print(
                    f"{what:<36}{row['p50_ms']:>10.1f}{row['p99_ms']:>10.1f}"
                    f"{row['of_network']:>11.2f}{row['times_stock']:>12.2f}"
                )
        if shutil.which(BINARY) is None:
            print(f"\n{BINARY} is not on PATH: not measured.")
        if _REQUESTS.value:
            memory = numbers["memory"] = measure_memory(folder)
            print(f"\n{memory['answered']} requests answered, {memory['refused']} refused; MiB:")
            print("  ".join(f"{mib:.0f}" for mib in memory["mib"]))
    if _JSON.value:
        write_metrics(_JSON.value, numbers)


if __name__ == "__main__":
    app.run(main)

"""How fast pictures are read, varied and batched, beside the plainest pipeline and keras-cv's.

python benchmarks/input_pipeline.py --dataset=voc:PATH --split=trainval

On the JPEGs of a data set, or on rendered scenes of 640 x 480, four pipelines take turns:

- plain: decode_jpeg, tf.image.resize to the square, batch: what any pipeline has to do;
- ours: flip, scale jitter of 0.8 to 1.25 with its crop, photometric jitter, letterbox, boxes;
- keras-cv: the same work by its RandomFlip, JitteredResize and RandomColorJitter layers, as its
  guides do;
- mosaic: ours, of four pictures each.

What counts are the ratios: of pictures per second (the median of all turns), and of the processor
time that a picture takes, which other programs disturb less. A second table follows the memory of
this process over several passes of ours. Writes JSON beside the tables when --json names a file.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time

from absl import app, flags

from harmonic_tf.backend import keras_cv, tf
from harmonic_tf.data import sources
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.pipeline.augmentation import Augmentation
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.data.scenes import rendering
from harmonic_tf.evaluation import write_metrics

_DATASET = flags.DEFINE_string("dataset", None, "Data set of JPEGs; rendered scenes by default.")
_SPLIT = flags.DEFINE_string("split", "trainval", "Split of the data set.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 512, "Side of the batched pictures, pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Pictures per batch.")
_BATCHES = flags.DEFINE_integer("batches", 20, "Batches per turn; a tenth of it for keras-cv.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns that each takes.")
_PASSES = flags.DEFINE_integer("passes", 5, "Passes over the data while memory is watched.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

_SCALE_RANGE = (0.8, 1.25)
_CHAIN = ("zoom_and_crop", "flip_horizontal", "jitter_colors")
_SCENES = 200
_WARM_UP = 2  # batches before the clock starts


def load() -> DetectionData:
    """The data set that is read."""
    if _DATASET.value:
        return sources.load(_DATASET.value, _SPLIT.value, on_bad_example="skip")
    folder = f"{tempfile.gettempdir()}/harmonic_tf_scenes_640x480"
    rendering.render(f"{folder}/train", _SCENES, seed=0, image_size=(480, 640))
    return sources.load(f"scenes:{folder}", "train")


def plain(data: DetectionData) -> tf.data.Dataset:
    """Decode, resize, batch."""
    paths = [str(annotation.image_path) for annotation in data.annotations]
    size = (_IMAGE_SIZE.value, _IMAGE_SIZE.value)

    def read(path):
        return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), size)

    return (
        tf.data.Dataset.from_tensor_slices(paths)
        .repeat()
        .map(read, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(_BATCH_SIZE.value, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def ours(data: DetectionData, *chain: str) -> tf.data.Dataset:
    """This package's pipeline."""
    augmentation = Augmentation(scale_range=_SCALE_RANGE, transforms=chain)
    most = max(len(annotation.boxes) for annotation in data.annotations)
    return training_batches(
        data,
        _IMAGE_SIZE.value,
        _BATCH_SIZE.value,
        seed=0,
        max_boxes=augmentation.most_objects(most),
        augmentation=augmentation,
    )


def with_keras_cv(data: DetectionData) -> tf.data.Dataset:
    """The layers of keras-cv's guides, in their order, on ragged batches."""
    usual = Augmentation()
    layers = [
        keras_cv.layers.RandomFlip(mode="horizontal", bounding_box_format="xyxy"),
        keras_cv.layers.JitteredResize(
            target_size=(_IMAGE_SIZE.value, _IMAGE_SIZE.value),
            scale_factor=_SCALE_RANGE,
            bounding_box_format="xyxy",
        ),
        keras_cv.layers.RandomColorJitter(
            value_range=(0, 255),
            brightness_factor=usual.brightness / 255.0,
            contrast_factor=usual.contrast,
            saturation_factor=usual.saturation,
            hue_factor=usual.hue / 360.0,
        ),
    ]
    ragged = tf.ragged.constant(
        [annotation.boxes.tolist() for annotation in data.annotations],
        ragged_rank=1,
        inner_shape=(4,),
        dtype=tf.float32,
    )
    classes = tf.ragged.constant(
        [annotation.classes.tolist() for annotation in data.annotations], dtype=tf.float32
    )
    paths = [str(annotation.image_path) for annotation in data.annotations]

    def read(path, boxes, classes):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return {
            "images": tf.cast(image, tf.float32),
            "bounding_boxes": {"boxes": boxes, "classes": classes},
        }

    dataset = (
        tf.data.Dataset.from_tensor_slices((paths, ragged, classes))
        .repeat()
        .map(read, num_parallel_calls=tf.data.AUTOTUNE)
        .ragged_batch(_BATCH_SIZE.value, drop_remainder=True)
    )
    for layer in layers:
        dataset = dataset.map(layer, num_parallel_calls=tf.data.AUTOTUNE)

    def dense(inputs):
        boxes = keras_cv.bounding_box.to_dense(inputs["bounding_boxes"], max_boxes=100)
        return inputs["images"], boxes

    return dataset.map(dense, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


@dataclasses.dataclass
class Turns:
    """What was measured of one pipeline, a value per turn."""

    dataset: tf.data.Dataset
    batches: int
    rates: list[float] = dataclasses.field(default_factory=list)
    processor: list[float] = dataclasses.field(default_factory=list)

    def take(self) -> None:
        """Starts the pipeline anew: one that waits would have read ahead."""
        iterator = iter(self.dataset)
        for _ in range(_WARM_UP):
            next(iterator)
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(self.batches):
            next(iterator)
        count = self.batches * _BATCH_SIZE.value
        self.rates.append(count / (time.perf_counter() - wall))
        self.processor.append((time.process_time() - processor) / count)


def resident_mebibytes() -> float:
    """What this process takes of the machine's memory."""
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def memory_over_passes(data: DetectionData) -> list[float]:
    """Memory of the process after each pass over the data, MiB."""
    iterator = iter(ours(data, *_CHAIN))
    found = []
    for _ in range(_PASSES.value):
        for _ in range(-(-len(data.annotations) // _BATCH_SIZE.value)):
            next(iterator)
        found.append(resident_mebibytes())
    return found


def main(_: list[str]) -> None:
    """Measures and prints both tables."""
    data = load()
    batches = _BATCHES.value
    pipelines = {
        "plain": Turns(plain(data), batches),
        "ours": Turns(ours(data, *_CHAIN), batches),
        "keras_cv": Turns(with_keras_cv(data), max(batches // 10, 1)),
        "mosaic": Turns(ours(data, _CHAIN[0], "mosaic", *_CHAIN[1:]), batches),
    }
    for number in range(_ROUNDS.value + 1):
        for turns in pipelines.values():
            turns.take()
            if not number:  # the first round makes functions and fills the file system's cache
                turns.rates.clear()
                turns.processor.clear()
    rates = {name: statistics.median(turns.rates) for name, turns in pipelines.items()}
    seconds = {name: statistics.median(turns.processor) for name, turns in pipelines.items()}
    ratios = {
        "ours_to_plain": ("ours", "plain"),
        "ours_to_keras_cv": ("ours", "keras_cv"),
        "mosaic_to_ours": ("mosaic", "ours"),
    }
    numbers = {
        "images_per_second": rates,
        "processor_seconds_per_image": seconds,
        "by_rate": {name: rates[a] / rates[b] for name, (a, b) in ratios.items()},
        "by_processor_time": {name: seconds[b] / seconds[a] for name, (a, b) in ratios.items()},
    }
    size, count = _IMAGE_SIZE.value, len(data.annotations)
    print(f"\n{data.name}: {count} pictures, to {size} px, batches of {_BATCH_SIZE.value}\n")
    print(f"{'':>18}{'images/s':>12}{'ms of CPU each':>18}")
    for name in pipelines:
        print(f"{name:>18}{rates[name]:>12.0f}{1e3 * seconds[name]:>18.2f}")
    print(f"\n{'':>18}{'by rate':>12}{'by CPU time':>18}")
    for name in ratios:
        by_rate, by_time = numbers["by_rate"][name], numbers["by_processor_time"][name]
        print(f"{name:>18}{by_rate:>12.2f}{by_time:>18.2f}")
    numbers["resident_mebibytes"] = memory_over_passes(data)
    passes = "  ".join(f"{value:.0f}" for value in numbers["resident_mebibytes"])
    print(f"\nMemory after each pass, MiB: {passes}")
    if _JSON.value:
        write_metrics(_JSON.value, numbers)


if __name__ == "__main__":
    app.run(main)

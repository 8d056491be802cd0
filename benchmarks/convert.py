"""What conversion to TFRecords costs: by the number of pictures and of processes.

python benchmarks/convert.py --dataset=voc:PATH --split=trainval

The pictures of a data set, rendered scenes of 640 x 480 pixels by default, are converted as often
as it takes to reach each count, by one process and by two in turns. The time is a straight line:
the seconds that it takes to start (another process imports TensorFlow first), then so many
examples a second. What counts are the ratio of those rates and how far the times are from their
line. Writes JSON beside the table when --json names a file.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time

import numpy as np
from absl import app, flags

from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.records.conversion import convert
from harmonic_tf.data.scenes import rendering
from harmonic_tf.data.sources import load
from harmonic_tf.evaluation import write_metrics

_DATASET = flags.DEFINE_string("dataset", None, "As KIND:PATH. By default rendered scenes.")
_SPLIT = flags.DEFINE_string("split", "train", "Split of the data set.")
_COUNTS = flags.DEFINE_list("counts", ["1000", "2000", "4000", "8000"], "Numbers of pictures.")
_PROCESSES = flags.DEFINE_list("processes", ["1", "2"], "Numbers of processes.")
_SHARD_MB = flags.DEFINE_float("shard_mb", 5.0, "Size of a shard.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns that each takes.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

_SCENES, _SCENE_SIZE = 200, (480, 640)


def pictures(folder: str) -> DetectionData:
    """What is converted, once."""
    if _DATASET.value:
        return load(_DATASET.value, _SPLIT.value, on_bad_example="skip")
    rendering.render(
        os.path.join(folder, "scenes", "train"), _SCENES, seed=1, image_size=_SCENE_SIZE
    )
    return load(f"scenes:{os.path.join(folder, 'scenes')}", "train")


def write_source(data: DetectionData, count: int, folder: str) -> str:
    """A COCO data set of so many pictures, the given ones again and again; gives its spec."""
    os.makedirs(os.path.join(folder, "images"), exist_ok=True)
    document = {"images": [], "annotations": [], "categories": []}
    for index, name in enumerate(data.class_names):
        document["categories"].append({"id": index + 1, "name": name})
    for number in range(count):
        index = number % len(data.annotations)
        annotation = data.annotations[index]
        link = os.path.join(folder, "images", str(index))
        if not os.path.exists(link):
            os.symlink(os.path.abspath(annotation.image_path), link)
        sides = {"width": annotation.width, "height": annotation.height}
        document["images"].append({"id": number, "file_name": str(index), **sides})
        for (x1, y1, x2, y2), class_index in zip(annotation.boxes.tolist(), annotation.classes):
            row = {"image_id": number, "category_id": int(class_index) + 1}
            document["annotations"].append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    file = os.path.join(folder, f"{count}.json")
    with open(file, "w", encoding="utf-8") as opened:
        json.dump(document, opened)
    return f"coco:{file}"


def seconds_of(source: str, processes: int, shard_mb: float) -> float:
    """How long one conversion takes."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        convert(source, os.path.join(folder, "out"), processes=processes, shard_mb=shard_mb)
        return time.perf_counter() - start


def line(counts: list[int], seconds: list[float]) -> dict[str, float]:
    """The straight line nearest to the times, and how far they are from it."""
    per_example, start = np.polyfit(counts, seconds, 1)
    fitted = start + per_example * np.array(counts)
    return {
        "examples_per_second": 1.0 / per_example,
        "start_seconds": start,
        "largest_deviation": float(np.max(np.abs(np.array(seconds) / fitted - 1.0))),
    }


def main(_: list[str]) -> None:
    """Measures every count with every number of processes and prints one table."""
    counts = [int(count) for count in _COUNTS.value]
    processes = [int(number) for number in _PROCESSES.value]
    times = {number: {count: [] for count in counts} for number in processes}
    with tempfile.TemporaryDirectory() as folder:
        data = pictures(folder)
        sources = {count: write_source(data, count, folder) for count in counts}
        seconds_of(sources[counts[0]], 1, _SHARD_MB.value)
        for _ in range(_ROUNDS.value):
            for count in counts:
                for number in processes:
                    seconds = seconds_of(sources[count], number, _SHARD_MB.value)
                    times[number][count].append(seconds)
    medians = {
        number: [statistics.median(rounds) for rounds in by_count.values()]
        for number, by_count in times.items()
    }
    print(f"\nConversion of {data.name} to TFRecords\n")
    print(f"{'pictures':>24}" + "".join(f"{f'{number} proc. s':>12}" for number in processes))
    for index, count in enumerate(counts):
        print(f"{count:>24}" + "".join(f"{medians[n][index]:>12.2f}" for n in processes))
    lines = {number: line(counts, medians[number]) for number in processes}
    for name, title in (
        ("examples_per_second", "examples/s"),
        ("start_seconds", "start, s"),
        ("largest_deviation", "off the line, at most"),
    ):
        print(f"{title:>24}" + "".join(f"{lines[number][name]:>12.2f}" for number in processes))
    rates = [lines[number]["examples_per_second"] for number in processes]
    print(f"{'ratio of rates':>24}" + "".join(f"{rate / rates[0]:>12.2f}" for rate in rates))
    if _JSON.value:
        numbers = {
            str(number): {"seconds": dict(zip(map(str, counts), medians[number])), **lines[number]}
            for number in processes
        }
        write_metrics(_JSON.value, numbers)


if __name__ == "__main__":
    app.run(main)

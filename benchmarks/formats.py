"""What a detector loses, and gains in speed, in each format that it can be exported in.

python benchmarks/formats.py --run=runs/quickstart

The best checkpoint of a run is exported in every format and measured on its test split. Beside AP
stand the size of the files; the share of the float32 SavedModel's detections, of those with a score
of 0.3 or more, that are found again (same class, IoU of 0.95 or more), and how far their scores are
apart on average; and the time for one letterboxed picture, all taking turns, as a ratio. Writes
JSON beside the table when --json names a file.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags
from timing import time_in_turns

from harmonic_tf.backend import tf
from harmonic_tf.data import sources
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.pipeline.batches import evaluation_batches
from harmonic_tf.evaluation import Detections, coco_metrics, write_metrics
from harmonic_tf.evaluation.metrics.matching import pairwise_iou
from harmonic_tf.export.runtimes import Exported, load_exported
from harmonic_tf.models import DetectionDecoder
from harmonic_tf.training.inference import detect, ground_truth_of
from harmonic_tf.training.run_directory import RunDirectory

_TOP = pathlib.Path(__file__).resolve().parents[1]

_RUN = flags.DEFINE_string("run", "runs/quickstart", "Folder of a training run.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Pictures that each is timed with.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")

REFERENCE = "SavedModel, float32"
FORMATS = {
    REFERENCE: ["--precision=float32"],
    "SavedModel, mixed_bfloat16": ["--precision=mixed_bfloat16"],
    "ONNX": ["--format=onnx"],
    "TFLite": ["--format=tflite"],
    "TFLite, float16": ["--format=tflite", "--quantization=float16"],
    "TFLite, dynamic": ["--format=tflite", "--quantization=dynamic"],
    "TFLite, int8": ["--format=tflite", "--quantization=int8"],
}
SURE = 0.3  # score from which on a detection is looked for
SAME = 0.95  # IoU from which on it is found again


def test_split(run: RunDirectory) -> DetectionData:
    """The pictures that the run is measured on."""
    settings = run.settings()
    data = sources.load(settings["dataset"], settings["test_split"], run.class_names(), "skip")
    return check_pictures(data, "skip")


def export(*arguments: str) -> None:
    """Runs the command, in a process of its own: its flags are not those of this one."""
    command = [sys.executable, "-m", "flags", "export", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=_TOP)


def agreement(reference: Detections, found: Detections) -> tuple[float, float]:
    """Share of the sure detections that are found again; mean difference of their scores."""
    differences, sure = [], np.flatnonzero(reference.scores >= SURE)
    for row in sure:
        rows = np.flatnonzero(
            (found.image_index == reference.image_index[row])
            & (found.classes == reference.classes[row])
        )
        iou = pairwise_iou(reference.boxes[row : row + 1], found.boxes[rows])[0]
        if len(rows) and iou.max() >= SAME:
            differences.append(abs(reference.scores[row] - found.scores[rows[iou.argmax()]]))
    return len(differences) / len(sure), float(np.mean(differences))


def size_of(folder: str) -> float:
    """All files of a version together, MB."""
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*.*")) / 1e6


def seconds_of(loaded: dict[str, Exported], data: DetectionData, size: int) -> dict[str, float]:
    """Median seconds of each for one picture, all taking turns."""
    image = next(iter(evaluation_batches(data, size, 1)))["images"]
    steps = {
        name: lambda exported=exported: tf.reduce_sum(exported.predict(image)["confidence"])
        for name, exported in loaded.items()
    }
    for step in steps.values():
        step()
    return time_in_turns(steps, _ROUNDS.value)


def main(_: list[str]) -> None:
    """Exports and measures all, and prints one table."""
    run = RunDirectory(_RUN.value)
    data = test_split(run)
    truth = ground_truth_of(data)
    loaded, sizes, found = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in FORMATS.items():
            place = os.path.join(folder, name)
            export(f"--run={os.path.abspath(run.path)}", f"--export_dir={place}", *options)
            loaded[name] = load_exported(os.path.join(place, "1"), DetectionDecoder())
            sizes[name] = size_of(os.path.join(place, "1"))
            exported = loaded[name]
            found[name] = detect(exported.predict, data, exported.image_size, 8)
        seconds = seconds_of(loaded, data, loaded[REFERENCE].image_size)
    rows = {}
    for name, detections in found.items():
        again, difference = agreement(found[REFERENCE], detections)
        metrics = coco_metrics(truth, detections)
        rows[name] = {
            **{key: float(metrics[key]) for key in ("AP", "AP50", "AP75")},
            "found_again": again,
            "score_difference": difference,
            "megabytes": sizes[name],
            "times_reference": seconds[name] / seconds[REFERENCE],
        }
    columns = ("AP", "AP50", "AP75", "found again", "|score diff.|", "MB", "x time")
    print(f"\n{data.name}\n\n{'':<28}{''.join(f'{column:>14}' for column in columns)}")
    for name, row in rows.items():
        print(f"{name:<28}{''.join(f'{value:>14.4g}' for value in row.values())}")
    if _JSON.value:
        write_metrics(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)

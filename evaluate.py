"""Measures a detector on any split and writes the report; or compares two of them.

python evaluate.py --run=runs/quickstart --split=val
python evaluate.py --checkpoint=best.keras --dataset=voc:PATH --split=test
python evaluate.py --run=runs/quickstart --checkpoint=models/scenes/1
python evaluate.py --detections=results.json --dataset=coco:PATH --split=val2017
python evaluate.py --compare runs/A runs/B
python evaluate.py --compare runs/A0,runs/A1 runs/B0,runs/B1
"""

from __future__ import annotations

import os
import sys

from absl import flags as absl_flags
from absl import logging

import flags
from harmonic_tf.data.example import DetectionData
from harmonic_tf.evaluation import results_table
from harmonic_tf.export.runtimes import is_exported, load_exported
from harmonic_tf.training.building import build_decoder, load_model
from harmonic_tf.training.command_line import value_in
from harmonic_tf.training.comparison import compare_runs, first_run
from harmonic_tf.training.measuring import (
    Measurement,
    measure,
    measure_predictions,
    measure_results,
    report,
)
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import Experiment
from harmonic_tf.training.splits import load_split, render_scenes

_RUN = absl_flags.DEFINE_string(
    "run", None, "Folder of a training run. Its flags are taken over; those given here win."
)
_CHECKPOINT = absl_flags.DEFINE_string(
    "checkpoint",
    "best",
    "Checkpoint of the run, best or last; a .keras file; or the folder of an exported version.",
)
_SPLIT = absl_flags.DEFINE_string(
    "split", None, "Split to measure on; the run's --test_split by default."
)
_OUT_DIR = absl_flags.DEFINE_string(
    "out_dir",
    None,
    "Folder for numbers, report and pictures; by default RUN/evaluation/SPLIT, and runs/comparison "
    "for --compare.",
)
_DETECTIONS = absl_flags.DEFINE_string(
    "detections",
    None,
    "Measure what any detector found: a file of COCO results, made on --split of --dataset.",
)
_COMPARE = absl_flags.DEFINE_bool(
    "compare",
    False,
    "Compare two runs by the detections that they left, on their test split or on --split: "
    "--compare RUN_A RUN_B. Each may be several that differ in their seed, joined by commas.",
)


def checkpoint_path() -> str:
    """The file, or folder of an exported version, that --run and --checkpoint name.

    Raises:
        FileNotFoundError: when it is not there.
    """
    path = _CHECKPOINT.value
    if path in ("best", "last") and _RUN.value:
        path = RunDirectory(_RUN.value).checkpoint(path)
    if not os.path.isfile(path) and not is_exported(path):
        raise FileNotFoundError(
            f"{path}: no such checkpoint. Give --run=DIR of a training run, "
            "--checkpoint=FILE.keras, or --checkpoint=models/NAME/1 of an exported model."
        )
    return path


def main(*sides: str) -> None:
    """Loads, measures, reports; or compares two sides."""
    logging.set_verbosity(logging.INFO)
    experiment = flags.experiment()
    if _COMPARE.value:
        folder = _OUT_DIR.value or "runs/comparison"
        table = compare_runs(sides, experiment.data, _SPLIT.value, folder)
        print(f"\n{table}\n\nIn {folder}: comparison.md, .json and .png")
        return
    source = _DETECTIONS.value or checkpoint_path()
    split = _SPLIT.value or experiment.data.test_split
    class_names = experiment.data.class_names
    if _RUN.value:
        class_names = RunDirectory(_RUN.value).class_names()
    render_scenes(experiment.data.dataset, experiment.data.scenes)
    data = load_split(experiment.data, split, class_names)
    if _DETECTIONS.value:
        measurement = measure_results(data, source)
    elif is_exported(source):
        measurement = measure_exported(source, data, experiment)
    else:
        measurement = measure_checkpoint(source, data, experiment)

    folder = _OUT_DIR.value or os.path.join(_RUN.value or "runs/evaluation", "evaluation", split)
    out = RunDirectory(folder)
    os.makedirs(folder, exist_ok=True)
    out.write_skipped(data.skipped)
    skipped = [str(problem) for problem in data.skipped]
    settings = {"measured": source, **flags.resolved()}
    report(out, measurement, settings, skipped, experiment.sheet_pictures)
    table = results_table(measurement.metrics)
    print(f"\nResults on {data.name}\n\n{table}\n\nIn {folder}: report.html")


def measure_checkpoint(path: str, data: DetectionData, experiment: Experiment) -> Measurement:
    """Loads a detector, and measures it on a split that was read for it."""
    set_precision(experiment.precision)
    model = load_model(path, experiment.model.decoder)
    if model.num_classes != len(data.class_names):
        sys.exit(
            f"Error: {path}: the model knows {model.num_classes} classes, {data.name} has "
            f"{len(data.class_names)}. Name the model's classes with --classes."
        )
    val = load_val_split(data, experiment)
    image_size = model.image_size or experiment.data.image_size
    return measure(model, data, image_size, experiment.batch_size, val)


def measure_exported(folder: str, data: DetectionData, experiment: Experiment) -> Measurement:
    """Loads an exported model, and measures it likewise."""
    exported = load_exported(folder, build_decoder(experiment.model.decoder))
    if exported.class_names != list(data.class_names):
        sys.exit(
            f"Error: {folder}: the model's classes are {exported.class_names}, those of "
            f"{data.name} {list(data.class_names)}. Name the model's classes with --classes."
        )
    val = load_val_split(data, experiment)
    return measure_predictions(
        exported.predict, data, exported.image_size, experiment.batch_size, val
    )


def load_val_split(data: DetectionData, experiment: Experiment) -> DetectionData | None:
    """The validation split, with the classes of the measured one; None where there is none."""
    split = experiment.data.val_split
    return load_split(experiment.data, split, data.class_names) if split else None


def run_folder(argv: list[str]) -> str | None:
    """The run whose flags are taken over: that of --run, or the first that is compared."""
    if "--compare" not in argv:
        return value_in(argv, "run")
    rest = argv[argv.index("--compare") + 1 :]
    return first_run([argument for argument in rest if not argument.startswith("-")])


if __name__ == "__main__":
    flags.run(main, __doc__, run_folder, takes_arguments=lambda: _COMPARE.value)

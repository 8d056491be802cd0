"""Trains a detector, measures it on held-out pictures and writes the report.

python train.py --flagfile=flags/presets/quickstart.cfg --run_dir=runs/quickstart
"""

from __future__ import annotations

import os

from absl import logging

import flags
from harmonic_tf.backend import keras, tf
from harmonic_tf.evaluation import results_table
from harmonic_tf.export import ServingSettings, check_export_dir, export_model, write_server_files
from harmonic_tf.training.building import load_model
from harmonic_tf.training.command_line import value_in
from harmonic_tf.training.fitting import fit
from harmonic_tf.training.measuring import measure, report
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import Experiment
from harmonic_tf.training.splits import Splits, load_splits
from harmonic_tf.training.strategy import build_strategy, is_chief, wait_for_all

NEXT_STEPS = """
What to try next
  other pictures   python train.py --flagfile=flags/presets/retinanet_voc.cfg --dataset=voc:PATH
  the baseline     python train.py --flagfile={run}/flags.cfg --run_dir={run}-baseline \\
                     {baseline}
  another split    python evaluate.py --run={run} --split=train
  use it           python -m harmonic_tf.export --run={run} --export_dir=models/NAME
  all flags        python train.py --help
"""


def main() -> None:
    """Checks everything, trains, measures, reports."""
    logging.set_verbosity(logging.INFO)
    experiment = flags.experiment()
    strategy = build_strategy(experiment.strategy)
    keras.utils.set_random_seed(experiment.seed)
    if experiment.deterministic_ops:
        tf.config.experimental.enable_op_determinism()
    precision = set_precision(experiment.precision)
    replicas = strategy.num_replicas_in_sync
    logging.info("Precision: %s. Replicas: %d.", precision, replicas)

    run = RunDirectory(experiment.run_dir)
    if experiment.resume and os.path.isfile(run.flags):
        flags.check_resumable(run.read_text("flags.cfg"))
    chief = is_chief(strategy)
    if chief:
        run.create(experiment.overwrite, experiment.resume)
        if experiment.export_dir:
            check_export_dir(experiment.export_dir)
    splits = load_splits(experiment.data)
    if chief:
        run.write_text("flags.cfg", flags.flagfile())
        run.write_version(precision)
        run.write_class_names(splits.train.class_names)
        run.write_skipped(splits.skipped)

    fit(experiment, splits, run, strategy)
    if chief:
        measure_and_report(experiment, splits, run)
        if experiment.export_dir:
            export(experiment, run)
    wait_for_all(strategy)


def measure_and_report(experiment: Experiment, splits: Splits, run: RunDirectory) -> None:
    """Measures the best checkpoint on the test split; writes and prints what came out."""
    model = load_model(run.checkpoint("best"))
    measurement = measure(
        model, splits.test, experiment.data.image_size, experiment.batch_size, splits.val
    )
    skipped = [
        f"{split.name}: {problem}"
        for split in (splits.train, splits.val, splits.test)
        if split is not None
        for problem in split.skipped
    ]
    report(run, measurement, flags.resolved(), skipped, experiment.sheet_pictures)
    table = results_table(measurement.metrics)
    print(f"\nResults on {splits.test.name}\n\n{table}\n\nIn {run.path}")
    for name, place in run.describe().items():
        print(f"  {name:<12}{place}")
    print(NEXT_STEPS.format(run=run.path, baseline=flags.loss.baseline(experiment.model)))


def export(experiment: Experiment, run: RunDirectory) -> None:
    """Writes the best checkpoint as a version of a served model; says where."""
    settings = ServingSettings(experiment.data.image_size)
    model = load_model(run.checkpoint("best"))
    folder = export_model(model, run.class_names(), experiment.export_dir, settings)
    write_server_files(experiment.export_dir, settings.max_batch)
    print(f"Exported: {folder}\n")


def run_to_resume(argv: list[str]) -> str | None:
    """The folder whose run goes on, None where a new run begins."""
    folder = value_in(argv, "run_dir")
    asked = "--resume" in argv or "-resume" in argv or value_in(argv, "resume") == "true"
    return folder if asked and folder and os.path.isfile(RunDirectory(folder).flags) else None


if __name__ == "__main__":
    flags.run(main, __doc__, run_folder=run_to_resume)

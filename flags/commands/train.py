"""Trains a detector, measures it on held-out images and writes the report.

harmonic-tf train --preset=quickstart --run_dir=runs/quickstart
harmonic-tf train --preset=retinanet_voc --dataset=voc:PATH --run_dir=runs/mine
harmonic-tf train --run_dir=runs/mine --resume
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from absl import flags, logging

from harmonic_tf.backend import keras, tf
from harmonic_tf.evaluation import Calibration, results_table
from harmonic_tf.export import ServingSettings, check_export_dir, export_model, write_server_files
from harmonic_tf.models import CATALOG
from harmonic_tf.shell import command
from harmonic_tf.training.batch_size import with_batch_size
from harmonic_tf.training.building import load_model, with_fitting_anchors
from harmonic_tf.training.calibrating import NONE, calibrate, reason_against
from harmonic_tf.training.fitting import check_patience, fit
from harmonic_tf.training.inference import prediction_function
from harmonic_tf.training.measuring import (
    Validated,
    keep,
    measure,
    measure_found,
    report,
    validated,
)
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.schedule import with_schedule
from harmonic_tf.training.settings import Experiment, SettingsError
from harmonic_tf.training.splits import Splits, load_splits
from harmonic_tf.training.strategy import build_strategy, is_chief, wait_for_all

from .. import experiment as experiments
from .. import loss, model
from ..command_line import value_in
from ..running import Command, flags_of


def main() -> None:
    """Checks everything, trains, measures, reports."""
    experiment = experiments.experiment()
    check_patience(experiment)
    strategy = build_strategy(experiment.strategy)
    keras.utils.set_random_seed(experiment.seed)
    if experiment.deterministic_ops:
        tf.config.experimental.enable_op_determinism()
    precision = set_precision(experiment.precision, strategy)
    replicas = strategy.num_replicas_in_sync
    logging.info("Precision: %s. Replicas: %d.", precision, replicas)

    run = RunDirectory(experiment.run_dir)
    if experiment.resume and run.exists:
        experiments.check_resumable(run)
        experiment = dataclasses.replace(experiment, **experiments.chosen_by(run))
    chief = is_chief(strategy)
    if chief:
        run.create(experiment.overwrite, experiment.resume)
        if experiment.export_dir:
            check_export_dir(experiment.export_dir)
    splits = load_splits(experiment.data)
    network = with_fitting_anchors(experiment.model, splits.train, experiment.data.image_size)
    experiment = dataclasses.replace(experiment, model=network)
    experiment = with_batch_size(experiment, splits.train, strategy)
    experiment = with_schedule(experiment, len(splits.train.annotations))
    if chief:
        anchors = network.anchors if CATALOG[network.name].has_anchors else None
        settings = experiments.resolved(
            precision=precision,
            **{name: getattr(experiment, name) for name in experiments.CHOSEN},
            **model.flags_of_anchors(anchors),
        )
        run.write_settings(settings, experiments.flagfile(settings))
        run.write_version(precision)
        run.write_class_names(splits.train.class_names)
        run.write_skipped(splits.skipped)

    # Once more, as what was built to be looked at has drawn numbers.
    keras.utils.set_random_seed(experiment.seed)
    fit(experiment, splits, run, strategy)
    if chief:
        measure_and_report(experiment, splits, run)
        if experiment.export_dir:
            export(experiment, run)
    wait_for_all(strategy)


def measure_and_report(experiment: Experiment, splits: Splits, run: RunDirectory) -> None:
    """Measures the best checkpoint on the test split; writes and prints what came out."""
    detector = load_model(run.checkpoint("best"))
    sizes = experiment.data.image_size, experiment.batch_size
    val = validated(prediction_function(detector), splits.val, *sizes)
    calibration = calibrate_if_asked(experiment, val, run)
    if val is not None and val.name != splits.test.name:
        measured = measure_found(splits.val, val.found, calibration=calibration)
        keep(run.evaluation(experiment.data.val_part), measured)
    measurement = measure(detector, splits.test, *sizes, val, calibration)
    skipped = [
        f"{split.name}: {problem}"
        for split in (splits.train, splits.val, splits.test)
        if split is not None
        for problem in split.skipped
    ]
    settings = {name: experiments.as_text(value) for name, value in run.settings().items()}
    report(run, measurement, settings, skipped, experiment.sheet_pictures)
    table = results_table(measurement.metrics)
    print(f"\nResults on {splits.test.name}\n\n{table}\n\nIn {run.path}")
    for name, place in run.describe().items():
        print(f"  {name:<12}{place}")
    print(next_steps(run, experiment))


def calibrate_if_asked(
    experiment: Experiment, val: Validated | None, run: RunDirectory
) -> Calibration | None:
    """Calibrates the best checkpoint where there is a split for it; otherwise removes what was."""
    asked, reason = experiment.calibration != NONE, reason_against(experiment.data)
    if asked and reason is None:
        return calibrate(run, val, experiment.calibration)
    if asked:
        logging.info("Scores are not calibrated: %s.", reason)
    run.write_calibration(None)
    return None


def next_steps(run: RunDirectory, experiment: Experiment) -> str:
    """What to try next, as commands that can be pasted."""
    baseline = loss.baseline(experiment.model)
    steps = {
        "other images": ("train", "--preset=retinanet_voc", "--dataset=voc:PATH"),
        "the baseline": (
            *("train", f"--flagfile={run.flags}", f"--run_dir={run.path}-baseline"),
            *baseline,
        ),
        "another split": ("evaluate", f"--run={run.path}", "--split=train"),
        "use it": ("export", f"--run={run.path}", "--export_dir=models/NAME"),
        "all flags": ("train", "--help"),
    }
    lines = [f"  {what:<15}{command(*words)}" for what, words in steps.items()]
    return "\n".join(["\nWhat to try next", *lines])


def export(experiment: Experiment, run: RunDirectory) -> None:
    """Writes the best checkpoint as a version of a served model; says where."""
    settings = ServingSettings(experiment.data.image_size)
    detector = load_model(run.checkpoint("best"), calibration=run.calibration())
    folder = export_model(detector, run.class_names(), experiment.export_dir, settings)
    write_server_files(experiment.export_dir, settings.max_batch)
    print(f"Exported: {folder}\n")


def flags_to_resume(arguments: Sequence[str]) -> Sequence[str]:
    """The flags of the run that goes on; none where a new one begins.

    Raises:
        SettingsError: there is no run to go on with, and nothing to begin one from.
    """
    switches = [argument for argument in arguments if argument.lstrip("-") == "resume"]
    if not switches and value_in(arguments, "resume") != "true":
        return ()
    folder = value_in(arguments, "run_dir") or flags.FLAGS["run_dir"].default
    if RunDirectory(folder).exists:
        return experiments.flags_of_run(folder)
    if value_in(arguments, "dataset") is None:
        raise SettingsError(
            f"{folder}: there is no run to resume (no experiment.json in that folder). Name the "
            "--run_dir of a run, or give --dataset or --preset to begin one there."
        )
    return ()


COMMAND = Command(main, flags_of(*experiments.AREAS), before=flags_to_resume)

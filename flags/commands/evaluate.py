"""Measures a detector on any split and writes the report; or compares two of them.

harmonic-tf evaluate --run=runs/quickstart --split=val
harmonic-tf evaluate --checkpoint=best.keras --dataset=PATH --split=test
harmonic-tf evaluate --run=runs/quickstart --checkpoint=models/scenes/1
harmonic-tf evaluate --detections=results.json --dataset=coco:PATH --split=val2017
harmonic-tf evaluate --compare runs/A runs/B
harmonic-tf evaluate --compare runs/A0,runs/A1 runs/B0,runs/B1
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DetectionData
from harmonic_tf.evaluation import results_table
from harmonic_tf.export.runtimes import is_exported, load_exported
from harmonic_tf.training.building import build_decoder, load_model
from harmonic_tf.training.comparison import compare_runs, first_run
from harmonic_tf.training.inference import Found, prediction_function
from harmonic_tf.training.measuring import (
    Measurement,
    Validated,
    measure,
    measure_predictions,
    measure_results,
    report,
    validated,
)
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import Experiment, SettingsError
from harmonic_tf.training.splits import Loader, render_scenes

from .. import common, evaluation
from .. import experiment as experiments
from ..command_line import parts, value_in
from ..data import CUT
from ..model import DECODING
from ..running import Command, UsageError, flags_of


def main(*sides: str) -> None:
    """Loads, measures, reports; or compares two sides."""
    experiment = experiments.experiment_to_measure()
    split = _split(experiment)
    if evaluation.COMPARE.value:
        folder = common.OUT_DIR.value or os.path.join("runs", "comparison")
        table = compare_runs(sides, experiment.data, common.SPLIT.value and split, folder)
        print(f"\n{table}\n\nIn {folder}: comparison.md, .json and .png")
        return
    if sides:
        raise UsageError(f"Only --compare takes runs without a flag: {' '.join(sides)}.")
    run = common.RUN.value
    source = evaluation.DETECTIONS.value or checkpoint_path(run)
    class_names = RunDirectory(run).class_names() if run else experiment.data.class_names
    render_scenes(experiment.data.dataset, experiment.data.scenes)
    loader = Loader(experiment.data)
    data = loader.load(split, class_names)
    folder = common.OUT_DIR.value or RunDirectory(run or "runs").evaluation(split)
    os.makedirs(folder, exist_ok=True)  # where that fails, before minutes of measuring
    if evaluation.DETECTIONS.value:
        measurement = measure_results(data, source)
    elif is_exported(source):
        measurement = measure_exported(source, data, experiment, loader)
    else:
        measurement = measure_checkpoint(source, data, experiment, loader)

    out = RunDirectory(folder)
    out.write_skipped(data.skipped)
    skipped = [str(problem) for problem in data.skipped]
    values = {"measured": source, **experiments.resolved()}
    settings = {name: experiments.as_text(value) for name, value in values.items()}
    report(out, measurement, settings, skipped, experiment.sheet_pictures)
    table = results_table(measurement.metrics)
    print(f"\nResults on {data.name}\n\n{table}\n\nIn {folder}: report.html")


def _split(experiment: Experiment) -> str:
    """The split to measure on."""
    asked = common.SPLIT.value
    return ",".join(asked) if asked else experiment.data.test_split


def checkpoint_path(run: str | None) -> str:
    """The file, or folder of an exported version, that --run and --checkpoint name.

    Args:
        run: folder of a training run, or None.

    Raises:
        FileNotFoundError: when it is not there.
    """
    path = common.CHECKPOINT.value
    if path in ("best", "last") and run:
        path = RunDirectory(run).checkpoint(path)
    if not os.path.isfile(path) and not is_exported(path):
        raise FileNotFoundError(
            f"{path}: no such checkpoint. Give --run=DIR of a training run, "
            "--checkpoint=FILE.keras, or --checkpoint=models/NAME/1 of an exported model."
        )
    return path


def measure_checkpoint(
    path: str, data: DetectionData, experiment: Experiment, loader: Loader
) -> Measurement:
    """Loads a detector, and measures it on a split that was read for it."""
    set_precision(experiment.precision)
    model = load_model(path, experiment.model.decoder)
    if model.num_classes != len(data.class_names):
        raise SettingsError(
            f"{path}: the model knows {model.num_classes} classes, {data.name} has "
            f"{len(data.class_names)}. Name the model's classes with --classes."
        )
    image_size = model.image_size or experiment.data.image_size
    val = detect_val_part(prediction_function(model), data, image_size, experiment, loader)
    calibration = common.calibration(model.prediction_decoder.nms)
    return measure(model, data, image_size, experiment.batch_size, val, calibration)


def measure_exported(
    folder: str, data: DetectionData, experiment: Experiment, loader: Loader
) -> Measurement:
    """Loads an exported model, and measures it likewise."""
    exported = load_exported(folder, build_decoder(experiment.model.decoder))
    if exported.class_names != list(data.class_names):
        raise SettingsError(
            f"{folder}: the model's classes are {exported.class_names}, those of {data.name} "
            f"{list(data.class_names)}. Name the model's classes with --classes."
        )
    predict, image_size = exported.predict, exported.image_size
    val = detect_val_part(predict, data, image_size, experiment, loader)
    return measure_predictions(predict, data, image_size, experiment.batch_size, val)


def detect_val_part(
    predict: Callable[[tf.Tensor], Found],
    data: DetectionData,
    image_size: int,
    experiment: Experiment,
    loader: Loader,
) -> Validated | None:
    """What is found in the validation part; None where there is none but the measured one."""
    split = experiment.data.val_part
    val = loader.load(split, data.class_names) if split else None
    if val is None or val.name == data.name:
        return None
    return validated(predict, val, image_size, experiment.batch_size)


def flags_of_measured_run(arguments: Sequence[str]) -> Sequence[str]:
    """The flags of the run of --run, or of the first run that is compared."""
    folder = value_in(arguments, "run")
    if any(parts(argument)[0] == "compare" for argument in arguments):
        folder = first_run([a for a in arguments if parts(a)[0] is None])
    return experiments.flags_of_run(folder) if folder else ()


COMMAND = Command(
    main,
    [
        *flags_of(evaluation),
        *("run", "checkpoint", "calibrated", "split", "out_dir"),
        *("dataset", "val_split", "test_split", *CUT, "classes", "image_size"),
        *("on_bad_example", "max_bad_fraction", "max_pixels", "on_truncated"),
        *("scenes_train", "scenes_val", "scenes_test", "scenes_size", "scenes_seed"),
        *DECODING,
        *("batch_size", "precision", "sheet_pictures"),
    ],
    arguments="[--compare RUN_A RUN_B]",
    before=flags_of_measured_run,
)

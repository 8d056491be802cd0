"""Makes the scores of a trained detector mean overlap, by its validation split.

harmonic-tf calibrate --run=runs/quickstart
harmonic-tf calibrate --run=runs/quickstart --calibration=linear
harmonic-tf calibrate --run=runs/quickstart --calibration=none

train does so at its end. The calibration is kept in the run, as calibration.json, for its
checkpoint best; evaluate and export apply it from then on. none removes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from harmonic_tf.shell import command
from harmonic_tf.training.building import load_model
from harmonic_tf.training.calibrating import NONE, calibrate, reason_against
from harmonic_tf.training.inference import prediction_function
from harmonic_tf.training.measuring import Validated, validated
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import Experiment, SettingsError
from harmonic_tf.training.splits import load_split, render_scenes

from .. import common
from .. import experiment as experiments
from ..command_line import parts, value_in
from ..data import CUT
from ..running import Command, UsageError


def main() -> None:
    """Detects on the validation split, fits, keeps what came out, says how good it is."""
    if not common.RUN.value:
        raise UsageError("--run=DIR of a training run is needed.")
    run, experiment = RunDirectory(common.RUN.value), experiments.experiment_to_measure()
    if experiment.calibration == NONE:
        run.write_calibration(None)
        print(f"{run.path}: scores are left as they are.")
        return
    reason = reason_against(experiment.data)
    if reason is not None:
        raise SettingsError(f"{run.path}: scores cannot be calibrated: {reason}.")
    val = found_in_val_part(run, experiment)
    calibration = calibrate(run, val, experiment.calibration)
    if calibration is None:
        return
    print(f"\n{calibration.summary()}\n\nIn {run.calibration_file}\n{next_steps(run)}")


def found_in_val_part(run: RunDirectory, experiment: Experiment) -> Validated:
    """What the best checkpoint of a run finds in its validation part, with raw scores."""
    render_scenes(experiment.data.dataset, experiment.data.scenes)
    data = load_split(experiment.data, experiment.data.val_part, run.class_names())
    set_precision(experiment.precision)
    detector = load_model(run.checkpoint("best"), experiment.model.decoder)
    image_size = detector.image_size or experiment.data.image_size
    predict = prediction_function(detector)
    return validated(predict, data, image_size, experiment.batch_size)


def next_steps(run: RunDirectory) -> str:
    """What takes the calibration up, as commands that can be pasted."""
    measure = command("evaluate", f"--run={run.path}")
    use = command("export", f"--run={run.path}", "--export_dir=models/NAME")
    return f"Measure it: {measure}\nUse it: {use}"


def flags_of_calibrated_run(arguments: Sequence[str]) -> Sequence[str]:
    """The flags of the run, but for how its training ended: what is not typed is the default."""
    folder = value_in(arguments, "run")
    of_run = experiments.flags_of_run(folder) if folder else ()
    return [flag for flag in of_run if parts(flag)[0] != "calibration"]


COMMAND = Command(
    main,
    [
        *("run", "calibration", "dataset", "val_split", *CUT),
        *("on_bad_example", "max_bad_fraction", "max_pixels", "on_truncated"),
        *("batch_size", "precision"),
    ],
    before=flags_of_calibrated_run,
)

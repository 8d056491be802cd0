"""The experiment that the flags of all areas add up to, and the file that repeats it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from harmonic_tf.data import sources
from harmonic_tf.models import IMAGENET
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import AUTO, Experiment

from . import calibration, data, export, loss, model, runtime, training
from .running import UsageError, flags_of

AREAS = (data, model, loss, training, calibration, runtime, export)

# Flags of numbers that a run chooses where they say AUTO. It records what it chose.
CHOSEN = ("epochs", "batch_size", "eval_every")

# Flags that name a file or a folder, unless they have one of the values named here.
_PATHS = {
    "run_dir": (),
    "export_dir": (),
    "start_from": (),
    "backbone_weights": (model.AUTO, model.RANDOM, IMAGENET),
    "cache": ("none", "memory"),
}


def experiment() -> Experiment:
    """The experiment that the parsed flags describe.

    Raises:
        UsageError: when a combination of values makes no sense.
    """
    try:
        return _experiment()
    except ValueError as error:
        raise UsageError(str(error)) from error


def experiment_to_measure() -> Experiment:
    """The same for a detector that is there: a batch size chosen for training says nothing here.

    Raises:
        UsageError: see `experiment`.
    """
    described = experiment()
    if described.batch_size == AUTO:
        return dataclasses.replace(described, batch_size=flags.FLAGS["batch_size"].default)
    return described


def experiment_of_run(folder: str) -> Experiment:
    """The experiment of a run, whose flags replace those in force.

    Args:
        folder: the run's.

    Raises:
        FileNotFoundError: see `flags_of_run`.
        UsageError: see `experiment`.
    """
    of_run = flags_of_run(folder)
    for flag in _all_flags():
        flag.unparse()  # what the run does not give is the default
    flags.FLAGS([folder, *of_run])
    return experiment_to_measure()


def _experiment() -> Experiment:
    values = flags.FLAGS
    return Experiment(
        run_dir=values.run_dir,
        overwrite=values.overwrite,
        resume=values.resume,
        data=data.settings(values.seed),
        model=model.settings(),
        loss=loss.build(model.settings()),
        optimizer=training.optimizer(),
        epochs=values.epochs,
        freeze=values.freeze,
        unfreeze_after=values.unfreeze_after,
        backbone_learning_rate_factor=values.backbone_learning_rate_factor,
        batch_size=values.batch_size,
        accumulation_steps=values.accumulation_steps,
        average_decay=values.average_decay,
        max_skipped_steps=values.max_skipped_steps,
        save_every_steps=values.save_every_steps,
        keep_states=values.keep_states,
        eval_every=values.eval_every,
        patience=values.patience,
        calibration=values.calibration,
        seed=values.seed,
        strategy=values.strategy,
        precision=values.precision,
        deterministic_ops=values.deterministic_ops,
        jit_compile=runtime.jit_compile(),
        sheet_pictures=values.sheet_pictures,
        export_dir=values.export_dir,
    )


def flags_of_run(folder: str) -> list[str]:
    """The flags that a run was made with, as a command line.

    Args:
        folder: the run's.

    Raises:
        FileNotFoundError: when there is no run in that folder.
    """
    return flagfile(RunDirectory(folder).settings()).splitlines()


def check_resumable(run: RunDirectory) -> None:
    """Makes sure that a run goes on as it began.

    Args:
        run: a run that is there.

    Raises:
        UsageError: when a flag has another value than then, and it matters.
    """
    before = run.settings()
    now = resolved(**chosen_by(run))
    may_change = {"epochs", "eval_every", "patience", *flags_of(calibration, runtime, export)}
    names = (before.keys() | now.keys()) - may_change
    changed = sorted(name for name in names if not _same(before.get(name), now.get(name)))
    if changed:
        raise UsageError(
            f"--resume goes on with the flags of the run; --{', --'.join(changed)} differ. Leave "
            "them out, or name another --run_dir."
        )


def chosen_by(run: RunDirectory) -> dict[str, int]:
    """What a run chose of the numbers that the parsed flags leave to it, by flag.

    Args:
        run: a run that is there.
    """
    before = run.settings()
    asked = (name for name in CHOSEN if flags.FLAGS[name].value == AUTO)
    return {name: before[name] for name in asked if name in before}


def _same(a: Any, b: Any) -> bool:
    """Whether two values of a flag say the same; `"8"` and `"8.0"` do."""
    try:
        return a == b or [*map(float, a)] == [*map(float, b)]
    except (TypeError, ValueError):
        return False


def resolved(**instead: Any) -> dict[str, Any]:
    """Every flag of the areas with the value in force, defaults included; paths are absolute.

    Args:
        **instead: values in place of those in force, by flag.

    Returns:
        Texts, numbers, booleans and lists of texts, by name; no flag that is None.
    """
    values = {flag.name: instead.get(flag.name, flag.value) for flag in _all_flags()}
    if values["dataset"]:
        values["dataset"] = sources.absolute(values["dataset"])
    for name, words in _PATHS.items():
        if values[name] and values[name] not in words:
            values[name] = os.path.abspath(os.path.expanduser(values[name]))
    return {name: value for name, value in values.items() if value is not None}


def flagfile(values: Mapping[str, Any]) -> str:
    """The text of a file that `--flagfile` reads.

    Args:
        values: as `resolved` gives them.
    """
    return "".join(f"{_flag(name, value)}\n" for name, value in values.items())


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{name}"
    return f"--{name}={as_text(value)}"


def as_text(value: Any) -> str:
    """A flag's value as a command line has it."""
    return ",".join(value) if isinstance(value, list) else str(value)


def given(but: Sequence[str] = ()) -> list[str]:
    """The flags of the areas that a command line gives, its files included, as it could give them.

    Args:
        but: names of flags to leave out.
    """
    return [flag.serialize() for flag in _all_flags() if flag.present and flag.name not in but]


def _all_flags() -> list[flags.Flag]:
    return [flags.FLAGS[name] for name in flags_of(*AREAS)]

"""Two training runs, or two sides of several, compared by the detections that they left behind."""

from __future__ import annotations

import os
from collections.abc import Sequence

from harmonic_tf.evaluation import (
    compare,
    comparison_table,
    read_detections,
    write_comparison,
)
from harmonic_tf.shell import command
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import DataSettings, SettingsError
from harmonic_tf.training.splits import load_split, render_scenes

# Where they are not among the flags of a run, nothing was cut.
_UNCUT = {
    "val_fraction": 0.0,
    "test_fraction": 0.0,
    "missing_splits": "error",
    "split_by": None,
    "split_seed": 0,
}
_DATA = ("dataset", *_UNCUT)


def compare_runs(
    sides: Sequence[str], settings: DataSettings, split: str | None, out_dir: str
) -> str:
    """Compares two sides on a split, writes the comparison and gives its table.

    Args:
        sides: A and B, each the folder of a run, or several joined by commas that differ in their
            seed.
        settings: the data; that of A's first run.
        split: which part of it; None is the test split of the runs.
        out_dir: folder to write comparison.json, .md and .png into, made if missing.

    Returns:
        The comparison as plain text.

    Raises:
        SettingsError: there are not two sides, or runs of different data or classes.
        ResultsError: a file of detections is damaged.
        DataError: the data cannot be read.
        OSError: a run or its detections are missing, or `out_dir` cannot be written to.
    """
    if len(sides) != 2:
        raise _wrong_number(sides)
    runs_a, runs_b = ([RunDirectory(folder) for folder in side.split(",")] for side in sides)
    runs = [*runs_a, *runs_b]
    _check_same_data(runs, [*_DATA, *([] if split else ["test_split"])])
    part = split or settings.test_split
    files = [_detections_file(run, part, own=split is None) for run in runs]

    render_scenes(settings.dataset, settings.scenes)
    data = load_split(settings, part, runs[0].class_names())
    truth = ground_truth_of(data)
    found = [read_detections(file, truth, data.category_ids) for file in files]
    result = compare(truth, found[: len(runs_a)], found[len(runs_a) :], progress=True)
    os.makedirs(out_dir, exist_ok=True)
    names = ([run.path for run in side] for side in (runs_a, runs_b))
    write_comparison(out_dir, result, *names, data.name)
    return comparison_table(result)


def first_run(sides: Sequence[str]) -> str:
    """The folder of A's first run.

    Args:
        sides: as for `compare_runs`.

    Raises:
        SettingsError: there is none.
    """
    if not sides:
        raise _wrong_number(sides)
    return sides[0].split(",")[0]


def _wrong_number(sides: Sequence[str]) -> SettingsError:
    return SettingsError(
        f"--compare: {len(sides)} runs are given, 2 are needed: --compare RUN_A RUN_B. Join runs "
        "that differ in their seed by commas: --compare A0,A1,A2 B0,B1,B2."
    )


def _check_same_data(runs: Sequence[RunDirectory], flags: Sequence[str]) -> None:
    """Makes sure that all runs speak of the same pictures and classes as the first."""

    def choices(run: RunDirectory) -> dict[str, str]:
        settings = run.settings()
        return {
            **{f"--{flag}": str(settings.get(flag, _UNCUT.get(flag))) for flag in flags},
            "classes": ", ".join(run.class_names()),
        }

    first = choices(runs[0])
    for run in runs[1:]:
        for name, value in choices(run).items():
            if value != first[name]:
                raise SettingsError(
                    f"{run.path}: {name} = {value}, but {runs[0].path} has {first[name]}. Only "
                    "detections of the same pictures and classes can be compared."
                )


def _detections_file(run: RunDirectory, split: str, own: bool) -> str:
    """Where a run's detections on a split are; `own` where training measured on it.

    Raises:
        FileNotFoundError: they are not there; says how to make them.
    """
    evaluated = os.path.join(run.evaluation(split), "detections.json")
    for file in (run.file("detections.json"), evaluated) if own else (evaluated,):
        if os.path.isfile(file):
            return file
    remedy = command("evaluate", f"--run={run.path}", *([] if own else [f"--split={split}"]))
    raise FileNotFoundError(f"{evaluated}: no such file. It is made by {remedy}")

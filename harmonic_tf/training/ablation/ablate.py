"""Trains every row of the loss with every seed, and writes the tables after every run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Callable

from harmonic_tf.data.example import DataError
from harmonic_tf.evaluation import ResultsError
from harmonic_tf.files import write_text
from harmonic_tf.training.ablation import report
from harmonic_tf.training.ablation.detections import HeldOut, complete
from harmonic_tf.training.ablation.pace import (
    Budget,
    expected_seconds,
    in_words,
    seconds_left,
)
from harmonic_tf.training.ablation.results import Result, read_result
from harmonic_tf.training.ablation.rows import ROWS, Row
from harmonic_tf.training.ablation.runs import End, Run, train
from harmonic_tf.training.settings import DataSettings, SettingsError


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the runs of an ablation.

    Args:
        failed: those that failed.
        left: those that there was no time to begin.
        seconds_left: what these would take; NaN where that is not known.
    """

    failed: Sequence[Run]
    left: Sequence[Run]
    seconds_left: float


def ablate(
    handed: Sequence[str],
    rows: Sequence[Row],
    seeds: Sequence[int],
    out_dir: str,
    model: str,
    data: DataSettings,
    command: Sequence[str],
    processes: int = 1,
    hours: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Trains what is missing and writes the tables, anew after every run that has finished.

    Args:
        handed: flags that every run gets.
        rows: the losses; one that calibrates another is measured when a run of that is finished.
        seeds: of each row. All rows get their first seed, then all their second.
        out_dir: folder that takes runs and tables, see the command's `--help`.
        model: name of the detector.
        data: of all runs.
        command: what trains, as a command line without flags.
        processes: trainings that run side by side.
        hours: in which runs are begun, those that are expected to end in them; None begins all.
            What is begun is finished.
        say: takes a line on each run that has ended.

    Returns:
        What became of the runs.

    Raises:
        SettingsError: `out_dir` holds an ablation with other flags.
        OSError: a file is missing or cannot be written.
    """
    budget = Budget(hours)
    os.makedirs(out_dir, exist_ok=True)
    _check_same_flags(os.path.join(out_dir, "flags.txt"), handed)

    def command_of(run: Run) -> list[str]:
        own = [f"--seed={run.seed}", f"--run_dir={run.folder}", "--resume"]
        # What the losses make of scores is asked for, which a calibration would level.
        return [*command, "--calibration=none", *handed, *run.row.flags(model), *own]

    def write_tables() -> None:
        report.write(out_dir, _results(out_dir, data.val_part), model, handed)

    calibrated = {row.calibrates: row for row in rows if row.calibrates}
    held_out = HeldOut(data)

    def further(run: Run) -> None:
        row = calibrated.get(run.row.name)
        try:
            complete(run, row and _run(out_dir, row, run.seed), held_out)
        except (DataError, ResultsError, OSError) as error:
            say(f"{run.name}: not measured further: {error}")

    runs = [_run(out_dir, row, seed) for seed in seeds for row in rows if not row.calibrates]
    missing = [run for run in runs if not run.finished]
    say(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished before.")
    for run in _finished(out_dir):
        if not run.row.calibrates:
            further(run)
    failed: list[Run] = []

    def say_busy(run: Run) -> None:
        say(f"{run.name}: still being trained by a process of an earlier start; waiting for it.")

    def begins(run: Run) -> bool:
        return budget.has_room_for(expected_seconds(run, _finished(out_dir)))

    def left() -> list[Run]:
        return [run for run in missing if not run.finished and run not in failed]

    with contextlib.closing(train(missing, command_of, processes, say_busy, begins)) as ends:
        for count, end in enumerate(ends, start=1):
            if end.status or not end.run.finished:
                failed.append(end.run)
            else:
                further(end.run)
                write_tables()
            time_left = in_words(seconds_left(left(), _finished(out_dir), processes))
            say(f"[{count}/{len(missing)}] {end.run.name}: {_described(end)} ({time_left} left)")
    write_tables()
    return Outcome(failed, left(), seconds_left(left(), _finished(out_dir), processes))


def summary(out_dir: str) -> str:
    """The means of all rows that an ablation has finished runs of, for the terminal.

    Args:
        out_dir: its folder.
    """
    results = _results(out_dir, None)
    return report.summary(results) if results else "No run has finished."


def _run(out_dir: str, row: Row, seed: int) -> Run:
    return Run(row, seed, os.path.join(out_dir, row.name, f"seed-{seed}"))


def _results(out_dir: str, val_split: str | None) -> list[Result]:
    """What all finished runs came to."""
    return [read_result(run, val_split) for run in _finished(out_dir)]


def _finished(out_dir: str) -> list[Run]:
    """All finished runs, row by row, those of earlier starts with other seeds included."""
    found = []
    for row in ROWS.values():
        folders = pathlib.Path(out_dir, row.name).glob("seed-*")
        matches = (re.fullmatch(r"seed-(\d+)", folder.name) for folder in folders)
        seeds = sorted(int(match[1]) for match in matches if match)
        found += [_run(out_dir, row, seed) for seed in seeds]
    return [run for run in found if run.finished]


def _described(end: End) -> str:
    took = in_words(end.seconds)
    if end.status or not end.run.finished:
        tail = end.run.tail().replace("\n", "\n    ")
        return f"FAILED with exit status {end.status}, {took}; {end.run.log} ends\n    {tail}\n   "
    return f"AP {read_result(end.run).values['AP']:.3f}, {took}"


def _check_same_flags(path: str, flags: Sequence[str]) -> None:
    """Makes sure that all runs of a folder are of one experiment."""
    text = "".join(f"{flag}\n" for flag in flags)
    if not os.path.isfile(path):
        write_text(path, text)
    before = pathlib.Path(path).read_text(encoding="utf-8")
    if before != text:
        changed = sorted(set(before.splitlines()) ^ set(flags)) or ["their order"]
        raise SettingsError(
            f"{path}: the ablation here was begun with other flags; what differs: "
            f"{', '.join(changed)}. Give the same, or name another --out_dir."
        )

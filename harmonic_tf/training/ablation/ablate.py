"""Trains every row of the loss with every seed, and writes the tables after every run."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Callable

from harmonic_tf.files import write_text
from harmonic_tf.training.ablation import report
from harmonic_tf.training.ablation.rows import ROWS, Row
from harmonic_tf.training.ablation.runs import End, Run, train
from harmonic_tf.training.settings import SettingsError


def ablate(
    handed: Sequence[str],
    rows: Sequence[Row],
    seeds: Sequence[int],
    out_dir: str,
    model: str,
    command: Sequence[str],
    processes: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[Run]:
    """Trains what is missing and writes the tables, anew after every run that has finished.

    Args:
        handed: flags that every run gets.
        rows: the losses.
        seeds: of each row. All rows get their first seed, then all their second.
        out_dir: folder that takes runs and tables, see the command's `--help`.
        model: name of the detector.
        command: what trains, as a command line without flags.
        processes: trainings that run side by side.
        say: takes a line on each run that has ended.

    Returns:
        The runs that failed.

    Raises:
        SettingsError: `out_dir` holds an ablation with other flags.
        OSError: a file is missing or cannot be written.
    """
    os.makedirs(out_dir, exist_ok=True)
    _check_same_flags(os.path.join(out_dir, "flags.txt"), handed)

    def command_of(run: Run) -> list[str]:
        own = [f"--seed={run.seed}", f"--run_dir={run.folder}", "--resume"]
        # What the losses make of scores is asked for, which a calibration would level.
        return [*command, "--calibration=none", *handed, *run.row.flags(model), *own]

    def write_tables() -> None:
        report.write(out_dir, _results(out_dir), model, handed)

    runs = [_run(out_dir, row, seed) for seed in seeds for row in rows]
    missing = [run for run in runs if not run.finished]
    say(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished before.")
    failed = []
    start = time.monotonic()

    def say_busy(run: Run) -> None:
        say(f"{run.name}: still being trained by a process of an earlier start; waiting for it.")

    with contextlib.closing(train(missing, command_of, processes, say_busy)) as ends:
        for count, end in enumerate(ends, start=1):
            if end.status or not end.run.finished:
                failed.append(end.run)
            else:
                write_tables()
            per_run = (time.monotonic() - start) / count
            left = f"about {_minutes((len(missing) - count) * per_run)} left"
            say(f"[{count}/{len(missing)}] {end.run.name}: {_described(end)} ({left})")
    write_tables()
    return failed


def summary(out_dir: str) -> str:
    """The means of all rows that an ablation has finished runs of, for the terminal.

    Args:
        out_dir: its folder.
    """
    results = _results(out_dir)
    return report.summary(results) if results else "No run has finished."


def _run(out_dir: str, row: Row, seed: int) -> Run:
    return Run(row, seed, os.path.join(out_dir, row.name, f"seed-{seed}"))


def _results(out_dir: str) -> list[report.Result]:
    """What all finished runs came to, those of earlier starts with other seeds included."""
    found = []
    for row in ROWS.values():
        folders = pathlib.Path(out_dir, row.name).glob("seed-*")
        matches = (re.fullmatch(r"seed-(\d+)", folder.name) for folder in folders)
        seeds = sorted(int(match[1]) for match in matches if match)
        found += [_run(out_dir, row, seed) for seed in seeds]
    return [report.read_result(run) for run in found if run.finished]


def _described(end: End) -> str:
    took = _minutes(end.seconds)
    if end.status or not end.run.finished:
        tail = end.run.tail().replace("\n", "\n    ")
        return f"FAILED with exit status {end.status}, {took}; {end.run.log} ends\n    {tail}\n   "
    return f"AP {report.read_result(end.run).values['AP']:.3f}, {took}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


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

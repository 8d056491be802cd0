"""Trains a detector with every part of the loss in and out, over several seeds.

Each row is a loss; each row is trained once per seed, by train.py:

  baseline          the detector's own loss
  uncoupled         Harmonic IoU alone: the full box loss, no coupling
  harmonic          + Harmonic: classification and localization loss weigh each other
  task_contrasting  + Harmonic + task-contrasting
  iou               + Harmonic + IoU loss
  hiou              + Harmonic + Harmonic IoU loss
  full              Harmonic, task-contrasting and Harmonic IoU: the default of train.py

RetinaNet's own box loss is smooth L1, of weight 1 in the baseline and of --smooth_l1_weight in the
other rows, where the overlap losses are added to it. YOLOv8's own is CIoU (weight 15): baseline,
harmonic and task_contrasting keep it; the others have smooth L1 and the overlap loss in its place,
as the paper's do.

Whatever else is given, a flag file for example, goes to train.py as it is. A command that was
stopped goes on where it was when it is started again; rows and seeds can be added that way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Sequence
from typing import Callable

from harmonic_tf.files import write_text
from harmonic_tf.training.ablation import report
from harmonic_tf.training.ablation.rows import ROWS, Row
from harmonic_tf.training.ablation.runs import End, Run, train
from harmonic_tf.training.command_line import expanded, value_in
from harmonic_tf.training.settings import SettingsError

_FILES = """\
what it leaves in --out_dir:
  ablation.csv         one line per run: row, seed, all metrics, seconds
  ablation.md          mean and 95% interval of each row, differences to the baseline
  ablation.png         every run as a point; mean and interval of each row
  ROW/seed-N/          the run, as train.py leaves it
  ROW/seed-N.log       what train.py printed; ROW/seed-N.seconds how long it took
  flags.txt            what train.py was given for all runs: an ablation has one such set

example:
  python -m harmonic_tf.training.ablation --flagfile=flags/presets/quickstart.cfg --seeds=0,1,2
"""

_TRAIN_SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "train.py"
_OWN_FLAGS = {"run_dir": "--out_dir", "seed": "--seeds"}


def ablate(
    handed: Sequence[str],
    rows: Sequence[Row],
    seeds: Sequence[int],
    out_dir: str,
    processes: int = 1,
    say: Callable[[str], None] = lambda line: None,
    script: str | os.PathLike = _TRAIN_SCRIPT,
) -> list[Run]:
    """Trains what is missing and writes the tables, anew after every run that has finished.

    Args:
        handed: flags that train.py gets in every run.
        rows: the losses.
        seeds: of each row. All rows get their first seed, then all their second.
        out_dir: folder that takes runs and tables, see the command's `--help`.
        processes: trainings that run side by side.
        say: takes a line on each run that has ended.
        script: train.py.

    Returns:
        The runs that failed.

    Raises:
        SettingsError: `out_dir` holds an ablation with other flags, or a flag stands in the way.
        OSError: a file is missing or cannot be written.
    """
    if not os.path.isfile(script):
        raise FileNotFoundError(
            f"{script}: no such file. The ablation runs train.py: start it from a checkout of the "
            "repository, with `python -m harmonic_tf.training.ablation`."
        )
    flags = list(expanded(handed))
    for flag, instead in _OWN_FLAGS.items():
        if value_in(handed, flag) is not None:
            raise SettingsError(f"--{flag}: the ablation sets it for each run. Use {instead}.")
    model = value_in(flags, "model") or "retinanet"
    os.makedirs(out_dir, exist_ok=True)
    _check_same_flags(os.path.join(out_dir, "flags.txt"), flags)

    def command(run: Run) -> list[str]:
        own = [f"--seed={run.seed}", f"--run_dir={run.folder}", "--resume"]
        return [sys.executable, str(script), *handed, *run.row.flags(model), *own]

    def write_tables() -> None:
        report.write(out_dir, _results(out_dir), model, flags)

    runs = [_run(out_dir, row, seed) for seed in seeds for row in rows]
    missing = [run for run in runs if not run.finished]
    say(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished before.")
    failed = []
    start = time.monotonic()

    def say_busy(run: Run) -> None:
        say(f"{run.name}: still being trained by a process of an earlier start; waiting for it.")

    with contextlib.closing(train(missing, command, processes, say_busy)) as ends:
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


def main(arguments: Sequence[str] | None = None, script: str | os.PathLike = _TRAIN_SCRIPT) -> None:
    """The command: trains, says how far it is, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonic_tf.training.ablation",
        usage="%(prog)s --flagfile=FILE [options] [flags of train.py]",
        description=__doc__,
        epilog=_FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rows", type=_rows, default=_rows(",".join(ROWS)), help="by default all")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="by default 0,1,2")
    parser.add_argument(
        "--processes", type=_count, default=1, help="trainings side by side; default: %(default)d"
    )
    parser.add_argument("--out_dir", default="runs/ablation", help="default: %(default)s")
    options, handed = parser.parse_known_args(arguments)
    # Ended by `kill`, it takes its children with it, as it does when interrupted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ablation: ended; start it again to go on."))

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        failed = ablate(
            handed, options.rows, options.seeds, options.out_dir, options.processes, say, script
        )
    except (OSError, SettingsError) as error:
        sys.exit(f"ablation: {error}")
    except KeyboardInterrupt:
        sys.exit("ablation: interrupted; start it again to go on.")
    say(f"\n{summary(options.out_dir)}\n\nIn {options.out_dir}: ablation.md, .csv and .png")
    if failed:
        names = "; ".join(run.name for run in failed)
        sys.exit(f"ablation: {len(failed)} runs failed ({names}). Start it again to go on.")


def _rows(text: str) -> list[Row]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(ROWS)}")
    return [row for row in ROWS.values() if row.name in names]


def _seeds(text: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 0,1,2")
    return list(dict.fromkeys(int(seed) for seed in text.split(",")))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    main()

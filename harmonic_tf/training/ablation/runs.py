"""Many trainings, each a process of its own: one after another, or several side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import math
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable

import numpy as np

from harmonic_tf.files import write_text
from harmonic_tf.training.ablation.rows import Row
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import SettingsError

_MOST_DRAWN_BYTES = 2**23  # hundreds of times what there are
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0  # for a child to end after it is asked to
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")  # read by TensorFlow


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of an ablation.

    Args:
        row: its loss.
        seed: its seed.
        folder: what train.py gets as `--run_dir`.
    """

    row: Row
    seed: int
    folder: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.row.label}, seed {self.seed}"

    @property
    def log(self) -> str:
        """File of all that train.py printed, in every start of this run."""
        return f"{self.folder}.log"

    @property
    def files(self) -> RunDirectory:
        """Its folder, as `train` leaves it."""
        return RunDirectory(self.folder)

    @property
    def finished(self) -> bool:
        """Whether it is trained and measured."""
        return os.path.isfile(self.files.metrics_file)

    def metrics(self) -> Mapping:
        """What train.py measured."""
        return self.files.read_json("metrics.json", dict)

    def metrics_on(self, split: str) -> Mapping | None:
        """The same on another split; None where that was not measured."""
        with contextlib.suppress(FileNotFoundError):
            return RunDirectory(self.files.evaluation(split)).read_json("metrics.json", dict)
        return None

    def step_times(self) -> tuple[float, float]:
        """Seconds of a train step, by the clock and of all processors; NaN if not known."""
        times = self.files.step_times()
        steps = sum(entry["steps"] for entry in times)
        if not steps:
            return (math.nan, math.nan)
        seconds, cpu_seconds = (
            sum(entry[name] for entry in times) / steps for name in ("seconds", "cpu_seconds")
        )
        return seconds, cpu_seconds

    @property
    def draws_file(self) -> str:
        """File of what it comes to on pictures drawn with replacement."""
        return self.files.file("bootstrap.npz")

    def draws(self) -> dict[str, np.ndarray]:
        """Metric to its value on each draw, [R]; empty if there is no such file.

        Raises:
            SettingsError: the file is damaged.
        """
        if not os.path.isfile(self.draws_file):
            return {}
        try:
            with zipfile.ZipFile(self.draws_file) as archive:
                sizes = [member.file_size for member in archive.infolist()]
            if sum(sizes) > _MOST_DRAWN_BYTES:
                raise ValueError(f"{sum(sizes):,} bytes of numbers")
            with np.load(self.draws_file, allow_pickle=False) as file:
                return {name: np.asarray(file[name], np.float32) for name in file.files}
        except Exception as error:  # zipfile, zlib and NumPy have many for damage
            raise SettingsError(
                f"{self.draws_file} is damaged ({error!r:.160}). Remove it: it is made anew."
            ) from error

    @property
    def seconds(self) -> float:
        """How long its starts took, but for those whose ablation was killed; NaN if not known."""
        with contextlib.suppress(FileNotFoundError), open(self._seconds_file) as file:
            return float(file.read())
        return float("nan")

    def add_seconds(self, seconds: float) -> None:
        """Records how long one more start took."""
        before = self.seconds if os.path.isfile(self._seconds_file) else 0.0
        write_text(self._seconds_file, f"{before + seconds:.3f}\n")

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:]).rstrip()

    @property
    def _seconds_file(self) -> str:
        return f"{self.folder}.seconds"


@dataclasses.dataclass(frozen=True)
class End:
    """How a start of a run ended.

    Args:
        run: which run.
        status: exit status; 0 is success, negative is the signal that killed it.
        seconds: how long this start took.
    """

    run: Run
    status: int
    seconds: float


def train(
    runs: Sequence[Run],
    command: Callable[[Run], Sequence[str]],
    processes: int,
    on_busy: Callable[[Run], None] = lambda run: None,
    begins: Callable[[Run], bool] = lambda run: True,
) -> Iterator[End]:
    """Trains what is not finished, in order; a run that fails does not stop the others.

    Close the iterator (`contextlib.closing`) to end the children with it. A child that outlived an
    ablation that was killed holds the lock of its log: its run waits until it has ended, and the
    others go on.

    Args:
        runs: what to train; finished ones are left alone.
        command: gives the command line of a run, which goes on where an earlier start was killed.
        processes: how many run at a time. More than one share the machine's cores evenly.
        on_busy: called once for each run that such a child is still training.
        begins: whether there is time for a run that is about to be begun. From the first on for
            which there is none, no more are; those in hand are finished.

    Yields:
        Each run when it has ended.
    """
    environment = {**_thread_limits(processes), **os.environ}
    waiting = list(runs)
    busy: set[Run] = set()
    running: dict[Run, _Child] = {}
    try:
        while waiting or running:
            for run in list(waiting):
                if run.finished:
                    waiting.remove(run)
                    continue
                if len(running) == processes:
                    break
                if not begins(run):
                    waiting.clear()
                    break
                child = _start(run, command(run), environment)
                if child is not None:
                    running[run] = child
                    waiting.remove(run)
                elif run not in busy and not run.finished:
                    busy.add(run)
                    on_busy(run)
            if waiting or running:
                time.sleep(_POLL_SECONDS)
            for run, child in list(running.items()):
                if child.process.poll() is not None:
                    del running[run]
                    yield child.end(run)
    finally:
        for child in running.values():
            child.process.terminate()
        for run, child in running.items():
            try:
                child.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.end(run)


@dataclasses.dataclass(frozen=True)
class _Child:
    process: subprocess.Popen
    started: float

    def end(self, run: Run) -> End:
        seconds = time.monotonic() - self.started
        run.add_seconds(seconds)
        return End(run, self.process.returncode, seconds)


def _start(run: Run, command: Sequence[str], environment: Mapping[str, str]) -> _Child | None:
    """Starts a run, or does not where another process holds its log or has just finished it."""
    os.makedirs(os.path.dirname(run.log), exist_ok=True)
    with open(run.log, "ab") as log:
        # The child shares the open file and so the lock, which ends with the last of its holders.
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if run.finished:
            return None
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    return _Child(process, time.monotonic())


def _thread_limits(processes: int) -> dict[str, str]:
    """Each child's share of the cores, as TensorFlow reads it; nothing for a single child."""
    if processes == 1:
        return {}
    return dict.fromkeys(_THREADS, str(max(1, (os.cpu_count() or 1) // processes)))

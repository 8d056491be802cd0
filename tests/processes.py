"""Commands in processes of their own, forked from one that has imported everything already.

What a process does first takes most of its time in tests: importing TensorFlow, five seconds. Here
that happens once. What is forked has the same seed by which Python orders sets, too: of processes
that are to do the same, one is to be a `fresh` one.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

TOP = pathlib.Path(__file__).resolve().parents[1]
TIMEOUT = 600  # seconds
# Imported before the fork. TensorFlow begins to work, and with threads, only after it.
IMPORTS = [
    *("tests.tiny", "flags.running", "harmonic_tf.export", "harmonic_tf.training.measuring"),
    *("harmonic_tf.training.fitting", "harmonic_tf.training.comparison", "tests.untuned"),
]


class Ended(NamedTuple):
    """How a process ended; the names are those of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """`harmonic-tf ARGUMENTS` on its way; killed where the `with` block ends before it does.

    Args:
        *arguments: the command and what follows it.
        cwd: where it is started.
        environment: variables that it has beside those of this process.
        fresh: whether Python is started anew for it, instead of forked.
    """

    def __init__(
        self,
        *arguments,
        cwd=TOP,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ):
        self.folder = tempfile.TemporaryDirectory()
        self.said = [pathlib.Path(self.folder.name, name) for name in ("stdout", "stderr")]
        for file in self.said:
            file.touch()
        words = [str(argument) for argument in arguments]
        environment = {**os.environ, "TMPDIR": self.folder.name, **(environment or {})}
        context = multiprocessing.get_context("spawn") if fresh else _forks()
        self.process = context.Process(target=_run, args=(words, cwd, environment, self.said))

    def __enter__(self) -> Running:
        self.process.start()
        return self

    def __exit__(self, *_) -> None:
        self.kill()
        self.process.join()
        self.folder.cleanup()

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> Ended:
        """Waits for its end."""
        self.process.join(TIMEOUT)
        said = [file.read_text(encoding="utf-8") for file in self.said]
        assert not self.is_alive(), f"still running after {TIMEOUT} s: {said}"
        return Ended(self.process.exitcode, *said)


def run(*arguments, **options) -> Ended:
    """Runs `harmonic-tf ARGUMENTS` from start to end; see `Running`."""
    with Running(*arguments, **options) as process:
        return process.end()


def _forks():
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(IMPORTS)
    return context


def _run(arguments, cwd, environment, outputs) -> None:
    """What the process does."""
    for number, output in enumerate(outputs, start=1):
        file = os.open(output, os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    tempfile.tempdir = None  # TMPDIR may be another one now
    import tests.tiny  # runs may be of its backbone
    import tests.untuned  # noqa: F401
    from flags.command import main

    main(arguments)

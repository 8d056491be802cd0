"""Commands in processes that are killed at a chosen moment, or find no room to write.

They are forked from one that has imported TensorFlow but let it do nothing yet: then there are no
threads that a fork would lose, and a process begins at once instead of after seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

TIMEOUT = 900  # seconds after which a process is taken to hang

# What Python tells of before it changes the file system: event -> place of the path, of the folder
# that the path is relative to.
_CHANGES = {
    "open": (0, None),
    "os.mkdir": (0, 2),
    "os.remove": (0, 1),
    "os.rename": (0, 2),
    "os.rmdir": (0, 1),
    "shutil.rmtree": (0, 1),
}


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that a process is about to do to a file.

    Args:
        kind: of the file.
        gap: seconds until the next one, of any kind.
    """

    kind: str
    gap: float


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a process is killed: at an event, before it happens, or some time after it.

    Args:
        kind: of the event; None counts from the start of the process.
        number: which of that kind, from 0.
        delay: seconds after it.
    """

    kind: str | None
    number: int
    delay: float


class Running:
    """`harmonic-tf ARGUMENTS` in a fork, killed where the `with` block ends before it does.

    Args:
        arguments: the command and what follows it.
        log: file that what it prints is added to.
        kind_of: the kind of a file by its path, None for those that do not matter.
        moment: when it is to be killed; None leaves it alone.
        most_bytes: how large a file it may write; None for any.
        before: is called in the process before every event, with the number of those that were.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: pathlib.Path,
        kind_of: Callable[[str], str | None] = lambda path: None,
        moment: Moment | None = None,
        most_bytes: int | None = None,
        before: Callable[[int], None] = lambda number: None,
    ):
        self.log = log
        self._seen = log.with_suffix(".events")
        self._seen.write_bytes(b"")
        self._began = log.stat().st_size if log.exists() else 0
        changes = _Changes(self._seen, kind_of, moment, before)
        job = (arguments, log, changes, most_bytes)
        self.process = multiprocessing.get_context("fork").Process(target=_run, args=job)

    def __enter__(self) -> Running:
        self.process.start()
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> int | None:
        """Waits for its end; gives the exit status, -9 after a kill, None where it hangs."""
        self.process.join(TIMEOUT)
        return self.process.exitcode

    def printed(self) -> str:
        """What it has printed so far."""
        with open(self.log, "rb") as file:
            file.seek(self._began)
            return file.read().decode(errors="replace")

    def events(self) -> list[Event]:
        """What it has done to files, in order."""
        rows = [line.split() for line in self._seen.read_text().splitlines()]
        times = [float(seconds) for _, seconds in rows]
        gaps = [after - before for before, after in zip(times, [*times[1:], *times[-1:]])]
        return [Event(kind, gap) for (kind, _), gap in zip(rows, gaps)]


def in_fork(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, called in a fork; TensorFlow may work there.

    Raises:
        RuntimeError: it raised, or its process died.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def call() -> None:
        try:
            sender.send((True, function(*arguments)))
        except Exception:
            sender.send((False, traceback.format_exc()))

    process = context.Process(target=call)
    process.start()
    sender.close()
    try:
        fine, result = receiver.recv()
    except EOFError:
        fine, result = False, "its process died"
    process.join()
    if not fine:
        raise RuntimeError(f"{function.__name__}: {result}")
    return result


def watch(react: Callable[[str], None]) -> None:
    """Calls a function with the path of every file before Python changes it, from now on.

    TensorFlow's own writing is not seen; it lies between a folder that is made for it and the
    rename that makes it visible.

    Args:
        react: gets an absolute path. Cannot be taken back: the process has to be one for it.
    """

    def hook(event: str, values: tuple) -> None:
        places = _CHANGES.get(event)
        if places is None or (event == "open" and not _writes(values)):
            return
        path = _absolute(*(None if place is None else values[place] for place in places))
        if path is not None:
            react(path)

    sys.addaudithook(hook)


def _writes(opened: tuple) -> bool:
    """Whether a file is opened to be written to."""
    _, mode, flags = opened
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


def _absolute(path: Any, folder: Any) -> str | None:
    """A path as one that begins at the root; None for what is not known by a path."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    above = os.getcwd()
    if isinstance(folder, int) and folder >= 0:
        with contextlib.suppress(OSError):
            above = os.readlink(f"/proc/self/fd/{folder}")
    return os.path.join(above, os.fsdecode(path))


@dataclasses.dataclass
class _Changes:
    """Notes what this process does to files, and kills it at a moment; see `Running`."""

    seen: pathlib.Path
    kind_of: Callable[[str], str | None]
    moment: Moment | None
    before: Callable[[int], None]

    def begin(self) -> None:
        """Begins."""
        self._note = os.open(self.seen, os.O_WRONLY)
        self._kinds: list[str] = []
        self._is_busy = False
        watch(self._react)
        if self.moment is not None and self.moment.kind is None:
            _die(self.moment.delay)

    def _react(self, path: str) -> None:
        kind = None if self._is_busy else self.kind_of(path)
        if kind is None:
            return
        self._is_busy = True  # what `before` does to files is nobody's concern
        self.before(len(self._kinds))
        self._is_busy = False
        place = kind, self._kinds.count(kind)
        self._kinds.append(kind)
        os.write(self._note, f"{kind} {time.monotonic()}\n".encode())
        if self.moment is not None and place == (self.moment.kind, self.moment.number):
            _die(self.moment.delay)


def _run(arguments, log, changes, most_bytes) -> None:
    """What the fork does."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    if most_bytes is not None:
        # Python has told the system to answer with an error, not with a signal.
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    changes.begin()
    from flags.command import main

    main(list(arguments))


def _die(delay: float) -> None:
    """Kills this process, at once or from a thread of its own."""
    if not delay:
        os.kill(os.getpid(), signal.SIGKILL)
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()

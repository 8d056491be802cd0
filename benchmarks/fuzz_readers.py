"""Damages files of every kind that the product reads, and sees to it that reading them is safe.

    python benchmarks/fuzz_readers.py --cases=20000

Each case damages a valid input and reads it as the product does. It has to come out as a value, or
as an error that says what is wrong. Anything else is a finding: another exception, a process that
dies, more than 5 seconds of a processor, more than 512 MiB of memory, a file touched outside of the
input's folder, a program started, code run. Findings are kept with their inputs; a case comes again
by `--readers=voc --case=123 --seed=0`. Exit status 1 where there are any.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import gc
import io
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import fuzz_mutations
from absl import logging
from fuzz_inputs import READERS, Reader
from PIL import Image

from harmonic_tf.tables import markdown_table

_SECONDS = 5  # of a processor
_WAIT_SECONDS = (
    120  # for a case that takes no processor either, and for what comes before the first
)
_MEMORY_MIB = 512
_ADDRESS_SPACE = 4 * 2**30  # beyond what there is before the first case
_CASES_PER_PROCESS = 250
_MESSAGE_LENGTH = 5000  # characters
_RIGHT, _CLEAR = "right", "clear errors"
_STARTED = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class"),
    *("socket.connect", "socket.getaddrinfo", "socket.bind"),
)
_PATHS = {"open": 0, "os.remove": 0, "os.rename": 1, "os.mkdir": 0, "os.rmdir": 0, "os.symlink": 1}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A case that came out neither right nor as a clear error."""

    reader: str
    case: int
    what: str


class Watch:
    """Notes what code of this process does that reading a file has no need of.

    Args:
        folder: the case's, around that of its input.
        inside: the folder of its input.
    """

    def __init__(self, folder: Path, inside: Path):
        self.folder, self.inside = str(folder), str(inside)
        self.on = False
        self.seen: list[str] = []
        self.leads_outside = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in _STARTED:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in _PATHS and isinstance(arguments[_PATHS[event]], (str, bytes)):
            path = os.path.abspath(os.fsdecode(arguments[_PATHS[event]]))
            writes = event != "open" or bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
            near = path.startswith(self.folder) and not self.leads_outside
            temporary = path.startswith(tempfile.gettempdir() + os.sep) and not near
            if not path.startswith(self.inside) and ((writes and not temporary) or near):
                self.seen.append(f"{event} {path}")


def _memory(name: str) -> int:
    """A line of this process's status, in bytes."""
    with open("/proc/self/status", encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines[name].split()[0]) * 1024


def _outcome(reader: Reader, folder: Path) -> tuple[str, object]:
    """Reads an input: `_RIGHT`, `_CLEAR` or what is wrong with how it came out."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            reader.read(folder)  # which shows its progress
    except Exception as error:
        said = str(error)
        own = isinstance(error, reader.errors)
        of_system = isinstance(error, OSError) and error.filename is not None
        if not (own or of_system):
            return "".join(traceback.format_exception(error))
        if not said.strip() or len(said) > _MESSAGE_LENGTH:
            return f"a message of {len(said)} characters: {said:.200}"
        return _CLEAR
    return _RIGHT


def _read_cases(
    channel: Connection, name: str, seed: int, cases: Sequence[int], valid: Path, folder: Path
) -> None:
    """Runs cases in this process, which may die of one; sends each and what it came to."""
    logging.set_verbosity(logging.FATAL)
    reader, inside = READERS[name], folder / "input"
    os.environ[fuzz_mutations.CANARY] = str(folder / "canary")
    (folder / "outside").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "outside" / "secret.jpg")
    os.chdir(folder)
    shutil.copytree(valid, inside)
    if (what := _outcome(reader, inside)) != _RIGHT:
        raise RuntimeError(f"{name}: the valid input is not read: {what}")
    gc.freeze()  # nobody has to look again at all that libraries have made
    watch = Watch(folder, inside)
    watch.leads_outside = reader.leads_outside
    limit = _memory("VmSize") + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    for case in cases:
        _restore(valid, inside)
        _damage(reader, inside, random.Random(f"{seed}/{name}/{case}"))
        gc.collect()
        before = _memory("VmRSS")
        with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")  # the highest memory counts from now on
        channel.send(case)
        watch.seen, watch.on = [], True
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)  # ends the process
        what = _outcome(reader, inside)
        signal.setitimer(signal.ITIMER_PROF, 0)
        watch.on = False
        if (folder / "canary").exists():
            what = "code of the file was run"
            (folder / "canary").unlink()
        elif watch.seen:
            what = f"does what reading need not: {', '.join(watch.seen)}"
        elif (taken := (_memory("VmHWM") - before) // 2**20) > _MEMORY_MIB:
            what = f"takes {taken} MiB"
        channel.send(what)
    channel.close()


def _restore(valid: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(valid, folder)


def _damage(reader: Reader, folder: Path, rng: random.Random) -> None:
    """Damages one of the reader's files."""
    files = sorted(path for pattern in reader.files for path in folder.glob(pattern))
    chosen = rng.choice(files)
    chosen.write_bytes(reader.mutate(rng, chosen.read_bytes()))


def outcomes(
    name: str, seed: int, cases: Iterable[int], valid: Path, folder: Path
) -> Iterator[tuple[int, str]]:
    """What each case comes to, one process after another.

    Args:
        name: of the reader.
        seed: of the damage.
        cases: numbers of the cases.
        valid: folder of its valid input.
        folder: for the cases; has what the last one left behind.
    """
    waiting = collections.deque(cases)
    while waiting:
        shutil.rmtree(folder, ignore_errors=True)
        ours, theirs = multiprocessing.Pipe(duplex=False)
        batch = [waiting[place] for place in range(min(len(waiting), _CASES_PER_PROCESS))]
        process = multiprocessing.get_context("fork").Process(
            target=_read_cases, args=(theirs, name, seed, batch, valid, folder), daemon=True
        )
        process.start()
        theirs.close()
        case = None
        with contextlib.suppress(EOFError):
            while ours.poll(_WAIT_SECONDS):
                received = ours.recv()
                if isinstance(received, str):
                    yield waiting.popleft(), received
                    case = None
                else:
                    case = received
        hung = process.is_alive() and process.join(5) is None and process.exitcode is None
        process.kill()
        process.join()
        if case is not None:
            yield waiting.popleft(), _end(hung, process.exitcode)
        elif process.exitcode and not hung:
            raise RuntimeError(f"{name}: its process ended before a case, {process.exitcode}")


def _end(hung: bool, exitcode: int) -> str:
    if hung:
        return f"takes more than {_WAIT_SECONDS} s"
    if exitcode == -signal.SIGPROF:
        return f"takes more than {_SECONDS} s of a processor"
    return f"the process ends with status {exitcode}"


def _write_valid(names: Iterable[str], folder: Path) -> None:
    """Makes valid inputs; where TensorFlow has run, its processes cannot be forked."""
    for name in names:
        (folder / name).mkdir(parents=True)
        READERS[name].write(folder / name)


def fuzz(
    cases: Mapping[str, Iterable[int]], seed: int, out: Path
) -> tuple[dict[str, collections.Counter], list[Finding]]:
    """Runs cases of some readers.

    Args:
        cases: numbers of the cases by name of the reader.
        seed: of the damage.
        out: folder for the inputs of findings.

    Returns:
        How often which outcome, by reader; and the findings.
    """
    counts = {name: collections.Counter() for name in cases}
    findings = []
    with tempfile.TemporaryDirectory() as scratch:
        valid, folder = Path(scratch, "valid"), Path(scratch, "case")
        if _in_a_process(_write_valid, list(cases), valid):
            raise RuntimeError("the valid inputs cannot be made")
        for name, numbers in cases.items():
            for case, what in outcomes(name, seed, numbers, valid / name, folder):
                known = what in (_RIGHT, _CLEAR)
                counts[name][what if known else "findings"] += 1
                if not known:
                    findings.append(Finding(name, case, what))
                    _keep(name, seed, case, what, valid / name, out)
            print(f"{name}: {dict(counts[name])}", file=sys.stderr, flush=True)
    return counts, findings


def _keep(name: str, seed: int, case: int, what: str, valid: Path, out: Path) -> None:
    """Writes a finding's input, damaged once more, and what it came to."""
    target = out / f"{name}-{case}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(valid, target / "input")
    (target / "finding.txt").write_text(what, encoding="utf-8", errors="replace")
    _in_a_process(_damage, READERS[name], target / "input", random.Random(f"{seed}/{name}/{case}"))


def _in_a_process(function: Callable[..., None], *arguments: object) -> int | None:
    """Calls a function in a process of its own, and gives its exit status."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def main() -> None:
    """Fuzzes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default=",".join(READERS), help="names, joined by commas")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--out", type=Path, default=Path("findings"), help="folder for findings")
    given = parser.parse_args()
    names = given.readers.split(",")
    unknown = [name for name in names if name not in READERS]
    if unknown:
        parser.error(f"--readers={unknown[0]}: no such reader. They are {', '.join(READERS)}.")
    each = given.cases / sum(READERS[name].share for name in names)
    cases = {name: range(math.ceil(each * READERS[name].share)) for name in names}
    if given.case is not None:
        cases = {name: [given.case] for name in names}
    counts, findings = fuzz(cases, given.seed, given.out)
    columns = (_RIGHT, _CLEAR, "findings")
    rows = [
        [name, sum(counted.values()), *(counted[column] for column in columns)]
        for name, counted in counts.items()
    ]
    rows.append(["all", *(sum(column) for column in list(zip(*rows))[1:])])
    print(markdown_table(["reader", "cases", *columns], rows))
    for finding in findings:
        last = finding.what.strip().splitlines()[-1]
        again = f"--readers={finding.reader} --case={finding.case} --seed={given.seed}"
        print(f"{again}: {last:.300}")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()

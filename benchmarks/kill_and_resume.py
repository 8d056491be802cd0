"""Whether training, export and conversion survive being killed anywhere, and a disk that is full.

python benchmarks/kill_and_resume.py --kills=50

A small training, with its rendering, cache and report, is made once without disturbance; likewise a
conversion to TFRecords and exports. Before every change that they make to a file, all visible files
are read to their end. Then they are made again and again and killed with SIGKILL, by plain time or
while files of one kind are written: right before any change to one of them that the undisturbed
process made, or between that and the next. After every kill each visible file is read to its end;
then the command is given once more, and has to end with the same numbers, bit by bit. The same
where the disk is full and where the folder may not be written to. Prints a table; the exit status
is 1 where anything was wrong. A kill of the training takes 40 seconds of one core. Linux alone;
disks of their own need the right to mount, without which only the size of files is limited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import checkout  # noqa: F401 (before flags)
import numpy as np
from absl import app, flags
from interruption import Event, Moment, Running, in_fork
from whole_files import arrays_of_checkpoint, arrays_of_keras, faults, visible_files

from harmonic_tf.backend import keras, keras_cv
from harmonic_tf.tables import markdown_table

TRAINING = (
    *("--scenes_train=12", "--scenes_val=1", "--scenes_test=2", "--scenes_size=64"),
    *("--image_size=64", "--anchor_sizes=8,16,32,64,128", "--channels=8", "--head_depth=0"),
    *("--batch_size=4", "--epochs=2", "--warmup_steps=2", "--average_decay=0.9"),
    *("--save_every_steps=2", "--sheet_pictures=1", "--score_threshold=0.001"),
    *("--precision=float32", "--jit_compile=false", "--deterministic_ops", "--resume"),
)
EVERY = "every change, not killed"
BY_TIME, TWICE, FULL, READ_ONLY = "time", "twice", "full disk", "read-only"
# What is written below each folder, the deepest first.
KINDS = {
    "run/logs": None,
    "run/checkpoints/states": "state",
    "run/checkpoints": "checkpoint",
    "run": "report",
    "cache": "cache",
    "scenes": "scenes",
    "records": "TFRecord",
    "saved_model": "SavedModel",
    "tflite": "TFLite",
    "onnx": "ONNX",
}
TURNS = (
    *("state", "checkpoint", "report", "cache", "TFRecord", "SavedModel", "TFLite", "ONNX"),
    *(FULL, READ_ONLY, "scenes", TWICE),
)
BACKBONE = "backbone"
IMPORTS = (
    *("flags.command", "flags.running", "harmonic_tf.export", "harmonic_tf.training.fitting"),
    "harmonic_tf.training.measuring",
)
_KILLS = flags.DEFINE_integer("kills", 50, "How often something is interrupted.", 1)
_KINDS = flags.DEFINE_multi_enum(
    "kind", list(TURNS), TURNS, "What is interrupted in turns, every third time but by plain time."
)
_DRAW = flags.DEFINE_integer("draw", 0, "Seed of the moments.", 0)
_TAIL = 5  # lines of what was printed that a fault shows


def kind_of(folder: str, path: str) -> str | None:
    """The kind of file that lies at a path below a folder; None for any other."""
    name = os.path.relpath(path, folder)
    return next((kind for place, kind in KINDS.items() if name.startswith(f"{place}/")), None)


def plan(kills: int, kinds: Sequence[str]) -> list[str]:
    """The kind of each interruption: every third by plain time, the others in turn."""
    turns = itertools.cycle(kinds)
    return [BY_TIME if number % 3 == 0 else next(turns) for number in range(kills)]


def draw(kind: str, events: Sequence[Event], seconds: float, random: np.random.Generator) -> Moment:
    """A moment to kill a process at.

    Args:
        kind: `BY_TIME`, or of the files that are to be written then.
        events: what the process does without disturbance.
        seconds: how long it takes then.
        random: draws.
    """
    if kind == BY_TIME:
        return Moment(None, 0, random.uniform(0.0, seconds))
    own = [event for event in events if event.kind == kind]
    number = int(random.integers(len(own)))
    after = random.random() < 0.5
    return Moment(kind, number, random.uniform(0.0, own[number].gap) if after else 0.0)


@dataclasses.dataclass(frozen=True)
class Interruption:
    """One that is over.

    Args:
        kind: what was interrupted, or by what.
        count: how often; 0 where the process had ended before.
        faults: what was wrong afterwards, one line each.
        seconds: what all of it took.
    """

    kind: str
    count: int
    faults: Sequence[str]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is interrupted, and what it does without that.

    Args:
        command: its arguments, by the folder that it works in.
        folder: where it worked undisturbed.
        events: what it did to files there.
        seconds: how long that took.
        faults: what was wrong with its visible files at any of these events.
    """

    command: Callable[[pathlib.Path], list[str]]
    folder: pathlib.Path
    events: Sequence[Event]
    seconds: float
    faults: Sequence[str]


def undisturbed(command: Callable[[pathlib.Path], list[str]], folder: pathlib.Path) -> Job:
    """Runs a command from start to end, and reads its visible files as they were at every event.

    What is on disk right before an event is what a kill at that moment would leave.

    Raises:
        SystemExit: it failed.
    """
    folder.mkdir()
    copies = folder.with_suffix(".copies")
    before = functools.partial(copy_visible, folder, copies)
    began = time.monotonic()
    with running(command(folder), folder, before=before) as process:
        if process.end() != 0:
            sys.exit(f"{command(folder)} failed undisturbed:\n{process.printed()}")
        events, seconds = process.events(), time.monotonic() - began
    found = in_fork(faults, str(copies)) + in_fork(faults, str(folder))
    shutil.rmtree(copies)
    return Job(command, folder, events, seconds, [f"undisturbed: {fault}" for fault in found])


def copy_visible(folder: pathlib.Path, copies: pathlib.Path, number: int) -> None:
    """Copies the visible files of a folder, as they are now, into one of that number."""
    (copies / str(number)).mkdir(parents=True)
    for path in visible_files(str(folder)):
        copy = copies / str(number) / os.path.relpath(path, folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def running(arguments: Sequence[str], folder: pathlib.Path, **options) -> Running:
    """A command on its way, whose log lies beside its folder."""
    kinds = functools.partial(kind_of, str(folder))
    return Running(arguments, folder.parent / f"{folder.name}.log", kinds, **options)


def end(arguments: Sequence[str], folder: pathlib.Path, expected: int, **options) -> list[str]:
    """Runs a command; says what is wrong with how it ended, and with the files that it left.

    Args:
        arguments: the command.
        folder: where it works.
        expected: its exit status. Of 1 it has to say why, in one line.
        **options: of `Running`.
    """
    with running(arguments, folder, **options) as process:
        status, printed = process.end(), process.printed()
    found = in_fork(faults, str(folder))
    tail = " | ".join(printed.splitlines()[-_TAIL:])
    if status != expected:
        found.append(f"exit status {status} in place of {expected}: {tail}")
    elif expected == 1 and ("Traceback" in printed or "Error: " not in printed):
        found.append(f"does not say in one line why it stopped: {tail}")
    return found


def killed(job: Job, folder: pathlib.Path, moment: Moment) -> tuple[int, list[str]]:
    """Kills a job at a moment: how often that came before its end, and what is wrong then."""
    with running(job.command(folder), folder, moment=moment) as process:
        status, printed = process.end(), process.printed()
    found = in_fork(faults, str(folder))
    if status not in (0, -signal.SIGKILL):
        found.append(f"exit status {status} before it was killed: {printed}")
    return int(status == -signal.SIGKILL), found


def kill(job: Job, folder: pathlib.Path, moments: Sequence[Moment]) -> tuple[int, list[str]]:
    """Kills a job, then lets it end."""
    count, found = 0, []
    for moment in moments:
        times, wrong = killed(job, folder, moment)
        count += times
        found += [f"killed at {moment}: {fault}" for fault in wrong]
    return count, found + finished(job, folder)


def finished(job: Job, folder: pathlib.Path) -> list[str]:
    """Lets a job end that was interrupted; what is wrong with how it ends."""
    found = end(job.command(folder), folder, 0)
    return [f"given once more: {fault}" for fault in found or differences(folder, job.folder)]


def differences(folder: pathlib.Path, expected: pathlib.Path) -> list[str]:
    """In what a folder differs from that of the undisturbed job; nowhere if all is well.

    Weights, states, metrics, detections, cached pixels, records and converted models are compared
    bit by bit. An export that was killed when its version was there already is made again, as the
    next version.
    """
    found = []
    ours, theirs = (_by_name(place) for place in (folder, expected))
    if ours.keys() != theirs.keys():
        found.append(f"other files: {sorted(ours.keys() ^ theirs.keys())}")
    for name in sorted(ours.keys() & theirs.keys()):
        if name.endswith(".keras"):
            same = _equal(*(arrays_of_keras(path) for path in (ours[name], theirs[name])))
        elif name.endswith("state.index"):
            prefixes = (path.removesuffix(".index") for path in (ours[name], theirs[name]))
            same = _equal(*map(arrays_of_checkpoint, prefixes))
        elif name.endswith((".tfrecord", ".tflite", ".onnx", "metrics.json", "detections.json")):
            same = pathlib.Path(ours[name]).read_bytes() == pathlib.Path(theirs[name]).read_bytes()
        elif name.endswith(".cache"):  # after a digest of where the pictures lie
            pixels = (np.fromfile(path, np.uint8)[64:] for path in (ours[name], theirs[name]))
            same = np.array_equal(*pixels)
        else:
            same = True
        if not same:
            found.append(f"{name} is another one")
    left = [*folder.glob("run/.*"), *folder.glob("run/checkpoints/.*")]
    left += folder.glob("run/checkpoints/states/.*")
    return found + [f"{path.relative_to(folder)} is left behind" for path in left]


def _by_name(folder: pathlib.Path) -> dict[str, str]:
    """The visible files of a folder by name, the newest version of an export in place of all."""
    names = {os.path.relpath(path, folder): path for path in visible_files(str(folder))}
    found = {}
    for name in sorted(names, key=lambda name: [int(p) for p in name.split("/") if p.isdecimal()]):
        parts = ["N" if part.isdecimal() else part for part in name.split("/")]
        found["/".join(parts)] = names[name]
    return found


def _equal(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    """Whether two sets of arrays are the same, bit by bit."""
    return ours.keys() == theirs.keys() and all(
        np.asarray(ours[name]).tobytes() == np.asarray(theirs[name]).tobytes() for name in ours
    )


# A disk of its own.


def may_mount() -> bool:
    """Whether this process may mount a disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(pathlib.Path(folder)):
                return True
        except (OSError, RuntimeError):
            return False


@contextlib.contextmanager
def disk(folder: pathlib.Path) -> Iterator[Callable[[str], None]]:
    """Mounts a disk in memory on a folder; gives what mounts it again with other options."""

    def mount(*words: str) -> None:
        ended = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{folder}: cannot be mounted on ({ended.stderr.strip()})")

    mount("-t", "tmpfs", "tmpfs")
    try:
        yield lambda options: mount("-o", f"remount,{options}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disk(job: Job, folder: pathlib.Path, share: float) -> tuple[int, list[str]]:
    """Lets a job run out of room, then gives it more."""
    sizes = [path.stat().st_size for path in job.folder.rglob("*") if path.is_file()]
    if not may_mount():
        most = int(share * max(sizes))
        found = end(job.command(folder), folder, 1, most_bytes=most)
        return 1, [f"files of {most} bytes: {fault}" for fault in found] + finished(job, folder)
    kilobytes = max(64, int(share * sum(sizes)) // 1024)
    with disk(folder) as mount:
        mount(f"size={kilobytes}k")
        found = end(job.command(folder), folder, 1)
        mount("size=1g")
        found = [f"{kilobytes} KiB of room: {fault}" for fault in found]
        return 1, found + finished(job, folder)


def forbid_writing(job: Job, folder: pathlib.Path, moment: Moment) -> tuple[int, list[str]]:
    """Lets a job that was killed go on where it may not write, then where it may."""
    with disk(folder) as mount:
        count, found = killed(job, folder, moment)
        mount("ro")
        found += end(job.command(folder), folder, 1)
        mount("rw")
        return count + 1, [f"read-only: {fault}" for fault in found] + finished(job, folder)


# All of it.


class Jobs:
    """The commands that are interrupted, each run undisturbed when it is first asked for.

    Args:
        base: folder for all that they write.

    Attributes:
        undisturbed: those that were.
    """

    def __init__(self, base: pathlib.Path):
        self.base = base
        self.undisturbed: dict[str, Job] = {}
        in_fork(write_backbone, base)

    def of(self, kind: str) -> Job:
        """The one that writes files of a kind; the training for what is no kind of file."""
        commands = {
            "TFRecord": self._convert,
            "SavedModel": functools.partial(self._export, "saved_model"),
            "TFLite": functools.partial(self._export, "tflite"),
            "ONNX": functools.partial(self._export, "onnx"),
        }
        name = kind if kind in commands else "training"
        if name not in self.undisturbed:
            command = commands.get(name, self._train)
            self.undisturbed[name] = undisturbed(command, self.base / name)
        return self.undisturbed[name]

    def _train(self, folder: pathlib.Path) -> list[str]:
        return [
            *("train", *TRAINING),
            f"--backbone=preset:{self.base / BACKBONE}",
            f"--dataset=scenes:{folder}/scenes",
            f"--cache={folder}/cache/pictures.cache",
            f"--run_dir={folder}/run",
        ]

    def _convert(self, folder: pathlib.Path) -> list[str]:
        source = self.of(BY_TIME).folder / "scenes"
        return ["convert", f"scenes:{source}", f"--out_dir={folder}/records/scenes"]

    def _export(self, form: str, folder: pathlib.Path) -> list[str]:
        run = f"--run={self.of(BY_TIME).folder}/run"
        return ["export", run, f"--format={form}", f"--export_dir={folder}/{form}/scenes"]


def write_backbone(folder: pathlib.Path) -> None:
    """Writes a backbone with few layers, untrained, as a preset."""
    backbone = keras_cv.models.CSPDarkNetBackbone(
        stackwise_channels=[4] * 4, stackwise_depth=[1] * 4, include_rescaling=True
    )
    config = {**keras.saving.serialize_keras_object(backbone), "weights": None}
    (folder / BACKBONE).mkdir()
    (folder / BACKBONE / "config.json").write_text(json.dumps(config))


def interrupt(
    kind: str, jobs: Jobs, folder: pathlib.Path, random: np.random.Generator
) -> Interruption:
    """Interrupts once, in a folder that is made for it and removed if all is well."""
    job = jobs.of(kind)
    folder.mkdir()
    began = time.monotonic()
    moment = functools.partial(draw, events=job.events, seconds=job.seconds, random=random)
    if kind == FULL:
        count, found = fill_disk(job, folder, random.uniform(0.05, 0.9))
    elif kind == READ_ONLY:
        count, found = forbid_writing(job, folder, moment(BY_TIME))
    elif kind == TWICE:
        count, found = kill(job, folder, [moment(BY_TIME), moment(BY_TIME)])
    else:
        count, found = kill(job, folder, [moment(kind)])
    if not found:
        shutil.rmtree(folder)
    return Interruption(kind, count, found, time.monotonic() - began)


def every_change(job: Job) -> Interruption:
    """What came of looking at a job's files whenever it was about to change one."""
    return Interruption(EVERY, len(job.events), job.faults, job.seconds)


def table(interruptions: Sequence[Interruption]) -> str:
    """What came of all, a row a kind."""
    rows = []
    for kind in (EVERY, BY_TIME, *TURNS):
        own = [each for each in interruptions if each.kind == kind]
        if own:
            kills, survived = (
                sum(each.count for each in some)
                for some in (own, [each for each in own if not each.faults])
            )
            rows.append([kind, kills, survived, f"{sum(each.seconds for each in own):.0f}"])
    return markdown_table(["kind", "kills", "survived", "seconds"], rows)


def main(_) -> None:
    """Interrupts; prints what came of it."""
    import_all()
    mountable = may_mount()
    kinds = [kind for kind in _KINDS.value if mountable or kind != READ_ONLY]
    if not mountable:
        print("Disks cannot be mounted here: full ones limit the size of files, none is read-only.")
    base = pathlib.Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    (base / "temporary").mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(base / "temporary")  # what is killed leaves some
    jobs, random = Jobs(base), np.random.default_rng(_DRAW.value)
    done: list[Interruption] = []
    for number, kind in enumerate(plan(_KILLS.value, kinds)):
        done.append(interrupt(kind, jobs, base / f"{number}-{kind.replace(' ', '-')}", random))
        took = f"{done[-1].count} kills, {done[-1].seconds:.0f} s"
        print(f"{number + 1}: {kind}, {took}, {len(done[-1].faults)} faults", flush=True)
    done += map(every_change, jobs.undisturbed.values())
    print(f"\n{table(done)}")
    wrong = [fault for each in done for fault in each.faults]
    if wrong:
        sys.exit("\n".join([f"\nWhat went wrong lies in {base}:", *wrong]))
    shutil.rmtree(base)


def import_all() -> None:
    """Imports what forks would otherwise import each for itself."""
    for module in IMPORTS:
        importlib.import_module(module)


if __name__ == "__main__":
    app.run(main)

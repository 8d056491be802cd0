"""Killing at any moment: the moments, the readers, what counts as the same; and three kills."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import kill_and_resume
import numpy as np
import pytest
import whole_files
from interruption import Event, Moment, Running
from PIL import Image

from flags import command
from harmonic_tf.backend import tf
from harmonic_tf.files import write_text
from tests.processes import TIMEOUT, TOP

# Forks of a process with threads, which only write files.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def write_three(arguments):
    """Stands in for a command: three files, each whole or not there."""
    for name in ("one.md", "two.md", "three.md"):
        write_text(os.path.join(*arguments, name), "text\n")


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Runs a command that is stood in for, in a folder; gives how it ended, and the process."""
    (tmp_path / "run").mkdir()

    def start(main=write_three, **options):
        monkeypatch.setattr(command, "main", main)
        kinds = lambda path: "report" if path.startswith(f"{tmp_path}/run/") else None  # noqa: E731
        options = {"kind_of": kinds, **options}
        with Running([str(tmp_path / "run")], tmp_path / "run.log", **options) as process:
            return process.end(), process

    return start


def test_what_a_process_does_to_files_is_seen_in_order(started):
    status, process = started()
    assert status == 0
    # Of each file: opened under a temporary name, renamed, and looked for once more to be removed.
    assert [event.kind for event in process.events()] == ["report"] * 9
    assert all(event.gap >= 0 for event in process.events())


def test_files_can_be_looked_at_before_every_change(started, tmp_path):
    def look(number):
        kill_and_resume.copy_visible(tmp_path / "run", tmp_path / "copies", number)

    _, process = started(before=look)
    copies = [sorted(os.listdir(tmp_path / "copies" / str(n))) for n in range(9)]
    assert copies == [[]] * 2 + [["one.md"]] * 3 + [["one.md", "two.md"]] * 3 + [
        ["one.md", "three.md", "two.md"]
    ]
    assert len(process.events()) == 9


@pytest.mark.parametrize(
    ("number", "names"), [(0, []), (1, []), (2, ["one.md"]), (7, ["one.md", "two.md"])]
)
def test_a_process_is_killed_right_before_it_does_something(started, tmp_path, number, names):
    status, process = started(moment=Moment("report", number, 0.0))
    assert status == -signal.SIGKILL
    assert len(process.events()) == number + 1
    visible = whole_files.visible_files(str(tmp_path / "run"))
    assert [os.path.basename(path) for path in visible] == names


@pytest.mark.parametrize("kind", [None, "report"])
def test_a_process_is_killed_some_time_later(started, kind):
    def wait(arguments):
        write_three(arguments)
        time.sleep(TIMEOUT)

    assert started(wait, moment=Moment(kind, 0, 0.01))[0] == -signal.SIGKILL


def test_a_file_that_grows_too_large_is_an_error_of_the_system(started):
    def write(arguments):
        try:
            write_text(os.path.join(*arguments, "large.txt"), "x" * 5000)
        except OSError as error:
            os.write(1, errno.errorcode[error.errno].encode())
            sys.exit(1)

    status, process = started(write, most_bytes=1000)
    assert (status, process.printed()) == (1, "EFBIG")


def test_every_third_kill_is_by_time_and_the_others_go_round():
    kinds = kill_and_resume.plan(10, ["a", "b", "c", "d"])
    assert kinds == ["time", "a", "b", "time", "c", "d", "time", "a", "b", "time"]


def test_moments_lie_within_what_the_undisturbed_process_did():
    random = np.random.default_rng(0)
    events = [Event("state", 2.0), Event("report", 3.0), Event("state", 0.5)]

    def draws(kind):
        return [kill_and_resume.draw(kind, events, 9.0, random) for _ in range(200)]

    by_time = draws(kill_and_resume.BY_TIME)
    assert {moment.kind for moment in by_time} == {None}
    assert all(0 <= moment.delay < 9 for moment in by_time)
    aimed = draws("state")
    assert {moment.number for moment in aimed} == {0, 1}
    assert all(moment.delay < (2.0, 0.5)[moment.number] for moment in aimed)
    assert 50 < sum(moment.delay == 0 for moment in aimed) < 150


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("run/checkpoints/states/step-2", "state"),
        ("run/checkpoints/.0123.last.keras", "checkpoint"),
        ("run/report.md", "report"),
        ("run/logs/train", None),
        ("cache/.0123.pictures.cache", "cache"),
        ("records/scenes.unfinished/train-00000-of-00001.tfrecord", "TFRecord"),
        ("onnx/scenes/.0123.unfinished/model.onnx", "ONNX"),
        ("else", None),
        ("../run/report.md", None),
    ],
)
def test_files_are_told_by_where_they_lie(name, kind):
    assert kill_and_resume.kind_of("/base", os.path.join("/base", name)) == kind


def write_files(folder):
    """A whole file of every kind that NumPy, Pillow and TensorFlow write in no time."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"AP": 0.5}))
    (folder / "skipped.csv").write_text("file,field\npicture.jpg,bbox\n")
    (folder / "report.md").write_text("# Report\n\nAll is well.\n")
    (folder / "report.html").write_text("<html><body>well</body></html>\n")
    (folder / "flags.cfg").write_text("--epochs=2\n")
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(folder / "sheet.png")
    np.savez(folder / "bootstrap.npz", draws=np.arange(100.0))
    with tf.io.TFRecordWriter(str(folder / "train.tfrecord")) as writer:
        writer.write(b"a picture" * 100)
    with h5py.File(folder / "weights", "w") as weights:
        weights["kernel"] = np.arange(100.0)
    with zipfile.ZipFile(folder / "last.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(folder / "weights", "model.weights.h5")
    (folder / "weights").unlink()
    (folder / "pictures.cache").write_bytes(b"0123456789abcdef" * 4 + b"pixels")
    tf.train.Checkpoint(step=tf.Variable(3)).write(str(folder / "state"))


def test_whole_files_have_no_faults(tmp_path):
    write_files(tmp_path / "run")
    assert whole_files.faults(str(tmp_path)) == []
    assert len(list(whole_files.visible_files(str(tmp_path)))) == 12


@pytest.mark.parametrize(
    "name",
    [
        *("metrics.json", "skipped.csv", "report.md", "report.html", "flags.cfg", "sheet.png"),
        *("bootstrap.npz", "train.tfrecord", "last.keras", "pictures.cache", "state.index"),
        "state.data-00000-of-00001",
    ],
)
def test_half_a_file_is_a_fault_unless_it_is_hidden(tmp_path, name):
    write_files(tmp_path / "run")
    path = tmp_path / "run" / name
    half = min(len(path.read_bytes()) // 2, 60)
    path.write_bytes(path.read_bytes()[:half])
    (fault,) = whole_files.faults(str(tmp_path))
    assert fault.startswith("run/state.index" if "state" in name else f"run/{name}")
    (tmp_path / "run").rename(tmp_path / "run.unfinished")
    assert whole_files.faults(str(tmp_path)) == []


def test_a_file_that_nobody_reads_and_a_model_without_labels_are_faults(tmp_path):
    (tmp_path / "model.what").write_text("")
    (tmp_path / "model.tflite").write_bytes(b"no model")
    tflite, unknown = whole_files.faults(str(tmp_path))
    assert unknown == "model.what: there is no reader for such a file"
    assert tflite.startswith("model.tflite: ")


def test_what_differs_from_the_undisturbed_job_is_named(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        write_files(folder / "run")
    assert kill_and_resume.differences(one, two) == []
    tf.train.Checkpoint(step=tf.Variable(4)).write(str(one / "run" / "state"))
    (one / "run" / "metrics.json").write_text('{"AP": 0.6}')
    (one / "run" / "report.html").unlink()
    (one / "run" / ".left").write_text("")
    assert kill_and_resume.differences(one, two) == [
        "other files: ['run/report.html']",
        "run/metrics.json is another one",
        "run/state.index is another one",
        "run/.left is left behind",
    ]


def test_of_several_versions_of_an_export_the_newest_counts(tmp_path):
    for folder, version, text in (("one", 9, "a"), ("one", 10, "b"), ("two", 1, "b")):
        place = tmp_path / folder / "onnx" / str(version)
        place.mkdir(parents=True)
        (place / "model.onnx").write_text(text)
    assert kill_and_resume.differences(tmp_path / "one", tmp_path / "two") == []


def test_the_table_counts_what_survived():
    done = [
        kill_and_resume.Interruption("state", 1, [], 2.0),
        kill_and_resume.Interruption("state", 1, ["half a file"], 3.0),
        kill_and_resume.Interruption("time", 0, [], 1.0),
    ]
    rows = kill_and_resume.table(done).splitlines()[2:]
    assert rows == ["| time | 0 | 0 | 1 |", "| state | 2 | 1 | 5 |"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="by means of Linux")
def test_three_kills_are_survived():
    program = [sys.executable, "benchmarks/kill_and_resume.py", "--kills=3"]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    ended = subprocess.run(program, cwd=TOP, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "| state | 1 | 1 |" in ended.stdout and "| checkpoint | 1 | 1 |" in ended.stdout

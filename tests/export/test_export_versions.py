"""A version is there as a whole or not at all, and never another one's."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from harmonic_tf.export.versions import numbers, write_version


def write_two_files(folder):
    for name in ("saved_model.pb", "labels.txt"):
        with open(os.path.join(folder, name), "w") as file:
            file.write(name)


def test_versions_follow_each_other(tmp_path):
    folder = str(tmp_path / "models" / "cells")
    assert write_version(folder, write_two_files) == os.path.join(folder, "1")
    assert write_version(folder, write_two_files, 7) == os.path.join(folder, "7")
    assert write_version(folder, write_two_files) == os.path.join(folder, "8")
    assert sorted(os.listdir(folder)) == ["1", "7", "8"]
    assert sorted(os.listdir(os.path.join(folder, "1"))) == ["labels.txt", "saved_model.pb"]


def test_a_version_is_never_replaced(tmp_path):
    write_version(str(tmp_path), write_two_files, 3)
    (tmp_path / "4").mkdir()
    for taken in (3, 4):
        with pytest.raises(FileExistsError, match=f"{taken}: this version is there already"):
            write_version(str(tmp_path), lambda folder: None, taken)
    assert len(os.listdir(tmp_path / "3")) == 2
    with pytest.raises(ValueError, match="version = 0 must be at least 1"):
        write_version(str(tmp_path), write_two_files, 0)


def test_what_fails_half_way_leaves_nothing(tmp_path):
    write_version(str(tmp_path), write_two_files)

    def fail(folder):
        write_two_files(folder)
        assert numbers(str(tmp_path)) == [1]
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_version(str(tmp_path), fail)
    assert os.listdir(tmp_path) == ["1"]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from harmonic_tf.export import versions

def write(folder):
    open(os.path.join(folder, "saved_model.pb"), "w").close()
    os.kill(os.getpid(), signal.SIGKILL)

versions.write_version(sys.argv[2], write)
"""


def test_what_is_killed_half_way_is_no_version(tmp_path, source_tree):
    folder, top = str(tmp_path), str(source_tree.top)
    done = subprocess.run([sys.executable, "-c", KILLED, top, folder], timeout=300)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(folder)
    assert left.startswith(".")  # TensorFlow Serving takes entries whose names are numbers
    assert numbers(folder) == []
    assert write_version(folder, write_two_files) == os.path.join(folder, "1")


def test_a_version_taken_while_this_one_is_written(tmp_path):
    def slow(folder):
        write_version(str(tmp_path), write_two_files)
        write_two_files(folder)

    assert write_version(str(tmp_path), slow) == str(tmp_path / "2")
    with pytest.raises(FileExistsError, match="3: this version is there already"):
        write_version(str(tmp_path), slow, 3)
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3"]


def test_many_at_once(tmp_path):
    start, made = threading.Barrier(8), []

    def export(folder):
        write_two_files(folder)
        start.wait(timeout=30)

    threads = [
        threading.Thread(target=lambda: made.append(write_version(str(tmp_path), export)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(os.path.basename, made)) == [str(number) for number in range(1, 9)]
    assert all(len(os.listdir(path)) == 2 for path in made)

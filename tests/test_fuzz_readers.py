"""Damaged files: each comes out as a value or as an error in words, and does nothing else."""

import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory, source_tree):
    folder = tmp_path_factory.mktemp("fuzzed")
    script = str(source_tree.top / "benchmarks" / "fuzz_readers.py")
    arguments = ("--cases=400", "--seed=7", f"--out={folder}")
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, cwd=source_tree.top, capture_output=True, text=True, check=False)
    return done, folder


def test_no_damage_surprises(fuzzed):
    done, folder = fuzzed
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(folder.iterdir())


def test_every_reader_is_in_the_table(fuzzed):
    """And each refuses some of what it is given, so that the damage is one."""
    from fuzz_inputs import READERS

    rows = [line.split("|")[1:-1] for line in fuzzed[0].stdout.splitlines()[2:]]
    counts = {name.strip(): [int(cell) for cell in cells] for name, *cells in rows}
    assert counts.keys() == {*READERS, "all"}
    for name, (cases, right, clear, findings) in counts.items():
        assert cases == right + clear + findings
        assert clear or cases < 20, name

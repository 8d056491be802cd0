"""Damaged files: each comes out as a value or as an error in words, and does nothing else."""

import os
import subprocess
import sys

READERS = ("coco", "voc", "yolo", "results", "run", "torch")  # that take milliseconds
EACH = 25


def test_no_damage_surprises(tmp_path, source_tree):
    script = str(source_tree.top / "benchmarks" / "fuzz_readers.py")
    cases = f"--cases={EACH * len(READERS)}"
    out = f"--out={tmp_path / 'findings'}"
    command = [sys.executable, script, cases, f"--readers={','.join(READERS)}", out]
    environment = {**os.environ, "PYTHONPATH": str(source_tree.top)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    counts = {name.strip(): [int(cell) for cell in cells] for name, *cells in rows[2:]}
    assert counts.keys() == {*READERS, "all"}
    for cases, right, clear, findings in (counts[name] for name in READERS):
        assert cases == right + clear == EACH and not findings
        assert clear  # it was damaged

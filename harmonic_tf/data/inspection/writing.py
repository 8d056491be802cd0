"""Writes an inspection into a folder."""

from __future__ import annotations

import os
import tempfile

from harmonic_tf.data.inspection import plots
from harmonic_tf.data.inspection.findings import Findings
from harmonic_tf.data.inspection.report import report
from harmonic_tf.files import naming

REPORT = "inspection.md"


def write(findings: Findings, folder: str) -> None:
    """Writes `inspection.md` and its pictures; each file appears when it is whole.

    Args:
        findings: as `inspect` returns them.
        folder: where to; made if missing.

    Raises:
        OSError: the folder cannot be written to.
    """
    os.makedirs(folder, exist_ok=True)
    with (
        naming(folder),
        tempfile.TemporaryDirectory(prefix=".inspection-", dir=folder) as unfinished,
    ):
        pictures = plots.draw(findings, unfinished)
        path = os.path.join(unfinished, REPORT)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(report(findings, pictures))
        for name in (*pictures.values(), REPORT):
            os.replace(os.path.join(unfinished, name), os.path.join(folder, name))

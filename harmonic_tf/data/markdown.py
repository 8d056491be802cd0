"""Markdown for reports on data: tables, and text that shows as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SIGNS = frozenset("\\`*_[]<>|#&~$")  # that GitHub's Markdown would read as its own


def text(value: Any) -> str:
    """Anything, for example a class name or a file name, as one line that shows as it stands."""
    line = " ".join(str(value).split())
    return "".join("\\" + sign if sign in _SIGNS else sign for sign in line)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], names: int = 1) -> str:
    """A GitHub-flavoured Markdown table.

    Args:
        header: one title per column.
        rows: cells, as many per row as there are titles.
        names: how many of the first columns are aligned left; the others are numbers.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    rule = [":--"] * names + ["--:"] * (len(header) - names)
    lines = [[text(cell) for cell in row] for row in [header, *rows]]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(part: float, whole: float) -> str:
    """A part of a whole in percent; all and nothing are said of just these."""
    if not whole:
        return "-"
    percent = 100.0 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.1f} %"

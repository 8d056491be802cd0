"""One table, two dresses: aligned plain text for the terminal, and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_MARKDOWN_SIGNS = frozenset("\\`*_[]<>|#&~$")  # that GitHub's Markdown would read as its own

Rows = Sequence[Sequence[str]]


def number(value: float, digits: int = 3) -> str:
    """A metric as text; a dash where it is not defined (NaN).

    Args:
        value: any number.
        digits: after the decimal point.
    """
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def text_table(header: Sequence[str], rows: Rows) -> str:
    """Columns of plain text, the first one aligned left, the others right.

    Args:
        header: one title per column.
        rows: cells, as many per row as there are titles.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]], names: int = 1) -> str:
    """The same as a GitHub-flavoured Markdown table.

    Args:
        header: one title per column.
        rows: cells, as many per row as there are titles.
        names: how many of the first columns are aligned left; the others are numbers.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    rule = [":--"] * names + ["--:"] * (len(header) - names)
    lines = [[markdown_text(cell) for cell in row] for row in [header, *rows]]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_text(text: Any) -> str:
    """Anything as one line of text that Markdown shows as it stands.

    Args:
        text: for example a class name or a file name.
    """
    line = " ".join(str(text).split())
    return "".join("\\" + sign if sign in _MARKDOWN_SIGNS else sign for sign in line)


def share(part: float, whole: float) -> str:
    """A part of a whole in percent; all and nothing are said of just these.

    Args:
        part: between 0 and `whole`.
        whole: 0 gives a dash.
    """
    if not whole:
        return "-"
    percent = 100.0 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.1f} %"

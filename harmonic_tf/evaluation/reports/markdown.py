"""A report as Markdown, with its pictures beside it, and its tables as plain text."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence

from harmonic_tf.evaluation.reports.document import (
    Block,
    Cards,
    Document,
    Items,
    Lines,
    Measures,
    Pictures,
    Section,
    Table,
)
from harmonic_tf.tables import markdown_table, markdown_text, text_table


def markdown(document: Document, folder: str) -> str:
    """A report as GitHub-flavoured Markdown.

    Args:
        document: the report.
        folder: where it will stand; pictures are referred to relative to it.

    Returns:
        The text of the file.
    """
    blocks = [f"# {markdown_text(document.title)}"]
    blocks += [markdown_text(note) for note in document.notes]
    for section in document.sections:
        blocks.append(f"## {markdown_text(section.title)}")
        blocks += [_markdown_block(block, folder) for block in section.blocks]
    return "\n\n".join(blocks) + "\n"


def text_tables(sections: Sequence[Section]) -> str:
    """The tables alone, aligned, for the terminal.

    Args:
        sections: of a report.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    tables = []
    for block in (block for section in sections for block in section.blocks):
        if isinstance(block, Table):
            tables.append((block.header, block.rows))
        elif isinstance(block, Measures):
            rows = [[label, *cells] for label, cells, _ in block.rows]
            tables.append(([block.title, *block.columns], rows))
    return "\n\n".join(
        text_table(header, [[str(cell) for cell in row] for row in rows]) for header, rows in tables
    )


def _markdown_block(block: Block, folder: str) -> str:
    if isinstance(block, Table):
        return _titled(block.title, markdown_table(block.header, block.rows))
    if isinstance(block, Measures):
        header = ["", "how to read it", *block.columns]
        rows = [[label, text, *cells] for label, cells, text in block.rows]
        return _titled(block.title, markdown_table(header, rows, names=2))
    if isinstance(block, Cards):
        labels, cells = zip(*block.rows)
        return markdown_table(labels, [cells], names=0)
    if isinstance(block, Pictures):
        parts = []
        for picture in block.pictures:
            parts.append(f"![{markdown_text(picture.alt)}]({_relative(picture.path, folder)})")
            parts += [markdown_text(picture.caption)] if picture.caption else []
        return "\n\n".join(parts)
    if isinstance(block, Lines):
        return "\n".join(["```text", *block.lines, "```"])
    if isinstance(block, Items):
        return "\n".join(f"- {markdown_text(item)}" for item in block.items)
    return markdown_text(block)


def _titled(title: str, table: str) -> str:
    return f"**{markdown_text(title)}**\n\n{table}"


def _relative(picture: str, folder: str) -> str:
    path = os.path.relpath(os.path.abspath(picture), os.path.abspath(folder))
    return urllib.parse.quote(path.replace(os.sep, "/"))

"""A report as one HTML file that needs nothing else: no script, no network, no file beside it."""

from __future__ import annotations

import base64
import struct
from html import escape

from harmonic_tf.evaluation.reports.document import (
    Block,
    Cards,
    Cell,
    Document,
    Items,
    Lines,
    Measures,
    Number,
    Picture,
    Pictures,
    Section,
    Table,
)
from harmonic_tf.evaluation.reports.html_style import STYLE

# Whatever a class name might try to do: this page loads nothing and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html(document: Document) -> str:
    """A report as HTML, with its pictures inside.

    Every number stands in a `data` element: `value` is the exact one, as in `metrics.json`, and
    `data-metric` its place there as JSON pointer (RFC 6901); what is seen is rounded.

    Args:
        document: the report; its pictures are PNG files, which exist.

    Returns:
        The text of the file.

    Raises:
        OSError: a picture cannot be read.
    """
    contents = "\n".join(
        f'<li><a href="#{escape(section.key)}">{escape(section.title)}</a></li>'
        for section in document.sections
    )
    notes = "\n".join(_paragraph(note) for note in document.notes)
    sections = "\n".join(_section(section) for section in document.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>{escape(document.title)}</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(document.title)}</h1>
{notes}
</header>
<nav aria-labelledby="contents">
<h2 id="contents">Contents</h2>
<ol>
{contents}
</ol>
</nav>
<main>
{sections}
</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    key = escape(section.key)
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f"""<section id="{key}" aria-labelledby="{key}-title">
<h2 id="{key}-title">{escape(section.title)}</h2>
{blocks}
</section>"""


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Measures):
        return _measures(block)
    if isinstance(block, Cards):
        cards = (f"<div><dt>{escape(name)}</dt><dd>{_cell(x)}</dd></div>" for name, x in block.rows)
        return _element("dl", cards, ' class="cards"')
    if isinstance(block, Pictures):
        return _element("div", map(_picture, block.pictures), ' class="pictures"')
    if isinstance(block, Lines):
        return f'<pre tabindex="0">{escape(chr(10).join(block.lines))}</pre>'
    if isinstance(block, Items):
        return _element("ul", (f"<li>{escape(item)}</li>" for item in block.items))
    return _paragraph(block)


def _table(table: Table) -> str:
    rows = [
        f'<tr><th scope="row">{_cell(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    ]
    return _scrolling(table.title, _header(table.header), rows)


def _measures(measures: Measures) -> str:
    rows = [
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in cells)
        + f'<td class="text">{escape(how_to_read)}</td></tr>'
        for label, cells, how_to_read in measures.rows
    ]
    header = _header(["", *measures.columns]) + '<th scope="col" class="text">how to read it</th>'
    return _scrolling(measures.title, header, rows)


def _header(titles) -> str:
    return "".join(
        f'<th scope="col">{escape(title)}</th>' if title else "<td></td>" for title in titles
    )


def _scrolling(title: str, header: str, rows: list[str]) -> str:
    """A table in a frame of its own that scrolls, also by keyboard, where it is too wide."""
    body = "\n".join(rows)
    return f"""<div class="scroll" role="region" aria-label="{escape(title)}" tabindex="0">
<table>
<caption>{escape(title)}</caption>
<thead><tr>{header}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>"""


def _picture(picture: Picture) -> str:
    with open(picture.path, "rb") as file:
        png = file.read()
    # Width and height stand in the first chunk, https://www.w3.org/TR/png/#11IHDR.
    width, height = struct.unpack(">II", png[16:24])
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure style="--width: {width}px"><img src="{source}" width="{width}" '
        f'height="{height}" alt="{escape(picture.alt)}">{caption}</figure>'
    )


def _cell(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return escape(cell)
    hint = "nothing to ask for" if cell.exact == "null" else cell.exact
    return (
        f'<data value="{cell.exact}" data-metric="{escape(cell.pointer)}" title="{hint}">'
        f"{cell}</data>"
    )


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _element(name: str, parts, attributes: str = "") -> str:
    inside = "\n".join(parts)
    return f"<{name}{attributes}>\n{inside}\n</{name}>"

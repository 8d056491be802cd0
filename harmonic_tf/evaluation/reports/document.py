"""What a report consists of, before it becomes Markdown, HTML or plain text.

A number is put into a report once, as a `Number` that knows where in the metrics it stands; the
renderers decide how it looks.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Union

from harmonic_tf.tables import number


@dataclasses.dataclass(frozen=True)
class Number:
    """One number of the metrics.

    Args:
        pointer: where it stands in `metrics.json`, a JSON pointer (RFC 6901): `"/coco/AP"`.
        value: an int is a count; NaN and None stand for "nothing to ask for".
    """

    pointer: str
    value: float | int | None

    @property
    def exact(self) -> str:
        """As in `metrics.json`: every digit, `null` where there is nothing to ask for."""
        if isinstance(self.value, numbers.Integral):
            return str(int(self.value))
        if self.value is None or math.isnan(self.value):
            return "null"
        return repr(float(self.value))

    def __str__(self) -> str:
        """As tables print it: three digits after the point, counts with thousands apart."""
        if isinstance(self.value, numbers.Integral):
            return f"{self.value:,}"
        return number(math.nan if self.value is None else self.value)


Cell = Union[str, Number]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its name. `title` says what the rows are."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclasses.dataclass(frozen=True)
class Measures:
    """Numbers with a line each on how to read them.

    Args:
        title: what they have in common.
        columns: titles of the columns of numbers.
        rows: (label, one cell per column, how to read it).
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell], str]]


@dataclasses.dataclass(frozen=True)
class Cards:
    """The few numbers to look at first: (label, number)."""

    rows: Sequence[tuple[str, Cell]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file, what it shows for who cannot see it, and what stands below it, if anything."""

    path: str
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures that stand side by side where there is room."""

    pictures: Sequence[Picture]


@dataclasses.dataclass(frozen=True)
class Lines:
    """Lines to be shown as they are, for example settings."""

    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Items:
    """A list, one line of text each."""

    items: Sequence[str]


Block = Union[str, Table, Measures, Cards, Pictures, Lines, Items]  # a str is a paragraph


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it. `key` is unique in a document, of a-z and dashes."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Document:
    """A whole report: its title, plain paragraphs to stand on top, and sections."""

    title: str
    notes: Sequence[str]
    sections: Sequence[Section]


def pointer(path: Sequence[str | int]) -> str:
    """A place in nested mappings and sequences as JSON pointer, RFC 6901.

    Args:
        path: keys and positions from the outside in.
    """
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "".join("/" + step for step in steps)


def leaves(metrics: Any, path: tuple[str | int, ...] = ()) -> Iterator[Number]:
    """Every number in nested mappings and sequences, in order; None counts as one.

    Args:
        metrics: for example what `evaluate` returns, or what `metrics.json` holds.
        path: where `metrics` itself stands.

    Yields:
        The numbers with their places.
    """
    if isinstance(metrics, Mapping):
        for key, value in metrics.items():
            yield from leaves(value, (*path, key))
    elif isinstance(metrics, (list, tuple)):
        for position, value in enumerate(metrics):
            yield from leaves(value, (*path, position))
    elif not isinstance(metrics, str):
        yield Number(pointer(path), metrics)


def pointers(blocks: Iterable[Block]) -> set[str]:
    """The places of all numbers that stand in some blocks.

    Args:
        blocks: of one or more sections.
    """
    cells: list[Cell] = []
    for block in blocks:
        if isinstance(block, Table):
            cells += [cell for row in block.rows for cell in row]
        elif isinstance(block, Measures):
            cells += [cell for _, row, _ in block.rows for cell in row]
        elif isinstance(block, Cards):
            cells += [cell for _, cell in block.rows]
    return {cell.pointer for cell in cells if isinstance(cell, Number)}


def picture_paths(sections: Sequence[Section]) -> list[str]:
    """The image files of some sections, in order."""
    blocks = (block for section in sections for block in section.blocks)
    galleries = (block.pictures for block in blocks if isinstance(block, Pictures))
    return [picture.path for gallery in galleries for picture in gallery]

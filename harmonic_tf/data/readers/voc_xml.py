"""Reads one XML file of PASCAL VOC: its encoding, the image that it names, its objects."""

from __future__ import annotations

import collections
import math
import re
from typing import NamedTuple, NoReturn
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import numpy as np

from harmonic_tf.data import checks

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LEAST_POINTS = 3

_DECLARED = re.compile(rb"<\?xml[^>]*\bencoding\s*=\s*[\"']([^\"']*)[\"']")
# Western words: accented letters and signs one at a time, or two letters that touch a plain one.
# Two bytes a character, as in GBK, or a word of Cyrillic letters do not look like that.
_BEYOND_ASCII = re.compile(rb"[A-Za-z]?[\x80-\xff]+[A-Za-z]?")
_LATIN_1 = re.compile(
    rb"[A-Za-z]?[\xa7\xb0\xb2\xb3\xb5\xb7\xc0-\xff][A-Za-z]?"
    rb"|[A-Za-z][\xc0-\xff]{2}[A-Za-z]?|[\xc0-\xff]{2}[A-Za-z]"
)

LATIN_1_NOTE = "XML that is not UTF-8 and says nothing of its encoding is read as Latin-1"
POLYGON_NOTE = "an object without bndbox has the tight box of its polygon"
LOW_NOTE = "a box whose xmin or ymin is below 1, where VOC starts to count, is clipped"
HIGH_NOTE = "a box that ends up to a pixel outside of its image is clipped"


class VocObject(NamedTuple):
    """One object of an XML file.

    Args:
        name: of its class.
        box: float32 [4], xyxy in pixels.
        difficult: whether it is marked so.
        truncated: 1, 0, or NaN where the file does not say.
    """

    name: str
    box: np.ndarray
    difficult: bool
    truncated: float


def read_xml(file: str, notes: collections.Counter[str]) -> Element:
    """The root element, `annotation`, of an XML file.

    Args:
        file: its path.
        notes: gets what is read otherwise than it is written.

    Raises:
        DataError: it cannot be read, does not parse or is of another kind.
    """
    try:
        with open(file, "rb") as opened:
            content = opened.read().lstrip(b" \t\r\n")  # nothing may stand before a declaration
    except OSError as error:
        remedy = "Restore it or drop its id from the list"
        checks.refuse(file, "file", error.strerror, "annotation cannot be read", remedy)
    latin_1 = _is_undeclared_latin_1(content)
    try:
        root = defusedxml.ElementTree.fromstring(content.decode("latin-1") if latin_1 else content)
    except (SyntaxError, ValueError, LookupError) as error:
        encoded = "multi-byte" in str(error) or not _decodes(content)
        remedy = "Write it as UTF-8" if encoded else "Write the file again"
        checks.refuse(file, "file", error, "does not parse as XML", remedy)
    if root.tag != "annotation":
        remedy = "Export it as Pascal VOC, or take it out of the folder"
        checks.refuse(file, "file", f"<{root.tag}>", "is not an <annotation> of VOC", remedy)
    notes[LATIN_1_NOTE] += latin_1
    return root


def annotated_size(root: Element, file: str) -> tuple[int, int] | None:
    """Width and height as the file gives them, pixels; None where they are missing or 0."""
    fields = ("size/width", "size/height")
    texts = [(root.findtext(field) or "").strip() for field in fields]
    if any(text in ("", "0") for text in texts):
        return None
    width, height = (checks.side(text, file, field) for text, field in zip(texts, fields))
    return width, height


def read_object(
    element: Element, file: str, field: str, size: tuple[int, int], notes: collections.Counter[str]
) -> VocObject:
    """Reads one `object` element.

    Args:
        element: the element.
        file: where it stands, for messages.
        field: where in the file.
        size: width and height of its image, pixels.
        notes: gets what is read otherwise than it is written.

    Raises:
        DataError: it has no name or no box inside its image, or a flag is none.
    """
    name = (element.findtext("name") or "").strip()
    if not name:
        checks.refuse(file, f"{field}/name", "missing", "is required", "Name the object's class")
    difficult, truncated = (_flag(element, key, file, field) for key in ("difficult", "truncated"))
    if element.find("bndbox") is not None:
        box = _corner_box(element, file, f"{field}/bndbox", size, notes)
    elif element.find("polygon") is not None:
        box = _polygon_box(element.find("polygon"), file, f"{field}/polygon", size)
        notes[POLYGON_NOTE] += 1
    else:
        _refuse_boxless(element, file, field)
    return VocObject(name, box, difficult == 1.0, truncated)


def _is_undeclared_latin_1(content: bytes) -> bool:
    """Whether the bytes say nothing of their encoding, are not UTF-8, and look like Latin-1."""
    runs = _BEYOND_ASCII.findall(content)
    undeclared = not _DECLARED.match(content) and not _decodes(content)
    return undeclared and all(map(_LATIN_1.fullmatch, runs))


def _decodes(content: bytes) -> bool:
    """Whether the bytes are of the encoding that they declare, which is UTF-8 if none."""
    declared = _DECLARED.match(content)
    try:
        content.decode(declared[1].decode("ascii") if declared else "utf-8")
    except (LookupError, ValueError):
        return False
    return True


def _flag(element: Element, key: str, file: str, field: str) -> float:
    """1 or 0; NaN where the object does not say."""
    text = (element.findtext(key) or "").strip()
    return float(checks.flag(text, file, f"{field}/{key}")) if text else math.nan


def _corner_box(
    element: Element, file: str, field: str, size: tuple[int, int], notes: collections.Counter[str]
) -> np.ndarray:
    """The box of a `bndbox`, whose corners are pixels counted from 1, the last ones included."""
    texts = {key: element.findtext(f"bndbox/{key}") for key in _CORNERS}
    xmin, ymin, xmax, ymax = (checks.number(texts[key], file, f"{field}/{key}") for key in _CORNERS)
    value = " ".join(f"{key}={text}" for key, text in texts.items())
    swapped = [f"{axis}min and {axis}max" for axis in "xy" if _is_swapped(texts, axis)]
    if swapped:
        remedy = f"Swap {' and '.join(swapped)} if the tool wrote them so, or draw the box again"
        checks.refuse(file, field, value, "box has no area: its corners are swapped", remedy)
    checks.check_area(xmax - xmin, ymax - ymin, file, field, value)
    box = checks.clipped_box((xmin - 1, ymin - 1, xmax, ymax), *size, file, field, value)
    notes[LOW_NOTE] += min(xmin, ymin) < 1
    notes[HIGH_NOTE] += xmax > size[0] or ymax > size[1]
    return box


def _is_swapped(texts: dict[str, str], axis: str) -> bool:
    return float(texts[f"{axis}min"]) > float(texts[f"{axis}max"])


def _polygon_box(polygon: Element, file: str, field: str, size: tuple[int, int]) -> np.ndarray:
    """The tight box of an outline: `x1`, `y1`, `x2`, ..., or points with `x` and `y` of their own.

    Its points are positions from the image's corner on, not pixels counted from 1.
    """
    axes = [[e for e in polygon.iter() if re.fullmatch(rf"{axis}\d*", e.tag)] for axis in "xy"]
    if len(axes[0]) != len(axes[1]) or len(axes[0]) < _LEAST_POINTS:
        value = f"{len(axes[0])} x, {len(axes[1])} y"
        problem, remedy = "is not an outline", "Draw it again, or give the object a bndbox"
        checks.refuse(file, field, value, problem, remedy)
    xs, ys = ([checks.number(e.text, file, f"{field}/{e.tag}") for e in axis] for axis in axes)
    corners = min(xs), min(ys), max(xs), max(ys)
    value = " ".join(f"{number:g}" for number in corners)
    checks.check_area(corners[2] - corners[0], corners[3] - corners[1], file, field, value)
    return checks.clipped_box(corners, *size, file, field, value)


def _refuse_boxless(element: Element, file: str, field: str) -> NoReturn:
    """Says what an object without `bndbox` and `polygon` has instead."""
    rotated = element.find("robndbox")
    if rotated is not None:
        value = " ".join(f"{e.tag}={e.text}" for e in rotated)
        problem = "rotated boxes are not supported"
        remedy = "Export it with upright boxes, <bndbox>, or draw the box again as one"
        checks.refuse(file, f"{field}/robndbox", value, problem, remedy)
    problem, remedy = "object has no bndbox", "Draw its box or delete the object"
    checks.refuse(file, f"{field}/bndbox", "missing", problem, remedy)

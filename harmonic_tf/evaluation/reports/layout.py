"""Where things go on a sheet of pictures. Pure geometry, in pixels, y downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Rectangle(NamedTuple):
    """Left, top, width and height, pixels."""

    x: float
    y: float
    width: float
    height: float


def shortened(text: str, length: int) -> str:
    """A text of at most so many characters, with an ellipsis at its end where it was cut.

    Args:
        text: for example a class name.
        length: at least 1.
    """
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def fitted(size: tuple[int, int], frame: Rectangle) -> Rectangle:
    """Where a picture lies when it fills a frame as far as its shape allows, in the middle.

    Args:
        size: height and width of the picture, any unit.
        frame: where it goes.
    """
    height, width = size
    scale = min(frame.width / width, frame.height / height)
    return Rectangle(
        frame.x + (frame.width - width * scale) / 2,
        frame.y + (frame.height - height * scale) / 2,
        width * scale,
        height * scale,
    )


def justified_rows(
    sizes: Sequence[tuple[int, int]], columns: int, width: int, gap: int, max_height: int
) -> list[Rectangle]:
    """Scales pictures of any shape so that those of a row are equally high and fill its width.

    Args:
        sizes: (height, width) of each picture.
        columns: pictures per row; the last row may hold fewer.
        width: of the whole sheet, pixels.
        gap: between pictures, pixels.
        max_height: no row gets higher; the last one, when it is short, no higher than the one
            before it.

    Returns:
        One rectangle per picture, in order, row by row.
    """
    columns = min(columns, len(sizes))
    places: list[Rectangle] = []
    top, limit = 0.0, float(max_height)
    for start in range(0, len(sizes), max(columns, 1)):
        shapes = [w / h for h, w in sizes[start : start + columns]]
        height = min((width - gap * (len(shapes) - 1)) / sum(shapes), limit)
        left = 0.0
        for shape in shapes:
            places.append(Rectangle(left, top, shape * height, height))
            left += shape * height + gap
        top += height + gap
        if start + 2 * columns > len(sizes):
            limit = height
    return places


def place_label(
    box: Rectangle, size: tuple[float, float], frame: Rectangle, taken: Sequence[Rectangle]
) -> Rectangle:
    """Finds the spot at a corner of a box where a label covers the least of other labels.

    Args:
        box: what the label belongs to.
        size: width and height of the label.
        frame: the label stays inside, as far as it fits.
        taken: labels that are there already.

    Returns:
        The label's rectangle; of equally good spots the first of: above the box, below it, inside
        at its top, inside at its bottom, each first at the left edge and then at the right one.
    """
    width, height = size
    tops = (box.y - height, box.y + box.height, box.y, box.y + box.height - height)
    lefts = (box.x, box.x + box.width - width)
    spots = [
        Rectangle(
            max(min(left, frame.x + frame.width - width), frame.x),
            max(min(top, frame.y + frame.height - height), frame.y),
            width,
            height,
        )
        for top in tops
        for left in lefts
    ]
    return min(spots, key=lambda spot: sum(_shared_area(spot, other) for other in taken))


def window_around(
    box: tuple[float, float, float, float], picture: tuple[int, int], shape: float
) -> tuple[int, int, int, int]:
    """The part of a picture to show so that a box is seen in its surroundings.

    Args:
        box: xyxy, pixels of the picture; may reach beyond it.
        picture: height and width, pixels.
        shape: width / height of the part, where the picture is large enough.

    Returns:
        Left, top, right, bottom, whole pixels, inside the picture and at least one pixel wide and
        high. It holds what of the box is inside, and around it at least a quarter of the box's
        longer side and 8 pixels.
    """
    height, width = picture
    left, right = (min(max(x, 0), width) for x in box[::2])
    top, bottom = (min(max(y, 0), height) for y in box[1::2])
    margin = max(8, 0.25 * max(right - left, bottom - top))
    high = max(bottom - top + 2 * margin, (right - left + 2 * margin) / shape)
    x1, x2 = _span((left + right) / 2, high * shape, width)
    y1, y2 = _span((top + bottom) / 2, high, height)
    return x1, y1, x2, y2


def _shared_area(a: Rectangle, b: Rectangle) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0.0) * max(height, 0.0)


def _span(center: float, length: float, limit: int) -> tuple[int, int]:
    """A span of whole numbers in [0, limit] around a centre, moved inside where it sticks out."""
    start = min(max(center - length / 2, 0), max(limit - length, 0))
    return math.floor(start), min(math.ceil(start + length), limit)

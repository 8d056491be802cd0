"""Where things go on a sheet of pictures. Pure geometry, in pixels, y downwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Rectangle(NamedTuple):
    """Left, top, width and height, pixels."""

    x: float
    y: float
    width: float
    height: float


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


def _shared_area(a: Rectangle, b: Rectangle) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0.0) * max(height, 0.0)

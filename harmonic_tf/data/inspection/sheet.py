"""A contact sheet: pictures of a data set with their boxes, spread over its classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from harmonic_tf.colors import Color, class_colors
from harmonic_tf.data.images.decoding import picture
from harmonic_tf.data.inspection.findings import Findings
from harmonic_tf.data.inspection.style import DPI, NAMED, save, shortened
from harmonic_tf.data.inspection.survey import size_of

_SHEET = (5, 4)  # columns, rows
_CELL = 320  # width of a cell, pixels
_CAPTION = 18  # height of a picture's name, pixels
_GAP = 8  # between cells, pixels
_LABEL_HEIGHT = 14  # pixels, for the font below
_LABEL_FONT = 7.5  # points
_LETTER = 6.5  # pixels of that font, about


def choose_pictures(findings: Findings, count: int) -> list[int]:
    """Pictures that show as many classes as possible, each about as often.

    Args:
        findings: of which data set.
        count: how many pictures at most.

    Returns:
        Rows of the survey's annotations, from all over the data set. Each picture in turn is the
        one that shows most of what was shown least so far.
    """
    objects, pictures = findings.objects, len(findings.survey.annotations)
    shows = np.zeros((pictures, len(findings.survey.class_names)), np.float32)
    shows[objects.picture, objects.classes] = 1.0
    shown = np.zeros(shows.shape[1], np.float32)
    left = np.ones(pictures, bool)
    order = np.random.default_rng(0).permutation(pictures)  # or else files of one day win all ties
    chosen: list[int] = []
    for _ in range(min(count, pictures)):
        gain = np.where(left, shows @ 0.25**shown, -1.0)
        chosen.append(int(order[np.argmax(gain[order])]))
        left[chosen[-1]] = False
        shown += shows[chosen[-1]]
    return chosen


def contact_sheet(findings: Findings, path: str) -> None:
    """Draws pictures with their boxes, in the colours of their classes.

    Args:
        findings: of which data set.
        path: PNG file to write.
    """
    annotations, names = findings.survey.annotations, findings.survey.class_names
    chosen = choose_pictures(findings, _SHEET[0] * _SHEET[1])
    shapes = [annotations[row].height / annotations[row].width for row in chosen]
    cell_height = round(_CELL * float(np.clip(np.median(shapes), 0.5, 2.0)))
    columns = min(_SHEET[0], len(chosen))
    rows = -(-len(chosen) // columns)
    width = columns * (_CELL + _GAP) - _GAP
    height = rows * (cell_height + _CAPTION + _GAP)
    figure, axes = _pixels(width, height)
    colors = class_colors(len(names))
    for place, row in enumerate(chosen):
        left = place % columns * (_CELL + _GAP)
        top = place // columns * (cell_height + _CAPTION + _GAP)
        annotation = annotations[row]
        scale = min(_CELL / annotation.width, cell_height / annotation.height)
        drawn = np.array([annotation.width, annotation.height]) * scale
        x, y = np.array([left, top]) + (np.array([_CELL, cell_height]) - drawn) / 2
        axes.imshow(
            picture(annotation), extent=(x, x + drawn[0], y + drawn[1], y), aspect="auto", zorder=0
        )
        boxes = annotation.boxes * scale + np.array([x, y, x, y])
        box_colors = [colors[k] for k in annotation.classes]
        _draw_boxes(axes, boxes, box_colors)
        if len(names) > NAMED:
            cell = (left, top, left + _CELL, top + cell_height)
            _name_boxes(axes, cell, boxes, [names[k] for k in annotation.classes], box_colors)
        axes.text(
            left + _CELL / 2,
            top + cell_height + 3,
            shortened(findings.survey.picture_name(row), 48),
            fontsize=8,
            color="dimgray",
            ha="center",
            va="top",
            parse_math=False,
        )
    if len(names) <= NAMED:
        handles = [Patch(color=color, label=name) for name, color in zip(names, colors)]
        legend = figure.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=min(len(handles), 2 * columns),
            frameon=False,
            fontsize=12,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    save(figure, path, bbox_inches="tight", pad_inches=0.06)


def _draw_boxes(axes: Axes, boxes: np.ndarray, colors: Sequence[Color]) -> None:
    """Outlines boxes, [N, 4] xyxy in pixels of the sheet."""
    for (x1, y1, x2, y2), color in zip(boxes, colors):
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.6)
        )


def _name_boxes(
    axes: Axes,
    cell: Sequence[float],
    boxes: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Color],
) -> None:
    """Names boxes, the largest first, where there is room in the cell: above, below or inside."""
    taken: list[tuple[float, ...]] = []
    for row in np.argsort(-size_of(boxes)):
        name = shortened(names[row], 18)
        width = _LETTER * len(name) + 4
        left = max(min(boxes[row, 0], cell[2] - width), cell[0])
        for top in (boxes[row, 1] - _LABEL_HEIGHT, boxes[row, 3], boxes[row, 1]):
            spot = (left, top, left + width, top + _LABEL_HEIGHT)
            inside = cell[1] <= top and spot[3] <= cell[3]
            if inside and not any(_overlap(spot, other) for other in taken):
                taken.append(spot)
                _label(axes, left, top, name, colors[row])
                break


def _label(axes: Axes, left: float, top: float, name: str, color: Color) -> None:
    axes.text(
        left + 2,
        top + 1,
        name,
        fontsize=_LABEL_FONT,
        va="top",
        color="black" if np.dot(color, (0.2126, 0.7152, 0.0722)) > 0.5 else "white",  # BT.709
        bbox={"facecolor": color, "linewidth": 0, "pad": 1},
        parse_math=False,
    )


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _pixels(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure of so many pixels, and axes that cover it and count them, y downwards."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    return figure, axes

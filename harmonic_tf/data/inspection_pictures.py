"""Pictures of a data set: a contact sheet with boxes, sizes of the boxes, boxes per class."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from harmonic_tf.data.inspection import SIZE_LIMITS, size_of
from harmonic_tf.data.inspection_report import Findings
from harmonic_tf.data.pictures import picture

_DPI = 100
_SHEET = (5, 4)  # columns, rows
_CELL = 320  # width of a cell of the sheet, pixels
_CAPTION = 18  # height of a picture's name, pixels
_GAP = 8  # between cells, pixels
_NAMED = 10  # with more classes colours are too much alike: boxes are named instead
_BARS = 100  # classes in the histogram; of more, the most and the least frequent
_MATCHED, _MISSED = "tab:blue", "tab:red"
_MARKS = ("black", "tab:green")

# What DejaVu Sans, matplotlib's own font, has no glyphs for, where one of these is installed.
_WIDE_FONTS = ("Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS")


def draw(findings: Findings, folder: str) -> dict[str, str]:
    """Draws all pictures of the report.

    Args:
        findings: what was found out.
        folder: where to; it is there.

    Returns:
        File name by caption.
    """
    figures = {
        "Pictures and their boxes": ("sheet.png", contact_sheet),
        "Sizes of the boxes": ("sizes.png", size_histogram),
        "Boxes per class": ("classes.png", class_histogram),
    }
    for name, plot in figures.values():
        with _fonts():
            plot(findings, os.path.join(folder, name))
    return {caption: name for caption, (name, _) in figures.items()}


def class_colors(count: int) -> list[tuple[float, float, float]]:
    """RGB in [0, 1] of each class: the usual ten, or evenly spaced hues when there are more."""
    if count <= _NAMED:
        return list(matplotlib.colormaps["tab10"].colors[:count])
    # Neighbours get distant hues: steps of the golden ratio around the circle.
    return [tuple(c[:3]) for c in matplotlib.colormaps["hsv"](np.arange(count) * 0.618034 % 1)]


def choose_pictures(findings: Findings, count: int) -> list[int]:
    """Pictures that show as many classes as possible, each about as often.

    Args:
        findings: of which data set.
        count: how many pictures at most.

    Returns:
        Rows of the survey's annotations. Each picture in turn is the one that shows most of what
        was shown least so far.
    """
    objects, pictures = findings.objects, len(findings.survey.annotations)
    shows = np.zeros((pictures, len(findings.survey.class_names)), np.float32)
    shows[objects.picture, objects.classes] = 1.0
    shown = np.zeros(shows.shape[1], np.float32)
    left = np.ones(pictures, bool)
    chosen: list[int] = []
    for _ in range(min(count, pictures)):
        gain = np.where(left, shows @ 0.25**shown, -1.0)
        chosen.append(int(np.argmax(gain)))
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
    picture_names = findings.survey.picture_names
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
        _draw_boxes(axes, boxes, annotation.classes, names, colors)
        axes.text(
            left + _CELL / 2,
            top + cell_height + 3,
            _shortened(picture_names[row], 48),
            fontsize=8,
            color="dimgray",
            ha="center",
            va="top",
            parse_math=False,
        )
    if len(names) <= _NAMED:
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
    _save(figure, path, bbox_inches="tight", pad_inches=0.06)


def _draw_boxes(axes, boxes, classes, names, colors) -> None:
    """Outlines boxes; names them, the largest first and where there is room, if need be."""
    for box, k in zip(boxes, classes):
        corner, sides = box[:2], box[2:] - box[:2]
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colors[k], linewidth=1.6))
    if len(names) <= _NAMED:
        return
    taken: list[tuple[float, ...]] = []
    for row in np.argsort(-size_of(boxes)):
        name = _shortened(names[classes[row]], 18)
        left, top = boxes[row, :2]
        spot = (left, top, left + 6.5 * len(name) + 4, top + 14)
        if any(
            spot[0] < t[2] and t[0] < spot[2] and spot[1] < t[3] and t[1] < spot[3] for t in taken
        ):
            continue
        taken.append(spot)
        color = colors[classes[row]]
        axes.text(
            left,
            top,
            name,
            fontsize=7.5,
            va="top",
            color="black" if np.dot(color, (0.2126, 0.7152, 0.0722)) > 0.5 else "white",  # BT.709
            bbox={"facecolor": color, "linewidth": 0, "pad": 1},
            parse_math=False,
        )


def size_histogram(findings: Findings, path: str) -> None:
    """Plots the boxes' sizes at the model's input, what matches and what does not, and marks.

    Args:
        findings: of which data set.
        path: PNG file to write.
    """
    sizes, fit = size_of(findings.objects.seen), findings.fit
    low = min(sizes.min(), 8.0)
    high = max(sizes.max(), findings.image_size)
    bins = np.geomspace(low / 1.05, high * 1.05, 61)
    figure = Figure(figsize=(10, 5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    parts = {fit.match: (fit.matched, _MATCHED), "does not match": (~fit.matched, _MISSED)}
    axes.hist(
        [sizes[rows] for rows, _ in parts.values()],
        bins,
        stacked=True,
        color=[color for _, color in parts.values()],
        label=[f"{name}: {rows.sum():,}" for name, (rows, _) in parts.items()],
    )
    axes.set(xscale="log", xlim=(bins[0], bins[-1]), ylabel="boxes")
    axes.set_xlabel(f"size (root of the area) at {findings.image_size} px, pixels")
    axes.set_xticks(2.0 ** np.arange(np.ceil(np.log2(bins[0])), np.log2(bins[-1])))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.margins(y=0.15)
    for (name, marks), color, y in zip(fit.marks.items(), _MARKS, (0.97, 0.91)):
        inside = [mark for mark in marks if bins[0] <= mark <= bins[-1]]
        axes.plot(
            inside,
            [y] * len(inside),
            "v",
            color=color,
            markersize=7,
            label=name,
            transform=axes.get_xaxis_transform(),
        )
    edges = [*SIZE_LIMITS.values(), np.inf]
    for name, start, end in zip(SIZE_LIMITS, edges, edges[1:]):
        start, end = np.clip([start, end], bins[0], bins[-1])
        if start > bins[0]:
            axes.axvline(start, color="gray", linewidth=0.8, linestyle=":")
        if end > start:
            axes.text(
                np.sqrt(start * end),
                1.01,
                name,
                color="gray",
                ha="center",
                va="bottom",
                transform=axes.get_xaxis_transform(),
            )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _save(figure, path)


def class_histogram(findings: Findings, path: str) -> None:
    """Plots how many boxes each class has, the most frequent first.

    Args:
        findings: of which data set.
        path: PNG file to write.
    """
    counts, names = findings.boxes_per_class, findings.survey.class_names
    colors = class_colors(len(names))
    order = np.argsort(-counts, kind="stable")
    title = ""
    if len(order) > _BARS:
        title = f"The {_BARS // 2} most and the {_BARS // 2} least frequent of {len(order)} classes"
        order = np.concatenate([order[: _BARS // 2], order[-_BARS // 2 :]])
    figure = Figure(figsize=(10, 1.2 + 0.24 * len(order)), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(np.arange(len(order)), counts[order], color=[colors[i] for i in order], height=0.75)
    uneven = counts.max() > 100 * max(counts.min(), 1)
    if uneven:
        axes.set_xscale("log")
        axes.set_xlim(0.8, counts.max() * 2)
    for place, count in enumerate(counts[order]):
        axes.annotate(
            f"{count:,}",
            (max(count, 0.8 if uneven else 0), place),
            (4, 0),
            "data",
            "offset points",
            va="center",
            fontsize=9,
            color="dimgray",
        )
    axes.set_yticks(np.arange(len(order)))
    axes.set_yticklabels([_shortened(names[i], 32) for i in order], parse_math=False)
    axes.set(ylim=(len(order) - 0.4, -0.6), title=title)
    axes.set_xlabel("boxes, logarithmic" if uneven else "boxes")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _pixels(width: int, height: int):
    """A figure of so many pixels, and axes that cover it and count them, y downwards."""
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    return figure, axes


def _save(figure: Figure, path: str, **options) -> None:
    FigureCanvasAgg(figure).print_figure(path, format="png", dpi=_DPI, **options)


@contextlib.contextmanager
def _fonts() -> Iterator[None]:
    """Fonts for names in any script, as far as they are installed; what is missing is a box."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed)]
    with matplotlib.rc_context({"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"\u2026{name[1 - length :]}"

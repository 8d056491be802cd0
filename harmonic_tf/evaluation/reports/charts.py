"""Charts of what was measured, each one PNG file. They take arrays, not models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patches import Rectangle as RectanglePatch

from harmonic_tf.colors import class_colors
from harmonic_tf.evaluation.metrics.average_precision import RECALLS
from harmonic_tf.evaluation.metrics.consistency import CONFIDENT, WELL_PLACED
from harmonic_tf.evaluation.reports.layout import shortened
from harmonic_tf.files import replacing

_DPI = 100
_BINS = np.linspace(0, 1, 41)
_NAMED_CURVES = 10  # as many colours as can be told apart
_NAME_LENGTH = 24  # characters of a class name in a legend or on an axis
_NUMBERED_CLASSES = 25  # larger matrices say with colour alone how much
_NAMED_CLASSES = 150  # and still larger ones leave the names away
_PANEL_COLUMNS = 3

Curve = tuple[np.ndarray, np.ndarray]


def precision_recall_curves(path: str, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """Plots precision against recall, class by class, atomically.

    Of more than ten classes the ten lowest curves are named and the others gray.

    Args:
        path: PNG file to write; its folder exists.
        panels: title of a panel, for example the IoU threshold, to class name to (recall
            ascending, precision), [K] each, in [0, 1]; K = 0 where nothing was found.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    figure, all_axes = _panels(len(panels), size=(5.4, 4.6))
    for axes, (title, curves) in zip(all_axes, panels.items()):
        read = {name: _interpolated(*curve) for name, curve in curves.items()}
        lowest = sorted(read, key=lambda name: read[name].mean())[:_NAMED_CURVES]
        named = [name for name in read if name in lowest]
        for name in read.keys() - lowest:
            axes.plot(RECALLS, read[name], color="0.75", linewidth=0.8)
        for name, color in zip(named, class_colors(len(named))):
            axes.plot(
                RECALLS, read[name], color=color, linewidth=1.5, label=shortened(name, _NAME_LENGTH)
            )
        if len(read) > 1:
            mean = np.mean(list(read.values()), axis=0)
            axes.plot(RECALLS, mean, color="black", linewidth=2.5, label="mean")
        axes.set_title(title, parse_math=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.grid(color="0.9")
        if read:
            _legend(axes, f"lowest of {len(read)}" if len(read) > len(named) else None)
        else:
            _nothing(axes)
    _save(figure, path)


def score_iou_scatter(path: str, scores: np.ndarray, ious: np.ndarray) -> None:
    """Plots each detection's score against its overlap, with both distributions, atomically.

    A consistent detector lies along the diagonal; what is confident but misplaced is shaded.

    Args:
        path: PNG file to write; its folder exists.
        scores: [K], in [0, 1].
        ious: [K], in [0, 1].

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    figure = Figure(figsize=(6, 6), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(5, 1), height_ratios=(1, 5))
    axes = figure.add_subplot(grid[1, 0])
    above = figure.add_subplot(grid[0, 0], sharex=axes)
    beside = figure.add_subplot(grid[1, 1], sharey=axes)

    axes.add_patch(
        RectanglePatch((CONFIDENT, 0), 1 - CONFIDENT, WELL_PLACED, color="tab:red", alpha=0.08)
    )
    axes.text(0.98, 0.02, "confident but misplaced", color="tab:red", ha="right", va="bottom")
    axes.plot((0, 1), (0, 1), color="gray", linewidth=1, linestyle="--")
    # The more points, the fainter each: many thousands still show where most of them lie.
    alpha = float(np.clip(1000 / max(len(scores), 1), 0.05, 0.7))
    axes.scatter(scores, ious, s=10, alpha=alpha, linewidths=0, color="tab:blue")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="score", ylabel="IoU with the object")

    # Logarithmic: most detections have a score and an IoU near 0 and would hide the others.
    counts = [np.histogram(values, _BINS)[0] for values in (scores, ious)]
    limits = (0.5, 2 * max(10, *counts[0], *counts[1]))
    above.stairs(counts[0], _BINS, baseline=limits[0], fill=True, color="tab:blue")
    beside.stairs(
        counts[1], _BINS, baseline=limits[0], fill=True, color="tab:blue", orientation="horizontal"
    )
    above.set(yscale="log", ylim=limits, ylabel="count")
    beside.set(xscale="log", xlim=limits, xlabel="count")
    above.tick_params(labelbottom=False)
    beside.tick_params(labelleft=False)
    for margin in (above, beside):
        margin.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def calibration_diagram(
    path: str, mean_scores: np.ndarray, mean_ious: np.ndarray, counts: np.ndarray
) -> None:
    """Plots the mean overlap of each bin of scores, and how many detections it holds, atomically.

    Scores that mean overlap put the bars on the diagonal; the gap is drawn up to it.

    Source: the reliability diagram of Guo et al., "On Calibration of Modern Neural Networks", ICML
    2017, https://arxiv.org/abs/1706.04599, with IoU in place of accuracy.

    Args:
        path: PNG file to write; its folder exists.
        mean_scores: [B], mean score of each of B equal bins from 0 to 1; NaN for an empty one.
        mean_ious: [B], mean IoU of its detections.
        counts: int [B], its detections.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    figure = Figure(figsize=(6, 6), dpi=_DPI, layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    edges = np.linspace(0, 1, len(counts) + 1)
    filled = counts > 0
    lefts, width = edges[:-1][filled], edges[1]
    scores, ious = mean_scores[filled], mean_ious[filled]
    style = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.5}
    axes.bar(lefts, ious, color="tab:blue", label="mean IoU", **style)
    axes.bar(
        lefts, scores - ious, bottom=ious, color="tab:red", alpha=0.3, label="gap to score", **style
    )
    axes.plot((0, 1), (0, 1), color="gray", linewidth=1, linestyle="--", label="score = IoU")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="mean IoU")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    if filled.any():
        share = counts[filled] / counts.sum()
        below.bar(lefts, share, color="0.6", **style)
        # A share of 1 in 10,000 can be seen as well as that of most detections.
        below.set(yscale="log", ylim=(min(share.min() / 2, 1e-2), 1.5))
    below.set(xlabel="score", ylabel="share of\ndetections")
    _save(figure, path)


def confusion_matrix_chart(path: str, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draws a confusion matrix, atomically.

    Args:
        path: PNG file to write; its folder exists.
        matrix: int [C + 1, C + 1], as `confusion.confusion_matrix` gives it. Colour is the share
            of the row, on a scale of square roots so that rare confusions are seen.
        class_names: C names.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    size = len(matrix)
    side = float(np.clip(2.5 + 0.5 * size, 4.5, 16))
    figure = Figure(figsize=(side + 0.8, side), dpi=_DPI, layout="compressed")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8, fraction=0.05)
    axes.set(xlabel="found", ylabel="annotated")
    for edge in (axes.axhline, axes.axvline):
        edge(size - 1.5, color="gray", linewidth=1)
    _name_classes(axes, class_names)
    if size <= _NUMBERED_CLASSES + 1:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.3 else "black" if count else "0.7"
            axes.text(
                column, row, _compact(count), color=color, ha="center", va="center", fontsize=9
            )
    _save(figure, path)


def bars(
    path: str, panels: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[float]]]]
) -> None:
    """Draws groups of bars in panels with one scale, atomically.

    Args:
        path: PNG file to write; its folder exists.
        panels: title to (names of G groups, name of a series to G values). NaN has no bar.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    figure, all_axes = _panels(len(panels), size=(5.4, 3.6))
    values = [value for _, series in panels.values() for row in series.values() for value in row]
    limit = 1.15 * np.nanmax(np.array([0.1, *values], np.float64))  # room for the number on top
    labels = list(dict.fromkeys(label for _, series in panels.values() for label in series))
    colors = dict(zip(labels, class_colors(len(labels))))
    for axes, (title, (groups, series)) in zip(all_axes, panels.items()):
        places = np.arange(len(groups))
        width = 0.8 / len(series)
        for i, (label, values) in enumerate(series.items()):
            heights = np.array(values, np.float64)
            lefts = places + (i - (len(series) - 1) / 2) * width
            drawn = axes.bar(lefts, np.nan_to_num(heights), width * 0.92, color=colors[label])
            texts = ["\u2013" if np.isnan(height) else f"{height:.2f}" for height in heights]
            axes.bar_label(drawn, texts, fontsize=7.5, padding=1)
        axes.set_xticks(places, groups, fontsize=9, parse_math=False)
        axes.set_title(title, parse_math=False, fontsize=11)
        axes.set(ylim=(0, limit))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        [Patch(color=color) for color in colors.values()],
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
    )
    _save(figure, path)


def _panels(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, at most three to a row; size in inches."""
    rows = math.ceil(count / _PANEL_COLUMNS)
    columns = math.ceil(count / rows)
    figure = Figure((size[0] * columns, size[1] * rows), dpi=_DPI, layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in all_axes[count:]:
        empty.remove()
    return figure, all_axes[:count]


def _interpolated(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The best precision at COCO's 101 recalls or more: what AP is the mean of."""
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return best[np.searchsorted(recall, RECALLS, side="left")]


def _legend(axes: Axes, title: str | None) -> None:
    legend = axes.legend(loc="lower left", fontsize=8, title=title, title_fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "nothing to show", color="gray", ha="center", transform=axes.transAxes)


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    names = [*(shortened(name, _NAME_LENGTH) for name in class_names), "background"]
    if len(names) > _NAMED_CLASSES:
        axes.set(xticks=[], yticks=[])
        return
    font = float(np.clip(700 / len(names), 5, 9))
    style = {"fontsize": font, "parse_math": False}
    axes.set_xticks(range(len(names)), names, rotation=45 if len(names) < 20 else 90, **style)
    if len(names) < 20:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, **style)


def _compact(count: int) -> str:
    """At most five characters: 9999, 10k, 2.5M."""
    if count < 10_000:
        return str(count)
    if count < 1_000_000:
        return f"{count // 1000}k"
    return f"{count / 1e6:.1f}M"


def _save(figure: Figure, path: str) -> None:
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")

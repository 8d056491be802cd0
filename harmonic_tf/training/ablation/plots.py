"""An ablation as pictures: every run, and how each row differs from the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonic_tf.evaluation.reports.comparison import verdict
from harmonic_tf.evaluation.statistics.intervals import mean_interval
from harmonic_tf.files import replacing
from harmonic_tf.training.ablation.results import Difference, Result, difference, rows_of
from harmonic_tf.training.ablation.rows import BASELINE, Row

DRAWN = {
    "AP": "AP (more is better)",
    "AP75": "AP75 (more is better)",
    "cost": "AP_oracle - AP (less is better)",
    "mean_abs_gap": "mean |score - IoU| (less is better)",
    "LaECE": "LaECE (less is better)",
}
"""What is drawn, and what each panel is called."""

_COLORS = {"better": "tab:green", "worse": "tab:red", "open": "gray"}
_OFFSET = 0.12  # of the points above and the means below the middle of their row


def plot_rows(path: str, results: Sequence[Result]) -> None:
    """Draws every run as a point, and mean and interval of each row, as PNG, atomically.

    An interval of very few runs, which may be wider than the panel, is cut at its edge.

    Args:
        path: file to write.
        results: finished runs.
    """
    rows = rows_of(results)
    counts = [sum(result.row == row for result in results) for row in rows]
    labels = [f"{row.label} (n = {count})" for row, count in zip(rows, counts)]
    figure, panels = _panels(labels)
    for axes, name in zip(panels, DRAWN):
        for place, row in enumerate(rows):
            values = [result.values[name] for result in results if result.row == row]
            _draw_row(axes, place, row, values)
        _set_limits(axes, [result.values[name] for result in results])
    _save(figure, path)


def plot_differences(path: str, results: Sequence[Result]) -> None:
    """Draws how each row differs from the baseline, with both intervals, as PNG, atomically.

    Args:
        path: file to write.
        results: finished runs.
    """
    rows = [row for row in rows_of(results) if row != BASELINE]
    figure, panels = _panels([row.label for row in rows])
    for axes, name in zip(panels, DRAWN):
        differences = [difference(results, row, name) for row in rows]
        for place, of_row in enumerate(differences):
            _draw_difference(axes, place, name, of_row)
        axes.axvline(0, color="black", linewidth=1)
        _set_limits(axes, [0.0, *(end for of_row in differences for end in _reach(of_row))])
    figure.supxlabel(
        "row - baseline; thick: 95% over pictures, thin: 95% over seeds; "
        "green: better, red: worse, gray: open",
        fontsize=9,
    )
    _save(figure, path)


def verdict_of(name: str, found: Difference) -> str:
    """Whether a row is "better" or "worse" than the baseline beyond both intervals, or "open".

    It is open as long as one training says nothing of their spread; where the interval over
    pictures is not known, that over seeds decides.

    Args:
        name: of the metric, one of `DRAWN` or of those that the paired bootstrap measures.
        found: the difference.
    """
    mean, half_width, count = found.over_seeds
    if count < 2:
        return "open"
    ends = {
        "difference": mean,
        "over_pictures": found.over_pictures,
        "over_trainings": (mean - half_width, mean + half_width),
    }
    return verdict(name, ends)


def _panels(labels: Sequence[str]) -> tuple[Figure, Sequence[Axes]]:
    """A panel per metric, side by side, of the same rows."""
    inches = (1.5 + 3 * len(DRAWN), 1.5 + 0.42 * len(labels))
    figure = Figure(figsize=inches, dpi=100, layout="constrained")
    panels = figure.subplots(1, len(DRAWN), sharey=True, squeeze=False)[0]
    for axes, title in zip(panels, DRAWN.values()):
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    return figure, panels


def _draw_row(axes: Axes, place: int, row: Row, values: Sequence[float]) -> None:
    mean, half_width, _ = mean_interval(values)
    above, below = place - _OFFSET, place + _OFFSET
    axes.plot(values, [above] * len(values), "o", color="tab:blue", alpha=0.6, markersize=5)
    axes.plot((mean - half_width, mean + half_width), (below, below), color="black")
    axes.plot(mean, below, "D", color="black", markersize=5)
    if row == BASELINE:
        axes.axvline(mean, color="gray", linewidth=1, linestyle="--")


def _draw_difference(axes: Axes, place: int, name: str, found: Difference) -> None:
    mean, half_width, _ = found.over_seeds
    color = _COLORS[verdict_of(name, found)]
    axes.plot(found.over_pictures, (place, place), color=color, linewidth=6, alpha=0.4)
    axes.plot((mean - half_width, mean + half_width), (place, place), color=color, linewidth=1.5)
    axes.plot(mean, place, "D", color=color, markersize=6)


def _reach(found: Difference) -> tuple[float, ...]:
    """What of a difference a panel is to hold: not the wide intervals of two seeds."""
    mean, half_width, count = found.over_seeds
    return (mean, *found.over_pictures, *((mean - half_width, mean + half_width) * (count > 2)))


def _set_limits(axes: Axes, values: Sequence[float]) -> None:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="gray")
        return
    margin = 0.4 * (max(known) - min(known)) or 0.01
    axes.set_xlim(min(known) - margin, max(known) + margin)
    axes.locator_params(axis="x", nbins=4)  # of any more the labels would touch


def _save(figure: Figure, path: str) -> None:
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")

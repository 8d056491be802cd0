"""What an ablation found: a table of all runs, one of the rows, and a picture."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonic_tf.evaluation.statistics.intervals import MeanInterval, mean_interval
from harmonic_tf.files import replacing, write_text
from harmonic_tf.tables import Rows, markdown_table, number, text_table
from harmonic_tf.training.ablation.rows import BASELINE, ROWS, Row
from harmonic_tf.training.ablation.runs import Run

_PRECISION = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_CONSISTENCY = ("mean_abs_gap", "pearson", "confident_misplaced", "unconfident_well_placed")
_CALIBRATION = ("LaECE", "LRP")
_RANKING = ("AP_oracle", "cost")
# Where each stands in metrics.json.
_SECTIONS = {
    **dict.fromkeys(_PRECISION, "coco"),
    **dict.fromkeys(_CONSISTENCY, "consistency"),
    **dict.fromkeys(_CALIBRATION, "calibration"),
    **dict.fromkeys(_RANKING, "ranking"),
}
_DRAWN = {
    "AP": "AP (more is better)",
    "AP75": "AP75 (more is better)",
    "mean_abs_gap": "mean |score - IoU| (less is better)",
    "cost": "AP_oracle - AP (less is better)",
}
_HOW_TO_READ = """\
Each number is a mean over n trainings that differ in their seed. ±: half of its 95% interval by
Student's t, where the mean of ever more such trainings would lie, on the same test pictures. A
number without ± is from one training; a dash is not known. Less is better of mean_abs_gap,
confident_misplaced, unconfident_well_placed, LaECE, LRP and cost, which is AP_oracle - AP."""
_HOW_TO_READ_DIFFERENCES = """\
Row minus baseline, seed by seed, over the n seeds that both have. A difference that is smaller than
its ± may be chance."""
_OFFSET = 0.12  # of the points above and the means below the middle of their row


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run came to.

    Args:
        row: its loss.
        seed: its seed.
        values: metric to value, NaN where its metrics.json does not have it; and `seconds`.
    """

    row: Row
    seed: int
    values: Mapping[str, float]


def read_result(run: Run) -> Result:
    """Reads what a finished run measured."""
    metrics = run.metrics()
    values = {name: metrics.get(section, {}).get(name) for name, section in _SECTIONS.items()}
    known = {name: float("nan") if value is None else value for name, value in values.items()}
    return Result(run.row, run.seed, {**known, "seconds": run.seconds})


def write(folder: str, results: Sequence[Result], model: str, flags: Sequence[str]) -> None:
    """Writes ablation.csv, ablation.md and ablation.png, each atomically; nothing of no results.

    Args:
        folder: where to; it exists.
        results: finished runs, in the order of the rows.
        model: the detector's name.
        flags: what all runs were trained with, beside the loss and the seed.

    Raises:
        OSError: the folder cannot be written to.
    """
    if results:
        csv_file, table, picture = (
            os.path.join(folder, f"ablation.{kind}") for kind in ("csv", "md", "png")
        )
        write_csv(csv_file, results)
        write_markdown(table, results, model, flags)
        plot(picture, results)


def write_csv(path: str, results: Sequence[Result]) -> None:
    """Writes one line per run, atomically; what is not known is left empty.

    Args:
        path: file to write.
        results: the runs, in the order to write them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = (*_SECTIONS, "seconds")
    writer.writerow(["row", "seed", *names])
    for result in results:
        values = [result.values[name] for name in names]
        cells = ["" if np.isnan(value) else repr(float(value)) for value in values]
        writer.writerow([result.row.name, result.seed, *cells])
    write_text(path, text.getvalue())


def write_markdown(path: str, results: Sequence[Result], model: str, flags: Sequence[str]) -> None:
    """Writes the rows' means and their differences to the baseline, atomically.

    Args:
        path: file to write.
        results: finished runs.
        model: the detector's name.
        flags: what all runs were trained with, beside the loss and the seed.
    """
    tables = ("Average precision", _PRECISION), ("Consistency", _CONSISTENCY + _RANKING)
    tables += (("Calibration and error", _CALIBRATION),)
    rows = [result.row for result in results]
    blocks = [f"# Ablation of the loss: {model}", _HOW_TO_READ]
    for title, names in tables:
        blocks += [f"## {title}", markdown_table(*_means(results, names))]
    blocks += ["## Difference to the baseline", _HOW_TO_READ_DIFFERENCES]
    blocks += [markdown_table(*_differences(results, names)) for _, names in tables]
    blocks += [
        "![Every training, mean and interval of each row](ablation.png)",
        "## Rows",
        "\n".join(
            f"- **{row.label}**: `{' '.join(row.flags(model))}`"
            for row in ROWS.values()
            if row in rows
        ),
        "## Flags of all rows",
        "\n".join(["```text", *flags, "```"]),
    ]
    write_text(path, "\n\n".join(blocks) + "\n")


def summary(results: Sequence[Result]) -> str:
    """The rows' means for the terminal.

    Args:
        results: finished runs.
    """
    return text_table(*_means(results, _DRAWN))


def plot(path: str, results: Sequence[Result]) -> None:
    """Draws every run as a point, and mean and interval of each row, as PNG, atomically.

    An interval of very few runs, which may be wider than the panel, is cut at its edge.

    Args:
        path: file to write.
        results: finished runs.
    """
    rows = _rows(results)
    inches = (4 * len(_DRAWN), 1.4 + 0.45 * len(rows))
    figure = Figure(figsize=inches, dpi=100, layout="constrained")
    panels = figure.subplots(1, len(_DRAWN), sharey=True, squeeze=False)[0]
    for axes, (name, title) in zip(panels, _DRAWN.items()):
        axes.set_title(title, fontsize=10)
        for place, row in enumerate(rows):
            _draw_row(axes, place, row, _values(results, row, name))
        _set_limits(axes, [result.values[name] for result in results])
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    counts = [sum(result.row == row for result in results) for row in rows]
    labels = [f"{row.label} (n = {count})" for row, count in zip(rows, counts)]
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")


def _draw_row(axes: Axes, place: int, row: Row, values: Sequence[float]) -> None:
    mean, half_width, _ = mean_interval(values)
    above, below = place - _OFFSET, place + _OFFSET
    axes.plot(values, [above] * len(values), "o", color="tab:blue", alpha=0.6, markersize=5)
    axes.plot((mean - half_width, mean + half_width), (below, below), color="black")
    axes.plot(mean, below, "D", color="black", markersize=5)
    if row == BASELINE:
        axes.axvline(mean, color="gray", linewidth=1, linestyle="--")


def _set_limits(axes: Axes, values: Sequence[float]) -> None:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="gray")
        return
    margin = 0.4 * (max(known) - min(known)) or 0.01
    axes.set_xlim(min(known) - margin, max(known) + margin)
    axes.locator_params(axis="x", nbins=4)  # of any more the labels would touch


def _means(results: Sequence[Result], names: Sequence[str]) -> tuple[list[str], Rows]:
    cells = []
    for row in _rows(results):
        count = sum(result.row == row for result in results)
        values = (mean_interval(_values(results, row, name)) for name in names)
        cells.append([row.label, str(count), *(_cell(value, "") for value in values)])
    return ["loss", "n", *names], cells


def _differences(results: Sequence[Result], names: Sequence[str]) -> tuple[list[str], Rows]:
    values = {(result.row, result.seed): result.values for result in results}
    cells = []
    for row in (row for row in _rows(results) if row != BASELINE):
        seeds = [seed for other, seed in values if other == row and (BASELINE, seed) in values]
        line = [row.label, str(len(seeds))]
        for name in names:
            pairs = [values[row, seed][name] - values[BASELINE, seed][name] for seed in seeds]
            line.append(_cell(mean_interval(pairs), "+"))
        cells.append(line)
    return ["loss", "n", *names], cells


def _rows(results: Sequence[Result]) -> list[Row]:
    present = {result.row for result in results}
    return [row for row in ROWS.values() if row in present]


def _values(results: Sequence[Result], row: Row, name: str) -> list[float]:
    return [result.values[name] for result in results if result.row == row]


def _cell(value: MeanInterval, sign: str) -> str:
    """Mean and half width as text; `sign` is what stands before a positive mean."""
    text = (sign if value.mean >= 0 else "") + number(value.mean)
    return text if np.isnan(value.half_width) else f"{text} ± {number(value.half_width)}"

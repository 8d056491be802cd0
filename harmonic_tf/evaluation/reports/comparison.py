"""A comparison as tables, a picture and JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonic_tf.evaluation.metrics.summary import write_metrics
from harmonic_tf.evaluation.statistics.comparison import METRICS
from harmonic_tf.files import replacing, write_text
from harmonic_tf.tables import Rows, markdown_table, markdown_text, number, text_table

_MORE_IS_BETTER = {"AP", "AP75", "pearson"}
_LABELS = {
    "mean_abs_gap": "mean |score - IoU|",
    "pearson": "Pearson correlation",
    "confident_misplaced": "confident but misplaced",
    "cost": "AP_oracle - AP",
}
_COLORS = {"better": "tab:green", "worse": "tab:red", "open": "gray"}
_HOW_TO_READ = """\
- **B - A**: how B differs from A.
- **Over pictures**: its 95% interval for these very detectors on other pictures like these, by
  {resamples:,} draws of {pictures:,} pictures with replacement, the same for both sides.
- **Over trainings**: its 95% interval for other trainings like these on these very pictures, by
  Welch's t. A dash: a side has one training alone, and chance in training is not accounted for.
- **±**: half the 95% interval of a side's mean over its trainings.
- **Verdict**: better or worse where 0 is outside of every interval that is known, else open."""
_WHAT_IS_MEASURED = """\
AP and AP75 are COCO's. Mean |score - IoU|, Pearson's correlation of score and IoU and the share of
confident detections (score >= 0.5) that are misplaced (IoU < 0.5) are over all detections, IoU with
the best object of the class. AP_oracle - AP is what it costs to rank by score and not by true IoU.
Of AP, AP75 and the correlation more is better, of the others less."""


def comparison_table(result: Mapping) -> str:
    """The comparison as aligned plain text, for the terminal.

    Args:
        result: as `compare` returns it.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    return text_table(*_table(result))


def write_comparison(
    folder: str, result: Mapping, names_a: Sequence[str], names_b: Sequence[str], data: str
) -> None:
    """Writes comparison.json, comparison.md and comparison.png, each atomically.

    Args:
        folder: where to; it exists.
        result: as `compare` returns it.
        names_a: what side A's detectors are called, such as their folders.
        names_b: the same of side B.
        data: what the pictures are called.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    named = {"data": data, "a": list(names_a), "b": list(names_b), **result}
    write_metrics(os.path.join(folder, "comparison.json"), named)
    blocks = [
        f"# Comparison on {markdown_text(data)}",
        "\n".join(
            f"- {side}: {', '.join(map(markdown_text, names))}"
            for side, names in (("A", names_a), ("B", names_b))
        ),
        markdown_table(*_table(result)),
        _HOW_TO_READ.format(**result),
        _WHAT_IS_MEASURED,
        "![Differences and their intervals](comparison.png)",
    ]
    write_text(os.path.join(folder, "comparison.md"), "\n\n".join(blocks) + "\n")
    comparison_plot(os.path.join(folder, "comparison.png"), result)


def comparison_plot(path: str, result: Mapping) -> None:
    """Draws each difference with its intervals as PNG, atomically.

    Args:
        path: file to write; its folder exists.
        result: as `compare` returns it.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    figure = Figure(figsize=(8, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(METRICS):
        metric = result["metrics"][name]
        color = _COLORS[verdict(name, metric)]
        axes.plot(metric["over_pictures"], (place, place), color=color, linewidth=6, alpha=0.4)
        axes.plot(metric["over_trainings"], (place, place), color=color, linewidth=1.5)
        axes.plot(metric["difference"], place, "D", color=color, markersize=6)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(METRICS)), [_label(name, _sign(name)) for name in METRICS])
    axes.set_ylim(len(METRICS) - 0.5, -0.5)
    axes.set_xlabel("B - A; thick: 95% over pictures, thin: 95% over trainings")
    axes.set_title("green: B is better, red: B is worse, gray: open", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")


def verdict(name: str, metric: Mapping) -> str:
    """Whether B is "better" or "worse" than A with 0 outside of all known intervals, or "open".

    Args:
        name: of the metric, one of `METRICS`.
        metric: its entry in what `compare` returns.
    """
    intervals = (metric["over_pictures"], metric["over_trainings"])
    known = [ends for ends in intervals if not any(map(math.isnan, ends))]
    if not known or any(low <= 0 <= high for low, high in known):
        return "open"
    return "better" if (metric["difference"] > 0) == (name in _MORE_IS_BETTER) else "worse"


def _table(result: Mapping) -> tuple[list[str], Rows]:
    rows = [
        [
            _label(name),
            *(_side(metric[side]) for side in ("a", "b")),
            _signed(metric["difference"]),
            *(_interval(metric[ends]) for ends in ("over_pictures", "over_trainings")),
            verdict(name, metric),
        ]
        for name, metric in result["metrics"].items()
    ]
    return ["", "A", "B", "B - A", "over pictures", "over trainings", "verdict"], rows


def _label(name: str, sign: str = "") -> str:
    return _LABELS.get(name, name) + sign


def _sign(name: str) -> str:
    return " ↑" if name in _MORE_IS_BETTER else " ↓"


def _side(side: Mapping) -> str:
    mean, half_width = number(side["mean"]), side["half_width"]
    return mean if math.isnan(half_width) else f"{mean} ± {number(half_width)}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "") + number(value)


def _interval(ends: Sequence[float]) -> str:
    return "-" if any(map(math.isnan, ends)) else f"{_signed(ends[0])} to {_signed(ends[1])}"

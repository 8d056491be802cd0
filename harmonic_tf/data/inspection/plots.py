"""Pictures of a data set: a contact sheet with boxes, sizes of the boxes, boxes per class."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harmonic_tf.colors import class_colors
from harmonic_tf.data.inspection.findings import Findings
from harmonic_tf.data.inspection.sheet import contact_sheet
from harmonic_tf.data.inspection.style import DPI, fonts, save, shortened
from harmonic_tf.data.inspection.survey import SIZE_LIMITS, size_groups, size_of
from harmonic_tf.tables import share

_BARS = 100  # classes in the histogram; of more, the most and the least frequent
_MATCHED, _MISSED = "tab:blue", "tab:red"
_MARKS = ("black", "tab:green")


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
        with fonts():
            plot(findings, os.path.join(folder, name))
    return {caption: name for caption, (name, _) in figures.items()}


def size_histogram(findings: Findings, path: str) -> None:
    """Plots the boxes' sizes at the model's input, what matches and what does not, and marks.

    Args:
        findings: of which data set.
        path: PNG file to write.
    """
    sizes, fit = size_of(findings.objects.seen), findings.fit
    low, high = sizes.min(initial=8.0), sizes.max(initial=findings.image_size)
    bins = np.geomspace(low / 1.05, high * 1.05, 61)
    figure = Figure(figsize=(10, 5), dpi=DPI, layout="constrained")
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
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
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
    groups = np.bincount(size_groups(findings.objects.seen), minlength=len(SIZE_LIMITS))
    edges = [*SIZE_LIMITS.values(), np.inf]
    for name, count, start, end in zip(SIZE_LIMITS, groups, edges, edges[1:]):
        start, end = np.clip([start, end], bins[0], bins[-1])
        if start > bins[0]:
            axes.axvline(start, color="gray", linewidth=0.8, linestyle=":")
        if end > start:
            axes.text(
                np.sqrt(start * end),
                1.01,
                f"{name} {share(count, len(sizes))}",
                color="gray",
                ha="center",
                va="bottom",
                transform=axes.get_xaxis_transform(),
            )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False)
    save(figure, path)


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
    figure = Figure(figsize=(10, 1.2 + 0.24 * len(order)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(np.arange(len(order)), counts[order], color=[colors[i] for i in order], height=0.75)
    uneven = counts.max() > 100 * max(counts.min(), 1)
    if uneven:
        axes.set_xscale("log")
        axes.set_xlim(0.8, counts.max() * 2)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    axes.set_yticklabels([shortened(names[i], 32) for i in order], parse_math=False)
    axes.set(ylim=(len(order) - 0.4, -0.6), title=title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("boxes, logarithmic" if uneven else "boxes")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)

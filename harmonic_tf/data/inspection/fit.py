"""How a detector's anchors or cells fit the objects of a data set, and what would fit better."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from harmonic_tf.anchors import AnchorGrid, best_iou, cells_inside, suggest_grid
from harmonic_tf.data.inspection.survey import SIZE_LIMITS, Objects, size_groups
from harmonic_tf.tables import markdown_table, share

_Cell = Callable[[np.ndarray], str]  # of a table: what to say of some rows of the objects
_THRESHOLDS = (0.4, 0.5, 0.6, 0.7)


@dataclasses.dataclass(frozen=True)
class AnchorFit:
    """How anchors overlap the objects.

    Args:
        grid: the anchors asked about.
        suggested: those that would fit better; `grid` itself where none are found.
        positive_iou: overlap from which an anchor learns an object.
        overlaps: float [N], best IoU of each object with an anchor of `grid`.
        suggested_overlaps: float [N], with one of `suggested`.
    """

    grid: AnchorGrid
    suggested: AnchorGrid
    positive_iou: float
    overlaps: np.ndarray
    suggested_overlaps: np.ndarray

    @classmethod
    def measure(
        cls, grid: AnchorGrid, objects: Objects, image_size: int, positive_iou: float
    ) -> AnchorFit:
        """Measures the grid and searches for a better one, at the size that the model sees."""
        size = (image_size, image_size)
        suggested = suggest_grid(grid, objects.seen, *size, positive_iou)
        overlaps = [best_iou(g, objects.seen, *size) for g in (grid, suggested)]
        return cls(grid, suggested, positive_iou, *overlaps)

    @property
    def matched(self) -> np.ndarray:
        """Bool [N], which objects an anchor matches."""
        return self.overlaps >= self.positive_iou

    @property
    def match(self) -> str:
        """What matching means, in words."""
        return f"best anchor's IoU \u2265 {self.positive_iou:g}"

    @property
    def marks(self) -> Mapping[str, Sequence[float]]:
        """Sizes to be marked on a histogram, pixels."""
        marks = {"anchors": _anchor_sizes(self.grid)}
        if self.suggested != self.grid:
            marks["suggested anchors"] = _anchor_sizes(self.suggested)
        return marks

    def headlines(self) -> list[str]:
        """The result in a line or two."""
        matched = _measured(self.overlaps, self.positive_iou)
        lines = [f"Anchors match {matched}: {anchor_flags(self.grid)}"]
        if self.suggested == self.grid:
            return [*lines, "As many anchors that fit clearly better were not found"]
        better = _measured(self.suggested_overlaps, self.positive_iou)
        return [*lines, f"Better: {better}: {anchor_flags(self.suggested)}"]

    def section(self, objects: Objects, class_names: Sequence[str]) -> list[str]:
        """The blocks of the report."""
        grids = {"now": (self.grid, self.overlaps)}
        if self.suggested != self.grid:
            grids["suggested"] = (self.suggested, self.suggested_overlaps)
        every = [overlaps for _, overlaps in grids.values()]

        def shares(*levels: float) -> dict[str, _Cell]:
            return {
                f"IoU \u2265 {level:g}": _joined(_share_of(overlaps >= level) for overlaps in every)
                for level in levels
            }

        thresholds = sorted({self.positive_iou, *_THRESHOLDS})
        means = {"mean IoU": _joined(map(_mean_of, every))}
        arrow = ", now \u2192 as suggested" if len(grids) > 1 else ""
        flags = "\n".join(f"# {name}\n{anchor_flags(grid)}" for name, (grid, _) in grids.items())
        return [
            "## Anchors",
            "Share of the boxes whose best anchor overlaps them so much, in pixels that the model "
            f"sees{arrow}. An anchor learns an "
            f"object from an IoU of {self.positive_iou:g} on; an object that no anchor matches so "
            "well is learned by the best one alone.",
            f"```\n{flags}\n```",
            _by_size(objects, {**shares(*thresholds), **means}),
            _by_class(objects, class_names, {**shares(self.positive_iou), **means}),
        ]


@dataclasses.dataclass(frozen=True)
class CellFit:
    """Which objects hold centres of cells, for a detector without anchors.

    Args:
        strides: distance between cells of each level, pixels.
        counts: int [N, L], centres of each level inside of each object.
    """

    strides: Sequence[int]
    counts: np.ndarray

    @classmethod
    def measure(cls, strides: Sequence[int], objects: Objects, image_size: int) -> CellFit:
        """Counts the cells, at the size that the model sees."""
        return cls(strides, cells_inside(strides, objects.seen, image_size, image_size))

    @property
    def matched(self) -> np.ndarray:
        """Bool [N], which objects hold the centre of a cell."""
        return self.counts.any(axis=1)

    @property
    def match(self) -> str:
        """What matching means, in words."""
        return "holds the centre of a cell"

    @property
    def marks(self) -> Mapping[str, Sequence[float]]:
        """Sizes to be marked on a histogram, pixels."""
        return {"strides": self.strides}

    def headlines(self) -> list[str]:
        """The result in a line."""
        held = share(np.count_nonzero(self.matched), len(self.matched))
        without = len(self.matched) - np.count_nonzero(self.matched)
        strides = ", ".join(map(str, self.strides))
        return [
            f"{held} of the boxes hold the centre of a cell (strides {strides}), {without} none"
        ]

    def section(self, objects: Objects, class_names: Sequence[str]) -> list[str]:
        """The blocks of the report."""
        columns = {
            f"stride {stride}": _share_of(self.counts[:, level] > 0)
            for level, stride in enumerate(self.strides)
        }
        columns["any"] = _share_of(self.matched)
        return [
            "## Cells",
            "Share of the boxes that hold the centre of at least one cell, in pixels that the "
            "model sees. Only such cells learn an object: one without any is never learned.",
            _by_size(objects, columns),
            _by_class(objects, class_names, columns),
        ]


def _share_of(flags: np.ndarray) -> _Cell:
    return lambda rows: share(np.count_nonzero(flags[rows]), len(rows))


def _mean_of(values: np.ndarray) -> _Cell:
    return lambda rows: f"{values[rows].mean():.3f}" if len(rows) else "-"


def _joined(cells: Iterable[_Cell]) -> _Cell:
    cells = list(cells)
    return lambda rows: " \u2192 ".join(cell(rows) for cell in cells)


def _by_size(objects: Objects, columns: Mapping[str, _Cell]) -> str:
    groups = size_groups(objects.seen)
    rows = {"all": np.arange(len(groups))}
    rows.update((name, np.flatnonzero(groups == i)) for i, name in enumerate(SIZE_LIMITS))
    return _table("size", rows, columns)


def _by_class(objects: Objects, class_names: Sequence[str], columns: Mapping[str, _Cell]) -> str:
    rows = {name: np.flatnonzero(objects.classes == i) for i, name in enumerate(class_names)}
    return _table("class", rows, columns)


def _table(title: str, groups: Mapping[str, np.ndarray], columns: Mapping[str, _Cell]) -> str:
    cells = [
        (name, len(rows), *(column(rows) for column in columns.values()))
        for name, rows in groups.items()
    ]
    return markdown_table([title, "boxes", *columns], cells)


def _measured(overlaps: np.ndarray, positive_iou: float) -> str:
    every = np.arange(len(overlaps))
    held, mean = _share_of(overlaps >= positive_iou)(every), _mean_of(overlaps)(every)
    return f"{held} of the boxes at IoU \u2265 {positive_iou:g} (mean best IoU {mean})"


def anchor_flags(grid: AnchorGrid) -> str:
    """A grid as flags of `train`."""
    values = {"sizes": grid.sizes, "scales": grid.scales, "ratios": grid.aspect_ratios}
    return " ".join(f"--anchor_{k}={','.join(f'{v:.4g}' for v in vs)}" for k, vs in values.items())


def _anchor_sizes(grid: AnchorGrid) -> list[float]:
    return sorted({size * scale for size in grid.sizes for scale in grid.scales})

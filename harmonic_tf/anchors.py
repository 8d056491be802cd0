"""Anchor geometry: the grid of reference boxes that a dense detector predicts against.

And how well such a grid covers the boxes of a data set: `best_iou`, `cells_inside`, `suggest_grid`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class AnchorGrid:
    """Anchors of every cell of every pyramid level.

    Args:
        strides: distance between cells of each level, pixels, finest first.
        sizes: side of the square anchor of each level, pixels; one per stride.
        scales: multipliers of the size, several per octave.
        aspect_ratios: width / height of the anchors, area kept.

    Raises:
        ValueError: when the lists do not fit together or hold values that are not positive.

    Source: Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002, section 4.
    """

    strides: Sequence[int] = (8, 16, 32, 64, 128)
    sizes: Sequence[float] = (32.0, 64.0, 128.0, 256.0, 512.0)
    scales: Sequence[float] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            values = tuple(getattr(self, field.name))
            object.__setattr__(self, field.name, values)
            if not values or not all(v > 0 for v in values):
                raise ValueError(
                    f"AnchorGrid: {field.name} must be one or more positive numbers, got {values}."
                )
        if len(self.strides) != len(self.sizes):
            raise ValueError(
                f"AnchorGrid: one size per stride is needed, got sizes={self.sizes} "
                f"for strides={self.strides}."
            )

    @property
    def per_cell(self) -> int:
        """How many anchors each cell has."""
        return len(self.scales) * len(self.aspect_ratios)

    def boxes(self, height: int, width: int) -> np.ndarray:
        """All anchors of a picture.

        Args:
            height: picture height, pixels.
            width: picture width, pixels.

        Returns:
            Float32 [A, 4], xyxy, pixels, not clipped: level by level, row by row, cell by cell,
            then scale by scale and ratio by ratio, the order in which heads predict.
        """
        return np.concatenate(
            [
                self._level(stride, size, height, width)
                for stride, size in zip(self.strides, self.sizes)
            ]
        )

    def shapes(self, size: float) -> np.ndarray:
        """Width and height of the anchors of a level, pixels: float64 [per_cell, 2]."""
        return np.array(
            [
                (size * scale * math.sqrt(ratio), size * scale / math.sqrt(ratio))
                for scale in self.scales
                for ratio in self.aspect_ratios
            ]
        )

    def _level(self, stride: int, size: float, height: int, width: int) -> np.ndarray:
        sides = self.shapes(size)
        y = (np.arange(math.ceil(height / stride)) + 0.5) * stride
        x = (np.arange(math.ceil(width / stride)) + 0.5) * stride
        centers = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
        corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=-1)
        return corners.reshape(-1, 4).astype(np.float32)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain lists, for saving."""
        return {key: list(value) for key, value in dataclasses.asdict(self).items()}


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, in float64.

    Args:
        a: [..., 4], xyxy, pixels; area > 0.
        b: [..., 4], of a shape that broadcasts with that of `a`.

    Returns:
        float64 [...], in [0, 1].
    """
    a, b = (np.moveaxis(np.asarray(boxes, np.float64), -1, 0) for boxes in (a, b))
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    areas = ((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))
    return intersection / (sum(areas) - intersection)


def best_iou(grid: AnchorGrid, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """How well each box is covered by the anchor that overlaps it most.

    Of equal anchors the one whose centre is nearest in x and in y overlaps a box most, so one
    anchor of each level, scale and ratio is looked at per box; the grid is never laid out.

    Args:
        grid: the anchors.
        boxes: [N, 4], xyxy, pixels; area > 0.
        height: picture height, pixels.
        width: picture width, pixels.

    Returns:
        float64 [N], the greatest IoU with any of `grid.boxes(height, width)`.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    best = np.zeros(len(boxes))
    for stride, size in zip(grid.strides, grid.sizes):
        last = np.ceil([width / stride, height / stride]) - 1
        nearest = (np.clip(np.rint(centers / stride - 0.5), 0, last) + 0.5) * stride
        for shape in grid.shapes(size):
            anchors = np.concatenate([nearest - shape / 2, nearest + shape / 2], axis=-1)
            np.maximum(best, iou(boxes, anchors), out=best)
    return best


def cells_inside(strides: Sequence[int], boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """How many cells have their centre inside of each box, its border excluded.

    A detector without anchors learns a box in such cells alone.

    Args:
        strides: distance between cells of each level, pixels.
        boxes: [N, 4], xyxy, pixels.
        height: picture height, pixels.
        width: picture width, pixels.

    Returns:
        int64 [N, L], one column per level.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    counts = []
    for stride in strides:
        last = np.ceil([width / stride, height / stride]) - 1
        low = np.maximum(np.floor(boxes[:, :2] / stride - 0.5) + 1, 0)
        high = np.minimum(np.ceil(boxes[:, 2:] / stride - 0.5) - 1, last)
        counts.append(np.prod(np.maximum(high - low + 1, 0), axis=-1))
    return np.stack(counts, axis=-1).astype(np.int64)


_OCTAVE_STEPS = np.exp2(np.arange(-4, 13) / 4)  # finest size in its stride: a half to eight
_SPACINGS = (2**0.5, 2**0.75, 2.0)  # from one level to the next; strides double
_SCALE_STEPS = (2 ** (1 / 3), 2**0.5, 2**0.75, 2.0)
_RATIO_STEPS = (1.25, 2**0.5, 1.7, 2.0, 2.5, 3.0)
_SEARCHED_BOXES = 2000  # their share matched is that of all to a percent: sqrt(.25 / 2000) = .011
_ROUNDS = 3
_WORTHWHILE = (1, 0.02)  # gains in percent matched and in mean IoU; what has neither is no gain


def suggest_grid(
    grid: AnchorGrid, boxes: np.ndarray, height: int, width: int, positive_iou: float = 0.5
) -> AnchorGrid:
    """Searches for sizes, scales and ratios that cover boxes better, at the same cost.

    Sizes, scales and ratios are geometric progressions each. Tried in turn, until nothing improves,
    are where sizes start and how sizes and scales are spaced, and where the ratios' centre is (1 or
    the boxes' median) and how they are spaced. The best is what matches the greatest share of the
    boxes, to the percent, and of equals what has the greatest mean IoU.
    What gains neither a percent of the boxes nor 0.02 in mean IoU is not worth a change.

    Args:
        grid: where to start. Strides and the numbers of scales and ratios are kept.
        boxes: [N, 4], xyxy, pixels; area > 0. A few thousand of them, drawn evenly, are looked at.
        height: picture height, pixels.
        width: picture width, pixels.
        positive_iou: overlap from which an anchor matches, in [0, 1].

    Returns:
        A grid of numbers with three digits; `grid` itself where nothing is clearly better.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not len(boxes):
        return grid
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _SEARCHED_BOXES)).astype(int)]
    sides = boxes[:, 2:] - boxes[:, :2]
    median_ratio = float(np.median(sides[:, 0] / sides[:, 1]))

    def quality(candidate: AnchorGrid) -> tuple[int, float]:
        overlaps = best_iou(candidate, boxes, height, width)
        return round(100 * np.mean(overlaps >= positive_iou)), float(np.mean(overlaps))

    levels, scales, ratios = (len(v) for v in (grid.sizes, grid.scales, grid.aspect_ratios))
    size_choices = [
        {
            "sizes": _progression(grid.strides[0] * start, spacing, levels),
            "scales": _progression(1.0, step, scales),
        }
        for start in _OCTAVE_STEPS
        for spacing in _SPACINGS
        for step in _SCALE_STEPS
    ]
    ratio_choices = [
        {"aspect_ratios": _progression(center * step ** ((1 - ratios) / 2), step, ratios)}
        for center in (1.0, median_ratio)
        for step in _RATIO_STEPS
    ]
    start_quality = quality(grid)
    best, best_quality = grid, start_quality
    for _ in range(_ROUNDS):
        before = best
        for choices in (size_choices, ratio_choices):
            for choice in choices:
                candidate = dataclasses.replace(best, **choice)
                candidate_quality = quality(candidate)
                if candidate_quality > best_quality:
                    best, best_quality = candidate, candidate_quality
        if best == before:
            break
    gains = np.subtract(best_quality, start_quality)
    return best if np.any(gains >= _WORTHWHILE) else grid


def _progression(first: float, factor: float, count: int) -> tuple[float, ...]:
    """Geometric, each number rounded to three digits."""
    return tuple(float(f"{first * factor**i:.3g}") for i in range(count))

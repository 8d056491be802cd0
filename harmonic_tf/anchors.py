"""Anchor geometry: the grid of reference boxes that a dense detector predicts against."""

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

    def _level(self, stride: int, size: float, height: int, width: int) -> np.ndarray:
        sides = np.array(
            [
                (size * scale * math.sqrt(ratio), size * scale / math.sqrt(ratio))
                for scale in self.scales
                for ratio in self.aspect_ratios
            ]
        )
        y = (np.arange(math.ceil(height / stride)) + 0.5) * stride
        x = (np.arange(math.ceil(width / stride)) + 0.5) * stride
        centers = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
        corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=-1)
        return corners.reshape(-1, 4).astype(np.float32)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain lists, for saving."""
        return {key: list(value) for key, value in dataclasses.asdict(self).items()}

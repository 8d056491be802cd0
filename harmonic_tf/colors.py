"""Colours that tell classes apart, in every picture alike."""

from __future__ import annotations

import matplotlib
import numpy as np

Color = tuple[float, float, float]


def class_colors(count: int) -> list[Color]:
    """Colours that tell classes apart: the usual ten, or evenly spaced hues when there are more.

    Args:
        count: number of classes.

    Returns:
        RGB in [0, 1], one per class.
    """
    if count <= 10:
        return list(matplotlib.colormaps["tab10"].colors[:count])
    # Neighbouring classes get distant hues: a step of the golden ratio around the circle.
    hues = np.arange(count) * 0.618034 % 1
    return [tuple(color[:3]) for color in matplotlib.colormaps["hsv"](hues).tolist()]

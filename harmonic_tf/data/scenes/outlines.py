"""Outlines of irregular objects: concave, thin, ring-like; what the scenes are made of.

Every outline is a polygon around the origin, of any size: the caller scales and turns it.
"""

from __future__ import annotations

import math
from typing import Callable, Optional

import numpy as np

Outline = tuple[np.ndarray, Optional[np.ndarray]]  # the rim and the hole, if there is one


def _arc(start: float, stop: float, points: int, radius: float = 1.0) -> np.ndarray:
    """Points [points, 2] of a circle around the origin between two angles in radians."""
    angle = np.linspace(start, stop, points)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def blob(rng: np.random.Generator) -> Outline:
    """A smooth lump: a circle whose radius is a sum of a few waves."""
    angle = np.linspace(0.0, 2.0 * math.pi, 64, endpoint=False)
    radius = np.ones_like(angle)
    for waves in (2, 3, 4):
        radius += rng.uniform(0.08, 0.16) * np.cos(waves * angle + rng.uniform(0, 2 * math.pi))
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1), None


def boomerang(rng: np.random.Generator) -> Outline:
    """A thin bent stroke: a quadratic Bezier curve with a width that tapers to its ends."""
    t = np.linspace(0.0, 1.0, 24)[:, None]
    start, bend, end = np.array([-0.9, 0.8]), np.array([0.0, -2.4]), np.array([0.9, 0.8])
    bend[0] = rng.uniform(-0.3, 0.3)
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    tangent = (1 - t) * (bend - start) + t * (end - bend)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    side = rng.uniform(0.16, 0.22) * (0.45 + 0.55 * np.sin(math.pi * t)) * normal
    return np.concatenate([curve + side, (curve - side)[::-1]]), None


def crescent(rng: np.random.Generator) -> Outline:
    """A disc of radius 1 without a smaller disc that sticks out of it."""
    bite, offset = rng.uniform(0.72, 0.82), rng.uniform(0.5, 0.6)
    # Where the two circles meet: x^2 + y^2 = 1 and (x - offset)^2 + y^2 = bite^2.
    x = (1 - bite**2 + offset**2) / (2 * offset)
    y = math.sqrt(1 - x**2)
    outer = math.atan2(y, x)
    inner = math.atan2(y, x - offset)
    back = _arc(outer, 2 * math.pi - outer, 40)
    front = np.array([offset, 0.0]) + _arc(2 * math.pi - inner, inner, 32, radius=bite)
    return np.concatenate([back, front]), None


def cross(rng: np.random.Generator) -> Outline:
    """Two bars at right angles."""
    w = rng.uniform(0.24, 0.34)
    arm = np.array([[w, w], [w, 1.0], [-w, 1.0]])
    turns = (np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)))
    return np.concatenate([arm @ turn.T for turn in turns]), None


def ring(rng: np.random.Generator) -> Outline:
    """A disc with a hole in its middle."""
    hole = rng.uniform(0.5, 0.65)
    rim = _arc(0.0, 2 * math.pi, 64)
    return rim, hole * rim


def star(rng: np.random.Generator) -> Outline:
    """Five pointed arms."""
    points = _arc(0.0, 2 * math.pi, 11)[:-1]
    points[1::2] *= rng.uniform(0.4, 0.5)
    return points, None


OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "blob": blob,
    "boomerang": boomerang,
    "crescent": crescent,
    "cross": cross,
    "ring": ring,
    "star": star,
}

"""Draws one scene: textured background, shaded objects one over the other, and what is where."""

from __future__ import annotations

import colorsys
import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from harmonic_tf.data.scenes.outlines import OUTLINES

CLASS_NAMES = tuple(OUTLINES)

MIN_VISIBLE = 0.35
"""No object is hidden or cut off more than this: whatever is annotated can be found."""

_OBJECTS = (2, 5)  # how many objects a picture is meant to hold
_SIZES = (0.25, 0.55)  # longer side of an object's box as a part of the picture's shorter side
_CLEARANCE = 0.35  # an object's centre keeps this part of its size from the border
_TRIES = 10  # placements tried for an object before it is left out
_SUPERSAMPLING = 4  # sub-pixels per pixel and axis when an outline is filled
_MARGIN = 8  # pixels around an object's outline, room for its shadow


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Args:
        category: index into `CLASS_NAMES`.
        bbox: x, y, width, height in pixels: the tight box of the object's part within the
            picture, what other objects hide of it included.
        area: of that same part, pixels.
        occlusion: visible fraction of the whole object, in [MIN_VISIBLE, 1]: 1 is fully visible,
            less is hidden by other objects or cut off by the border.
    """

    category: int
    bbox: tuple[float, float, float, float]
    area: float
    occlusion: float

    @property
    def irregularity(self) -> float:
        """1 - area / box area: 0 for an upright rectangle, near 1 for a thin bent stroke."""
        return 1.0 - self.area / (self.bbox[2] * self.bbox[3])


def draw_scene(
    seed: int, index: int, image_size: tuple[int, int]
) -> tuple[np.ndarray, list[SceneObject]]:
    """Draws one picture, which depends on the arguments alone.

    Args:
        seed: of the data set, >= 0.
        index: of the picture in it, >= 0.
        image_size: height and width, pixels.

    Returns:
        The picture, uint8 [H, W, 3], and its objects from the backmost to the foremost.
    """
    rng = np.random.default_rng([seed, index])
    angle = rng.uniform(0.0, 2.0 * math.pi)
    light = np.array([math.cos(angle), math.sin(angle)])
    colours = [_random_colour(rng, saturation=(0.05, 0.45), value=(0.2, 0.8))]
    picture = _fill(rng, image_size, colours[0], contrast=0.12)

    shapes: list[_Shape] = []
    visible: list[np.ndarray] = []
    for _ in range(rng.integers(_OBJECTS[0], _OBJECTS[1], endpoint=True)):
        category = int(rng.integers(len(CLASS_NAMES)))
        for _ in range(_TRIES):
            shape = _random_shape(rng, category, image_size)
            mask = shape.mask(image_size)
            left = [*(seen & ~mask for seen in visible), mask]
            if all(s.fraction(seen) >= MIN_VISIBLE for s, seen in zip([*shapes, shape], left)):
                shapes, visible = [*shapes, shape], left
                colours.append(_contrasting_colour(rng, colours))
                _paint(rng, picture, shape, colours[-1], light)
                break
    picture += rng.normal(0.0, 0.012, picture.shape[:2])[..., None].astype(np.float32)
    objects = [s.annotation(image_size, seen) for s, seen in zip(shapes, visible)]
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), objects


@dataclasses.dataclass(frozen=True)
class _Shape:
    """A filled outline in its own window, which may reach beyond the picture.

    Args:
        category: index into `CLASS_NAMES`.
        subpixels: bool [h * _SUPERSAMPLING, w * _SUPERSAMPLING].
        coverage: float32 [h, w], which part of each pixel is covered.
        left, top: the window's first pixel in the picture.
    """

    category: int
    subpixels: np.ndarray
    coverage: np.ndarray
    left: int
    top: int

    def windows(self, image_size: tuple[int, int]) -> tuple[tuple[slice, slice], ...]:
        """The part that lies in the picture: slices of the picture, slices of the window."""
        in_picture, in_window = [], []
        starts = (self.top, self.left)
        for start, length, limit in zip(starts, self.coverage.shape, image_size):
            first, last = max(start, 0), min(start + length, limit)
            in_picture.append(slice(first, last))
            in_window.append(slice(first - start, last - start))
        return tuple(in_picture), tuple(in_window)

    def mask(self, image_size: tuple[int, int]) -> np.ndarray:
        """Bool [H, W]: the picture's pixels that are at least half covered."""
        in_picture, in_window = self.windows(image_size)
        mask = np.zeros(image_size, bool)
        mask[in_picture] = self.coverage[in_window] >= 0.5
        return mask

    def fraction(self, visible: np.ndarray) -> float:
        """Which part of the whole object the visible pixels, bool [H, W], are."""
        return float(np.count_nonzero(visible) / np.count_nonzero(self.coverage >= 0.5))

    def annotation(self, image_size: tuple[int, int], visible: np.ndarray) -> SceneObject:
        """What is to be known of the object, measured on sub-pixels."""
        in_picture, in_window = self.windows(image_size)
        scale = _SUPERSAMPLING
        inside = self.subpixels[
            tuple(slice(part.start * scale, part.stop * scale) for part in in_window)
        ]
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        return SceneObject(
            category=self.category,
            bbox=(
                in_picture[1].start + columns[0] / scale,
                in_picture[0].start + rows[0] / scale,
                (columns[-1] + 1 - columns[0]) / scale,
                (rows[-1] + 1 - rows[0]) / scale,
            ),
            area=np.count_nonzero(inside) / scale**2,
            occlusion=self.fraction(visible),
        )


def _random_shape(rng: np.random.Generator, category: int, image_size: tuple[int, int]) -> _Shape:
    """Turns, squeezes, scales and places an outline of the class."""
    rim, hole = OUTLINES[CLASS_NAMES[category]](rng)
    turn = rng.uniform(0.0, 2.0 * math.pi)
    squeeze = rng.uniform(0.75, 1.0)
    cos, sin = math.cos(turn), math.sin(turn)
    transform = np.array([[cos, -sin], [sin, cos]]) * [1.0, squeeze]
    rim = rim @ transform.T
    low, high = rim.min(axis=0), rim.max(axis=0)
    size = rng.uniform(*_SIZES) * min(image_size)
    scale = size / (high - low).max()
    room = np.array(image_size[::-1]) - 2 * _CLEARANCE * size
    centre = _CLEARANCE * size + rng.uniform(size=2) * room

    corner = np.floor(centre - scale * (high - low) / 2).astype(int) - _MARGIN
    window = np.ceil(scale * (high - low)).astype(int) + 2 * _MARGIN + 1
    image = Image.new("L", tuple((window * _SUPERSAMPLING).tolist()))
    for polygon, value in ((rim, 255), (None if hole is None else hole @ transform.T, 0)):
        if polygon is not None:
            points = (polygon - (low + high) / 2) * scale + centre - corner
            points = points * _SUPERSAMPLING - 0.5  # Pillow counts from pixels' centres
            ImageDraw.Draw(image).polygon(points.ravel().tolist(), fill=value)
    return _Shape(
        category=category,
        subpixels=np.asarray(image) > 0,
        coverage=np.asarray(image.reduce(_SUPERSAMPLING), np.float32) / 255.0,
        left=int(corner[0]),
        top=int(corner[1]),
    )


def _paint(
    rng: np.random.Generator,
    picture: np.ndarray,
    shape: _Shape,
    colour: np.ndarray,
    light: np.ndarray,
) -> None:
    """Paints a shape with texture, relief and shadow onto the picture, float32 [H, W, 3]."""
    in_picture, in_window = shape.windows(picture.shape[:2])
    image = Image.fromarray((shape.coverage * 255.0 + 0.5).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(2)), np.float32) / 255.0

    def moved(distance: float) -> np.ndarray:
        x, y = np.rint(distance * light).astype(int)
        return np.roll(soft, (y, x), axis=(0, 1))  # wraps around within the empty margin

    relief = 0.3 * (moved(2.0) - moved(-2.0))
    fill = _fill(rng, shape.coverage.shape, colour, contrast=0.15) + relief[..., None]
    shade = 1.0 - 0.5 * moved(3.0)
    cover = shape.coverage[in_window][..., None]
    target = picture[in_picture]
    target *= shade[in_window][..., None]
    target += cover * (fill[in_window] - target)


def _fill(
    rng: np.random.Generator, size: tuple[int, int], colour: np.ndarray, contrast: float
) -> np.ndarray:
    """A textured surface, float32 [h, w, 3]: cloudy, and mostly striped, checked or grainy."""
    height, width = size
    surface = 0.6 * _noise(rng, size, cell=rng.uniform(16.0, 40.0))
    pattern = rng.integers(4)
    if pattern == 1:
        surface += _noise(rng, size, cell=rng.uniform(2.0, 4.0))
    elif pattern > 1:
        turn, period = rng.uniform(0.0, math.pi), rng.uniform(5.0, 14.0)
        y = np.arange(height, dtype=np.float32)[:, None] * np.float32(2.0 * math.pi / period)
        x = np.arange(width, dtype=np.float32)[None, :] * np.float32(2.0 * math.pi / period)
        waves = np.sin(x * np.float32(math.cos(turn)) + y * np.float32(math.sin(turn)))
        if pattern == 3:
            waves *= np.sin(y * np.float32(math.cos(turn)) - x * np.float32(math.sin(turn)))
        surface += 0.7 * waves
    tint = rng.uniform(0.6, 1.0, 3) * contrast
    return (colour + surface[..., None] * tint.astype(np.float32)).astype(np.float32)


def _noise(rng: np.random.Generator, size: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise, float32 [h, w], mostly in [-1, 1]; `cell` is its grain in pixels."""
    height, width = size
    grid = rng.uniform(-1.0, 1.0, (int(height / cell) + 2, int(width / cell) + 2))
    image = Image.fromarray(grid.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """Float32 [3], RGB in [0, 1]; the ranges are those of the HSV colour space."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb, np.float32)


def _contrasting_colour(rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """Of a few random colours the one that is farthest from all others."""
    few = [_random_colour(rng, saturation=(0.2, 0.9), value=(0.3, 1.0)) for _ in range(8)]
    return max(few, key=lambda c: min(float(np.linalg.norm(c - other)) for other in others))

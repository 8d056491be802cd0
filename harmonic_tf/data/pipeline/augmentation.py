"""How pictures are varied in training: which transforms, in which order, with what parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Union

from harmonic_tf.backend import tf
from harmonic_tf.data.pipeline import transforms
from harmonic_tf.data.pipeline.reading import Reader
from harmonic_tf.data.pipeline.transforms import Example
from harmonic_tf.data.pipeline.transforms.composition import COPIES, MOST_PASTED

Transform = Union[str, Callable[[Example, tf.Tensor], Example]]

TRANSFORMS = (
    "zoom_and_crop",
    "flip_horizontal",
    "flip_vertical",
    "jitter_colors",
    "rotate",
    "shear",
    "translate",
    "blur",
    "cutout",
    "paste_small_objects",
    "mixup",
    "mosaic",
)
"""The transforms that go by a name; see `harmonic_tf.data.pipeline.transforms` for each."""

USUAL_TRANSFORMS = TRANSFORMS[:4]

_PARTNERS = {"mosaic": 4, "mixup": 2}  # pictures that one is made of
_MIN_AREA_FRACTION = {"zoom_and_crop", "rotate", "shear", "translate", "cutout", "mosaic"}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How pictures are varied in training; see `harmonic_tf.data.pipeline.transforms` for each.

    Args:
        flip_probability: how often a picture is mirrored left to right, in [0, 1].
        vertical_flip_probability: how often it is mirrored top to bottom, in [0, 1].
        scale_range: least and greatest zoom of scale jitter, 0 < least <= greatest.
        min_area_fraction: share of its area that an object must keep, in [0, 1].
        brightness: largest shift, in levels of 0..255.
        contrast: largest relative change, in [0, 1].
        saturation: largest relative change, in [0, 1].
        hue: largest turn, degrees, in [0, 180].
        transforms: what is done, in order: names out of `TRANSFORMS`, or functions of an Example
            and a seed. They see the picture at the size it has in its letterbox, without the
            padding. `"zoom_and_crop"` comes first or not at all, for it decides what is decoded.
            What comes before `"mosaic"` or `"mixup"` happens to each of their pictures; those of a
            mosaic are half as large, their partners are drawn from the whole data set.

    Raises:
        ValueError: a value is out of its range, or a transform unknown or out of place.
    """

    flip_probability: float = 0.5
    vertical_flip_probability: float = 0.0
    scale_range: tuple[float, float] = (1.0, 1.5)
    min_area_fraction: float = 0.3
    brightness: float = 16.0
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 9.0
    transforms: Sequence[Transform] = USUAL_TRANSFORMS

    def __post_init__(self):
        greatest = {"brightness": 255.0, "hue": 180.0}
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), greatest.get(field.name, 1.0)
            if field.name == "scale_range":
                if not 0.0 < value[0] <= value[1]:
                    raise ValueError(f"scale_range = {value}: must be 0 < least <= greatest.")
            elif field.name != "transforms" and not 0.0 <= value <= limit:
                raise ValueError(f"{field.name} = {value}: must be between 0 and {limit:g}.")
        for transform in self.transforms:
            if not callable(transform) and transform not in TRANSFORMS:
                names = ", ".join(TRANSFORMS)
                raise ValueError(f"transforms: {transform!r} is unknown. Choose out of {names}.")
        if "zoom_and_crop" in self.transforms[1:]:
            raise ValueError("transforms: zoom_and_crop may only be the first, and only once.")

    def most_objects(self, count: int) -> int:
        """How many objects a picture may come to have when none has more than `count` before."""
        for transform in self.transforms:
            if transform == "paste_small_objects":
                count += min(COPIES * count, MOST_PASTED)
            count *= _PARTNERS.get(transform, 1)
        return count

    def parameters(self, transform: str) -> dict[str, object]:
        """What a named transform is called with, beside Examples, seed and size."""
        found = {
            "zoom_and_crop": {"scale_range": self.scale_range},
            "flip_horizontal": {"probability": self.flip_probability},
            "flip_vertical": {"probability": self.vertical_flip_probability},
            "jitter_colors": {
                "brightness": self.brightness,
                "contrast": self.contrast,
                "saturation": self.saturation,
                "hue": self.hue,
            },
        }.get(transform, {})
        if transform in _MIN_AREA_FRACTION:
            found["min_area_fraction"] = self.min_area_fraction
        return found


def augmented(
    reader: Reader, picture: tf.Tensor, size: int, seed: tf.Tensor, augmentation: Augmentation
) -> Example:
    """Reads and varies one picture.

    Args:
        reader: of the data set.
        picture: position in the data.
        size: side of the letterboxed picture, pixels.
        seed: int32 or int64 [2]; everything random follows from it.
        augmentation: what is done.

    Returns:
        An Example with an image float32 [h, w, 3], no side longer than `size`.
    """
    count = _seeds_needed(augmentation.transforms)
    seeds = iter(tf.unstack(tf.random.experimental.stateless_split(seed, count)) if count else ())
    return _chain(reader, picture, size, seeds, augmentation, augmentation.transforms)


def _seeds_needed(chain: Sequence[Transform]) -> int:
    count = 0
    for transform in chain:
        partners = _PARTNERS.get(transform, 1)
        count = partners * count + 1 + (partners > 1)
    return count


def _chain(reader, picture, size, seeds, augmentation, chain) -> Example:
    """What the last transform of a chain makes of what those before it make."""
    if not chain:
        return reader.framed(picture, size)
    *before, last = chain
    seed = next(seeds)
    if callable(last):
        return last(_chain(reader, picture, size, seeds, augmentation, before), seed)
    parameters = augmentation.parameters(last)
    if parameters.get("probability") == 0.0:
        return _chain(reader, picture, size, seeds, augmentation, before)
    if last == "zoom_and_crop":
        return reader.framed(picture, size, seed, **parameters)
    transform = getattr(transforms, last)
    if last not in _PARTNERS:
        example = _chain(reader, picture, size, seeds, augmentation, before)
        return transform(example, seed, **parameters)
    others = tf.random.stateless_uniform(
        [_PARTNERS[last] - 1], next(seeds), maxval=reader.count, dtype=tf.int64
    )
    side = size // 2 if last == "mosaic" else size
    examples = [
        _chain(reader, one, side, seeds, augmentation, before)
        for one in (picture, *tf.unstack(others))
    ]
    if last == "mosaic":
        return transform(examples, seed, size, **parameters)
    first, second = (transforms.pad_to_square(example, size) for example in examples)
    return transform(first, second, seed, **parameters)

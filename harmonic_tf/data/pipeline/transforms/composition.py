"""Transforms that make one picture out of several, or put its own objects into it again."""

from __future__ import annotations

from collections.abc import Sequence

from harmonic_tf.backend import tf
from harmonic_tf.boxes import area, intersection
from harmonic_tf.data.pipeline.transforms.common import (
    PADDING_GREY,
    PICTURE_FIELDS,
    Example,
    like,
    look_through,
    to_pixels,
)

COPIES = 3
"""How often `paste_small_objects` pastes an object, if not told otherwise."""

MOST_PASTED = 100
"""How many copies `paste_small_objects` puts into one picture at most."""

_MOSAIC_MARGIN = 0.2  # least share of the side that a quadrant gets, as in the authors' Darknet

# For pasting: the paper's distance from the edges and change of size, and bounds of the search.
_EDGE_DISTANCE = 5  # px
_SCALE_CHANGE = 0.2
_TRIES = 10  # places that are looked at for each copy


def mosaic(
    examples: Sequence[Example], seed: tf.Tensor, size: int, min_area_fraction: float = 0.3
) -> Example:
    """Four pictures round a random point, one in each quadrant, at the scale that they have.

    A quadrant shows a random window of its picture. A picture that is smaller than its quadrant
    lies somewhere in it, on grey: to see little grey, hand in pictures that have no padding yet.

    Args:
        examples: four Examples with the same fields and type of image, of any sizes.
        seed: int32 or int64 [2].
        size: side of the square mosaic, pixels.
        min_area_fraction: objects that keep less than this share of the area they had before are
            dropped, in [0, 1]. An object of which nothing is left always is.

    Returns:
        An Example with an image [size, size, 3] and the objects of all four; what it holds of a
        picture as a whole, such as its `image_id`, is the first one's.

    Source: Bochkovskiy et al., "YOLOv4", arXiv 2004.10934, and its code.
    """
    center, *places = tf.unstack(tf.random.stateless_uniform([5, 2], seed))
    y, x = tf.unstack(to_pixels(size * (_MOSAIC_MARGIN + (1.0 - 2.0 * _MOSAIC_MARGIN) * center)))
    corners = [(0, 0), (0, x), (y, 0), (y, x)]
    sides = [(y, x), (y, size - x), (size - y, x), (size - y, size - x)]
    tiles = [
        _quadrant(example, place, tf.stack(corner), tf.stack(side), min_area_fraction)
        for example, place, corner, side in zip(examples, places, corners, sides)
    ]
    images = [tile["image"] for tile in tiles]
    image = tf.concat([tf.concat(images[:2], axis=1), tf.concat(images[2:], axis=1)], axis=0)
    return {**_joined(tiles), "image": tf.ensure_shape(image, [size, size, 3])}


def _quadrant(example, place, corner, side, min_area_fraction):
    """A window of a picture, with boxes where the mosaic will have them."""
    free = tf.cast(tf.shape(example["image"])[:2] - side, tf.float32)
    tile = look_through(example, to_pixels(place * free), side, min_area_fraction)
    return {**tile, "boxes": tile["boxes"] + tf.cast(tf.tile(corner[::-1], [2]), tf.float32)}


def mixup(first: Example, second: Example, seed: tf.Tensor, alpha: float = 1.5) -> Example:
    """Two pictures in one, both shining through; the objects of both stay.

    Pixels are `ratio * first + (1 - ratio) * second` with the ratio from Beta(alpha, alpha). Labels
    are not mixed: every object counts in full, however faint its picture.

    Args:
        first: an Example.
        second: an Example with the same fields, and an image of the same size and type.
        seed: int32 or int64 [2].
        alpha: > 0; 1 draws all ratios alike, more draws them towards one half.

    Returns:
        An Example with the first one's objects and then the second one's; what it holds of a
        picture as a whole, such as its `image_id`, is the first one's.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412; for
        detection, with alpha = 1.5, Zhang et al., "Bag of Freebies for Training Object Detection
        Neural Networks", arXiv 1902.04103.
    """
    gammas = tf.random.stateless_gamma([2], seed, alpha)
    ratio = gammas[0] / tf.reduce_sum(gammas)  # of two gammas: a beta
    one, other = (tf.cast(example["image"], tf.float32) for example in (first, second))
    image = like(other + ratio * (one - other), first["image"])
    return {**_joined([first, second]), "image": image}


def paste_small_objects(
    example: Example,
    seed: tf.Tensor,
    max_area: float = 32.0**2,
    copies: int = COPIES,
    flip_probability: float = 0.5,
) -> Example:
    """Copies of the picture's small objects, at free places of the same picture.

    A copy is what the object's box holds, up to 20 % larger or smaller, sometimes mirrored left to
    right. Its place overlaps no box, neither of an object or a crowd region nor of another copy,
    keeps 5 pixels from the edges, and has no corner in the padding. A copy that finds no such
    place in 10 tries is left out; there are 100 at most. Crowd regions are never copied.

    The paper turns copies by up to 15 degrees as well and cuts them out along masks; rectangles
    would take their corners along, so they stay upright.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        max_area: what is small: boxes of less than this area, square pixels of the image as it is
            here; by default COCO's.
        copies: how often each small object is to be pasted.
        flip_probability: how often a copy is mirrored, in [0, 1].

    Returns:
        The Example with an image of the type it had, and the copies after its other objects; a
        copy has its object's class, and all else that the Example holds of an object.

    Source: Kisantal et al., "Augmentation for small object detection", arXiv 1902.07296.
    """
    image, boxes = example["image"], example["boxes"]
    source_seed, scale_seed, place_seed, flip_seed = tf.unstack(
        # Split, seeds of 32 and of 64 bits would give different ones.
        tf.random.experimental.stateless_split(tf.cast(seed, tf.int64), 4)
    )
    small = area(boxes) < max_area
    if "crowd" in example:
        small &= ~example["crowd"]
    sources = tf.repeat(tf.where(small)[:, 0], copies)
    sources = tf.random.experimental.stateless_shuffle(sources, source_seed)[:MOST_PASTED]

    origins = tf.gather(boxes, sources)
    scale = tf.random.stateless_uniform(
        [tf.shape(sources)[0], 1], scale_seed, 1.0 - _SCALE_CHANGE, 1.0 + _SCALE_CHANGE
    )
    sizes = tf.maximum(tf.round(scale * (origins[:, 2:] - origins[:, :2])), 1.0)
    found, places = _free_places(image, boxes, sizes, place_seed)
    sources, origins = tf.gather(sources, found), tf.gather(origins, found)

    mirrored = tf.random.stateless_uniform(tf.shape(sources), flip_seed) < flip_probability
    copied = {
        name: tf.gather(value, sources)
        for name, value in example.items()
        if name not in PICTURE_FIELDS
    }
    return {
        **_joined([example, {**copied, "boxes": places}]),
        "image": _paste(image, origins, places, mirrored),
    }


def _free_places(image, boxes, sizes, seed):
    """Places for rectangles of given sizes (width, height), float32 [P, 2], as far as there are.

    Returns:
        int64 [K], which of the rectangles have found a place, and float32 [K, 4], these places:
        boxes at whole pixels.
    """
    sizes = sizes[:, None]
    choices = tf.cast(tf.shape(image)[1::-1] - 2 * _EDGE_DISTANCE + 1, tf.float32) - sizes
    draw = tf.random.stateless_uniform([tf.shape(sizes)[0], _TRIES, 2], seed)
    start = _EDGE_DISTANCE + tf.floor(draw * tf.maximum(choices, 1.0))
    places = tf.concat([start, start + sizes], axis=-1)

    fits = tf.reduce_all(choices >= 1.0, axis=-1)
    apart = tf.reduce_all(intersection(places[:, :, None], boxes) == 0.0, axis=-1)
    free = fits & apart & ~_touches_padding(image, places)
    owners, places = tf.where(free)[:, 0], tf.boolean_mask(places, free)

    # One after another takes its first place that is left: places exclude each other where they
    # overlap and where they are one rectangle's.
    exclude = (intersection(places[:, None], places) > 0.0) | (owners[:, None] == owners)
    taken = tf.image.non_max_suppression_overlaps(
        tf.cast(exclude, tf.float32),
        tf.ones_like(places[:, 0]),
        MOST_PASTED,
        overlap_threshold=0.5,
    )
    return tf.gather(owners, taken), tf.gather(places, taken)


def _touches_padding(image, places):
    """Whether corners of places are grey; a picture is convex, so corners tell."""
    corners = tf.gather(places - [0.0, 0.0, 1.0, 1.0], [[1, 0], [1, 2], [3, 0], [3, 2]], axis=-1)
    corners = tf.clip_by_value(to_pixels(corners), 0, tf.shape(image)[:2] - 1)
    pixels = tf.cast(tf.gather_nd(image, corners), tf.float32)
    grey = tf.abs(pixels - PADDING_GREY) < 0.5  # resampled grey is off by float's rounding
    return tf.reduce_any(tf.reduce_all(grey, axis=-1), axis=-1)


def _paste(image, origins, places, mirrored):
    """Puts what some boxes hold into others, which have whole pixels and do not overlap."""
    corners = to_pixels(places)
    width, height = tf.unstack(corners[:, 2:] - corners[:, :2], axis=1)
    pixels = width * height
    # All pixels of all places in one list: the place of each, and its column and row there.
    owner = tf.repeat(tf.range(tf.shape(places)[0]), pixels)
    number = tf.range(tf.shape(owner)[0]) - tf.gather(tf.cumsum(pixels, exclusive=True), owner)
    row, column = number // tf.gather(width, owner), number % tf.gather(width, owner)
    offsets = tf.stack([column, row], axis=1)

    share = (tf.cast(offsets, tf.float32) + 0.5) / tf.gather(places[:, 2:] - places[:, :2], owner)
    x, y = tf.unstack(share, axis=1)
    share = tf.stack([tf.where(tf.gather(mirrored, owner), 1.0 - x, x), y], axis=1)
    start, size = origins[:, :2], origins[:, 2:] - origins[:, :2]
    points = tf.gather(start, owner) + share * tf.gather(size, owner)
    values = like(_bilinear(image, points[:, ::-1]), image)
    targets = tf.gather(corners[:, :2], owner) + offsets
    return tf.tensor_scatter_nd_update(image, targets[:, ::-1], values)


def _bilinear(image, points):
    """What an image shows at points (y, x), float32 [P, 2]: float32 [P, 3]."""
    last = tf.shape(image)[:2] - 1
    points = tf.clip_by_value(points - 0.5, 0.0, tf.cast(last, tf.float32))  # pixels' centres
    low = tf.cast(points, tf.int32)
    (top, left), (bottom, right) = (
        tf.unstack(side, axis=1) for side in (low, tf.minimum(low + 1, last))
    )
    down, across = tf.split(points - tf.cast(low, tf.float32), 2, axis=1)

    def pixel(y, x):
        return tf.cast(tf.gather_nd(image, tf.stack([y, x], axis=1)), tf.float32)

    above = pixel(top, left) * (1.0 - across) + pixel(top, right) * across
    below = pixel(bottom, left) * (1.0 - across) + pixel(bottom, right) * across
    return above * (1.0 - down) + below * down


def _joined(examples: Sequence[Example]) -> Example:
    """All objects of several Examples; what is not of an object is the first one's."""
    return {
        name: value
        if name in PICTURE_FIELDS
        else tf.concat([example[name] for example in examples], axis=0)
        for name, value in examples[0].items()
    }

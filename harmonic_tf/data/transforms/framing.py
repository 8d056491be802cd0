"""What part of a picture a model sees, and at what size: scale jitter and letterbox."""

from __future__ import annotations

from harmonic_tf.backend import tf
from harmonic_tf.boxes import area, clip
from harmonic_tf.data.transforms.common import Example, keep_objects, pad


SHRINKING = (1, 2, 4, 8)
"""By what a JPEG's sides can be divided while it is decoded: its blocks are of 8 x 8 pixels."""


def zoom_and_crop(
    example: Example,
    seed: tf.Tensor,
    scale_range: tuple[float, float] = (1.0, 1.5),
    min_area_fraction: float = 0.3,
) -> Example:
    """Scale jitter: cuts out a window of the picture's own aspect ratio, somewhere.

    A window of 1/zoom of the picture's sides shows its objects `zoom` times as large once a
    letterbox has brought it to the model's size; nothing is resampled here. Below a zoom of 1 the
    window is larger than the picture, which then lies somewhere on a grey canvas.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        scale_range: least and greatest zoom, 0 < least <= greatest; drawn uniformly between.
        min_area_fraction: objects that keep less than this share of the area they had before are
            dropped, in [0, 1]. An object of which nothing is left always is.

    Returns:
        The Example as seen in the window; boxes are clipped to it.
    """
    image = example["image"]
    window = draw_window(tf.shape(image)[:2], seed, scale_range)
    inside = part_inside(window, tf.shape(image)[:2])
    image = pad_to_window(cut(image, inside), inside, window)
    return objects_in_window({**example, "image": image}, window, min_area_fraction)


def draw_window(size: tf.Tensor, seed: tf.Tensor, scale_range: tuple[float, float]) -> tf.Tensor:
    """Draws the window of `zoom_and_crop`, before there is a picture.

    Args:
        size: int32 [2], height and width of the picture, pixels.
        seed: int32 or int64 [2].
        scale_range: least and greatest zoom, 0 < least <= greatest; drawn uniformly between.

    Returns:
        int32 [4], the window's y, x, height and width, pixels. It is inside of the picture where
        the zoom is 1 or more and encloses it where it is less.
    """
    draw = tf.random.stateless_uniform([3], seed)
    zoom = scale_range[0] + (scale_range[1] - scale_range[0]) * draw[0]
    window = tf.maximum(_round(tf.cast(size, tf.float32) / zoom), 1)
    start = _round(draw[1:] * tf.cast(size - window, tf.float32))  # y, x; not above 0 on a canvas
    return tf.concat([start, window], axis=0)


def shrinking(window: tf.Tensor, size: int) -> tf.Tensor:
    """How much smaller a window may be decoded without a letterbox having to enlarge it again.

    Args:
        window: int32 [4] as y, x, height, width; pixels.
        size: side of the letterboxed picture, pixels.

    Returns:
        int32 scalar, position in `SHRINKING`.
    """
    least = tf.constant([size * factor for factor in SHRINKING[1:]])
    return tf.reduce_sum(tf.cast(tf.reduce_max(window[2:]) >= least, tf.int32))


def align(window: tf.Tensor, size: tf.Tensor, multiple: tf.Tensor) -> tf.Tensor:
    """Lets a window grow to where a smaller version of its picture has pixels' edges.

    Args:
        window: int32 [4] as y, x, height, width; pixels.
        size: int32 [2], height and width of the picture, pixels.
        multiple: int32 scalar, one of `SHRINKING`.

    Returns:
        int32 [4]: start and end are multiples of `multiple`, or the picture's own end. A window
        inside of the picture stays inside.
    """
    start, end = window[:2], window[:2] + window[2:]
    start = start // multiple * multiple
    grown = -(-end // multiple) * multiple
    end = tf.where(end <= size, tf.minimum(grown, size), grown)
    return tf.concat([start, end - start], axis=0)


def part_inside(window: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The part of a window that is inside of its picture.

    Args:
        window: int32 [4] as y, x, height, width; pixels.
        size: int32 [2], height and width of the picture, pixels.

    Returns:
        int32 [4], likewise.
    """
    start = tf.maximum(window[:2], 0)
    end = tf.minimum(window[:2] + window[2:], size)
    return tf.concat([start, end - start], axis=0)


def cut(image: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Cuts a part, int32 [4] as y, x, height, width in pixels, out of an image [H, W, 3]."""
    return tf.slice(image, tf.pad(part[:2], [[0, 1]]), tf.concat([part[2:], [3]], axis=0))


def pad_to_window(
    image: tf.Tensor, part: tf.Tensor, window: tf.Tensor, shrunk_by: tf.Tensor | int = 1
) -> tf.Tensor:
    """Puts the grey of a canvas around the part of a window that is inside of the picture.

    Args:
        image: [h, w, 3], the part.
        part: int32 [4], where it is, as `part_inside` gives it.
        window: int32 [4], the window, aligned to `shrunk_by`.
        shrunk_by: by what the image's sides are already divided.

    Returns:
        The window, its sides divided by `shrunk_by` and rounded up.
    """
    before = (part[:2] - window[:2]) // shrunk_by
    whole = -(-window[2:] // shrunk_by)
    return pad(image, before, whole - before - tf.shape(image)[:2])


def objects_in_window(example: Example, window: tf.Tensor, min_area_fraction: float) -> Example:
    """The objects that a window shows enough of, their boxes in its pixels and clipped to it.

    Args:
        example: an Example, its image aside.
        window: int32 [4] as y, x, height, width; pixels.
        min_area_fraction: see `zoom_and_crop`.
    """
    boxes = example["boxes"]
    corner = tf.cast(tf.gather(window, [1, 0, 1, 0]), tf.float32)
    visible = clip(boxes - corner, window[2], window[3])
    left = area(visible)
    keep = (left > 0.0) & (left >= min_area_fraction * area(boxes))
    return keep_objects({**example, "boxes": visible}, keep)


def letterbox(example: Example, size: int) -> Example:
    """Brings the picture to a square without changing its aspect ratio.

    The longer side becomes `size`, the shorter one what goes with it, rounded to whole pixels;
    the picture lies in the top left corner and the rest, at the right or at the bottom, is
    `PADDING_GREY`. Shrinking averages areas (no aliasing), enlarging is bilinear.
    `unletterbox_boxes` is the way back.

    Args:
        example: an Example.
        size: side of the square, pixels.

    Returns:
        The Example with an image float32 [size, size, 3], boxes in its pixels.
    """
    return pad_to_square(fit(example, tf.shape(example["image"])[:2], size), size)


def fit(example: Example, source_size: tf.Tensor, size: int) -> Example:
    """The first half of `letterbox`: the picture at its size in the square, without the padding.

    Args:
        example: an Example; its image may have been shrunk already.
        source_size: int32 [2], height and width in whose pixels its boxes are.
        size: side of the square, pixels.

    Returns:
        The Example with an image float32 [h, w, 3], the longer side of `size`; boxes in its pixels.
    """
    image, (height, width) = example["image"], tf.unstack(source_size)
    new_size = tf.stack(_letterboxed_size(height, width, size))
    image = tf.cond(
        tf.reduce_max(tf.shape(image)) > size,
        lambda: tf.image.resize(image, new_size, tf.image.ResizeMethod.AREA),
        lambda: tf.image.resize(image, new_size),
    )
    boxes = example["boxes"] * _letterbox_factors(height, width, size)
    return {**example, "image": image, "boxes": boxes}


def pad_to_square(example: Example, size: int) -> Example:
    """The second half of `letterbox`; a picture that is square already stays as it is.

    Args:
        example: an Example with an image [h, w, 3], no side longer than `size`.
        size: side of the square, pixels.

    Returns:
        The Example with an image [size, size, 3].
    """
    image = example["image"]
    missing = size - tf.shape(image)[:2]
    image = pad(image, tf.zeros_like(missing), missing)
    return {**example, "image": tf.ensure_shape(image, [size, size, 3])}


def unletterbox_boxes(
    boxes: tf.Tensor, source_height: tf.Tensor, source_width: tf.Tensor, size: int
) -> tf.Tensor:
    """The inverse of `letterbox` for boxes, such as a model's detections.

    Boxes that reach into the padding come out reaching over the picture's edge: clip them if that
    matters.

    Args:
        boxes: float32 [..., 4], xyxy in pixels of the letterboxed picture.
        source_height: int32, height of the picture before, pixels; a scalar, or of a shape that
            broadcasts to `boxes.shape[:-1]`, for example [B, 1] for boxes [B, M, 4].
        source_width: int32, its width, likewise.
        size: side of the letterboxed picture, pixels.

    Returns:
        float32 [..., 4], xyxy in pixels of the source picture.
    """
    height, width = (tf.cast(side, tf.int32) for side in (source_height, source_width))
    return boxes / _letterbox_factors(height, width, size)


def _letterboxed_size(height, width, size: int):
    """Sides of the picture inside its letterbox, int32; whole numbers all the way, so exact."""
    longest = tf.maximum(height, width)
    return tuple(tf.maximum((side * size + longest // 2) // longest, 1) for side in (height, width))


def _letterbox_factors(height, width, size: int):
    """What `letterbox` multiplies xyxy with, float32 [..., 4]: the sides are rounded, so two."""
    new_height, new_width = _letterboxed_size(height, width, size)
    y = tf.cast(new_height / height, tf.float32)
    x = tf.cast(new_width / width, tf.float32)
    return tf.stack([x, y, x, y], axis=-1)


def _round(value):
    return tf.cast(tf.round(value), tf.int32)

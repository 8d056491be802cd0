"""What part of a picture a model sees, and at what size: scale jitter and letterbox."""

from __future__ import annotations

from harmonic_tf.backend import tf
from harmonic_tf.data.pipeline.transforms.common import (
    Example,
    look_through,
    pad,
    to_pixels,
)


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
    window = draw_window(tf.shape(example["image"])[:2], seed, scale_range)
    return look_through(example, window[:2], window[2:], min_area_fraction)


def draw_window(size: tf.Tensor, seed: tf.Tensor, scale_range: tuple[float, float]) -> tf.Tensor:
    """Draws the window of `zoom_and_crop`; the picture itself is not needed for it.

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
    window = tf.maximum(to_pixels(tf.cast(size, tf.float32) / zoom), 1)
    start = to_pixels(draw[1:] * tf.cast(size - window, tf.float32))  # not above 0 on a canvas
    return tf.concat([start, window], axis=0)


def letterbox(example: Example, size: int) -> Example:
    """Brings the picture to a square without changing its aspect ratio.

    The longer side becomes `size`, the shorter one what goes with it, rounded to whole pixels;
    the picture lies in the top left corner and the rest, at the right or at the bottom, is
    `PADDING_GREY`. Shrinking to half or less averages areas, all else is bilinear, which leaves out
    no pixel until there.
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
        tf.reduce_max(tf.shape(image)) >= 2 * size,
        lambda: tf.image.resize(image, new_size, tf.image.ResizeMethod.AREA),
        lambda: tf.image.resize(tf.cast(image, tf.float32), new_size),  # slower from uint8
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

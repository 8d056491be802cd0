"""What part of a picture a model sees, and at what size: scale jitter and letterbox."""

from __future__ import annotations

from harmonic_tf.backend import tf
from harmonic_tf.boxes import area, clip
from harmonic_tf.data.transforms.common import Example, keep_objects, pad


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
    image, boxes = example["image"], example["boxes"]
    draw = tf.random.stateless_uniform([3], seed)
    zoom = scale_range[0] + (scale_range[1] - scale_range[0]) * draw[0]
    size = tf.shape(image)[:2]
    window = tf.maximum(_round(tf.cast(size, tf.float32) / zoom), 1)
    start = _round(draw[1:] * tf.cast(size - window, tf.float32))  # y, x; not above 0 on a canvas

    inside = tf.maximum(start, 0)
    length = tf.minimum(start + window, size) - inside
    before = inside - start
    image = tf.slice(image, tf.pad(inside, [[0, 1]]), tf.concat([length, [3]], axis=0))
    image = pad(image, before, window - before - length)

    corner = tf.cast(tf.tile(start[::-1], [2]), tf.float32)  # x, y, x, y
    visible = clip(boxes - corner, window[0], window[1])
    left = area(visible)
    keep = (left > 0.0) & (left >= min_area_fraction * area(boxes))
    return keep_objects({**example, "image": image, "boxes": visible}, keep)


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
    image = example["image"]
    height, width = tf.unstack(tf.shape(image)[:2])
    new_height, new_width = _letterboxed_size(height, width, size)
    new_size = tf.stack([new_height, new_width])
    resized = tf.cond(
        tf.maximum(height, width) > size,
        lambda: tf.image.resize(image, new_size, tf.image.ResizeMethod.AREA),
        lambda: tf.image.resize(image, new_size),
    )
    image = pad(resized, tf.zeros_like(new_size), size - new_size)
    boxes = example["boxes"] * _letterbox_factors(height, width, size)
    return {**example, "image": tf.ensure_shape(image, [size, size, 3]), "boxes": boxes}


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

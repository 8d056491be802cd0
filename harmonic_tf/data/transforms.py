"""What may happen to a picture and its boxes on the way to a model: small pure functions.

An Example is a dict of tensors: `image` uint8 or float [H, W, 3] with values 0..255, `boxes`
float32 [N, 4] as xyxy in absolute pixels of that image, and further values per object, [N, ...],
such as `classes`, `difficult` and `crowd`. Every transform returns a new Example, so that they
chain. The random ones draw everything from a `seed`, an int32 or int64 [2] tensor: same seed, same
result, in whatever order and on however many threads the pictures are worked on.
"""

from __future__ import annotations

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.boxes import area, clip

Example = dict[str, tf.Tensor]

PICTURE_FIELDS = frozenset({"image", "image_id", "source_size"})
"""What an Example may hold that is not one value per object."""

PADDING_GREY = 114
"""Level of the pixels around a picture, the habit of the YOLO family (about ImageNet's mean)."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_RGB_TO_YIQ = np.stack([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # NTSC, 1953
# Colour matrices for pixels as columns: their luma; what that leaves, the chroma; and the chroma
# turned by 90 degrees in the IQ plane, which keeps the luma as it is.
_TO_LUMA = np.tile(_LUMA, (3, 1))
_TO_CHROMA = np.eye(3) - _TO_LUMA
_QUARTER_TURN = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])
_TO_TURNED_CHROMA = np.linalg.inv(_RGB_TO_YIQ) @ _QUARTER_TURN @ _RGB_TO_YIQ


def keep_objects(example: Example, keep: tf.Tensor) -> Example:
    """Drops objects, with all that belongs to them.

    Args:
        example: an Example; every entry outside `PICTURE_FIELDS` is one value per object.
        keep: bool [N].

    Returns:
        The Example with the objects for which `keep` is true, in their order.
    """
    return {
        name: value if name in PICTURE_FIELDS else tf.boolean_mask(value, keep)
        for name, value in example.items()
    }


def flip_horizontal(example: Example, seed: tf.Tensor, probability: float = 0.5) -> Example:
    """Mirrors left and right, sometimes.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        probability: how often, in [0, 1].

    Returns:
        The Example, mirrored or as it was.
    """
    return _flip(example, seed, probability, axis=1)


def flip_vertical(example: Example, seed: tf.Tensor, probability: float = 0.5) -> Example:
    """Mirrors top and bottom, sometimes: for pictures without an upright, such as micrographs.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        probability: how often, in [0, 1].

    Returns:
        The Example, mirrored or as it was.
    """
    return _flip(example, seed, probability, axis=0)


def _flip(example: Example, seed: tf.Tensor, probability: float, axis: int) -> Example:
    """Mirrors along an axis of the image, sometimes."""

    def mirrored():
        length = tf.cast(tf.shape(image)[axis], tf.float32)
        sides = tf.unstack(boxes, axis=1)
        near, far = 1 - axis, 3 - axis  # x is a box's first coordinate and the image's second axis
        sides[near], sides[far] = length - sides[far], length - sides[near]
        return tf.reverse(image, [axis]), tf.stack(sides, axis=1)

    image, boxes = example["image"], example["boxes"]
    flip = tf.random.stateless_uniform([], seed) < probability
    image, boxes = tf.cond(flip, mirrored, lambda: (image, boxes))
    return {**example, "image": image, "boxes": boxes}


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
    image = _pad(image, before, window - before - length)

    corner = tf.cast(tf.tile(start[::-1], [2]), tf.float32)  # x, y, x, y
    visible = clip(boxes - corner, window[0], window[1])
    left = area(visible)
    keep = (left > 0.0) & (left >= min_area_fraction * area(boxes))
    return keep_objects({**example, "image": image, "boxes": visible}, keep)


def jitter_colors(
    example: Example,
    seed: tf.Tensor,
    brightness: float = 16.0,
    contrast: float = 0.25,
    saturation: float = 0.25,
    hue: float = 9.0,
) -> Example:
    """Photometric jitter: brightness, contrast, saturation and hue as one affine map of colours.

    Each is drawn uniformly from its range. Contrast pivots on `PADDING_GREY`; hue turns and
    saturation scales the chroma in the YIQ space, which leaves the luma as it is. The default
    ranges are half of SSD's (a quarter for the hue), where each change happens to every other
    picture only. A picture that has its padding already gets it jittered along.

    Args:
        example: an Example.
        seed: int32 or int64 [2].
        brightness: largest shift either way, in levels of 0..255.
        contrast: largest relative change either way, in [0, 1].
        saturation: largest relative change either way, in [0, 1].
        hue: largest turn either way, degrees.

    Returns:
        The Example with a float32 image, values clipped to 0..255.

    Source: ranges from Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, and its code;
        the matrices from Haeberli, "Matrix Operations for Image Processing", 1993.
    """
    image = tf.cast(example["image"], tf.float32)
    most = tf.constant([brightness, contrast, saturation, hue * np.pi / 180], tf.float32)
    shift, contrast_by, saturation_by, turn = tf.unstack(
        tf.random.stateless_uniform([4], seed, -1.0, 1.0) * most
    )
    matrix = tf.constant(_TO_LUMA, tf.float32) + (1.0 + saturation_by) * (
        tf.cos(turn) * tf.constant(_TO_CHROMA, tf.float32)
        + tf.sin(turn) * tf.constant(_TO_TURNED_CHROMA, tf.float32)
    )
    pixels = tf.matmul(tf.reshape(image, [-1, 3]), (1.0 + contrast_by) * matrix, transpose_b=True)
    pixels = tf.clip_by_value(pixels + (shift - contrast_by * PADDING_GREY), 0.0, 255.0)
    return {**example, "image": tf.reshape(pixels, tf.shape(image))}


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
    image = _pad(resized, tf.zeros_like(new_size), size - new_size)
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


def _pad(image, before, after):
    """Puts grey around an image: int32 [2] pixels (y, x) before it and after it."""
    margins = tf.pad(tf.stack([before, after], axis=1), [[0, 1], [0, 0]])
    return tf.pad(image, margins, constant_values=tf.cast(PADDING_GREY, image.dtype))


def _round(value):
    return tf.cast(tf.round(value), tf.int32)

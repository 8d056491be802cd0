"""What all transforms share: the Example, and what is done to its objects and its edges.

An Example is a dict of tensors: `image` uint8 or float [H, W, 3] with values 0..255, `boxes`
float32 [N, 4] as xyxy in absolute pixels of that image, and further values per object, [N, ...],
such as `classes`, `difficult` and `crowd`.
"""

from __future__ import annotations

from harmonic_tf.backend import tf
from harmonic_tf.boxes import area, clip

Example = dict[str, tf.Tensor]

PICTURE_FIELDS = frozenset({"image", "image_id", "source_size"})
"""What an Example may hold that is not one value per object."""

PADDING_GREY = 114
"""Level of the pixels around a picture, the habit of the YOLO family (about ImageNet's mean)."""


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


def clip_objects(example: Example, min_area_fraction: float) -> Example:
    """Cuts boxes at the picture's edges and drops the objects of which too little is left.

    Args:
        example: an Example whose boxes may reach over the edges of its image.
        min_area_fraction: objects that keep less than this share of their area are dropped, in
            [0, 1]. An object of which nothing is left always is.

    Returns:
        The Example with boxes inside its image.
    """
    height, width = tf.unstack(tf.shape(example["image"])[:2])
    visible = clip(example["boxes"], height, width)
    left = area(visible)
    keep = (left > 0.0) & (left >= min_area_fraction * area(example["boxes"]))
    return keep_objects({**example, "boxes": visible}, keep)


def look_through(
    example: Example, start: tf.Tensor, size: tf.Tensor, min_area_fraction: float
) -> Example:
    """What a window shows of a picture: grey where it reaches over the edges.

    Args:
        example: an Example.
        start: int32 [2], the window's first pixel (y, x) in the picture; negative above and to the
            left of it.
        size: int32 [2], height and width of the window, pixels. It touches the picture at least.
        min_area_fraction: share of its area that an object must keep, see `clip_objects`.

    Returns:
        The Example with an image of the window's size; boxes are clipped to it.
    """
    inside = tf.maximum(start, 0)
    length = tf.minimum(start + size, tf.shape(example["image"])[:2]) - inside
    before = inside - start
    image = tf.slice(example["image"], tf.pad(inside, [[0, 1]]), tf.concat([length, [3]], axis=0))
    image = pad(image, before, size - before - length)
    corner = tf.cast(tf.tile(start[::-1], [2]), tf.float32)  # x, y, x, y
    return clip_objects(
        {**example, "image": image, "boxes": example["boxes"] - corner}, min_area_fraction
    )


def pad(image, before, after):
    """Puts grey around an image [H, W, 3]: int32 [2] pixels (y, x) before it and after it."""
    height, width, channels = tf.unstack(tf.shape(image))
    margins = tf.stack([before, after], axis=1) * tf.stack([[1], [channels]])
    rows = tf.pad(  # of a matrix, five times as fast as of an image
        tf.reshape(image, [height, width * channels]),
        margins,
        constant_values=tf.cast(PADDING_GREY, image.dtype),
    )
    return tf.reshape(rows, [tf.shape(rows)[0], -1, image.shape[2] or channels])


def like(pixels, image):
    """Computed float pixels in the type of the image that they come from: rounded if need be."""
    return tf.cast(tf.round(pixels) if image.dtype.is_integer else pixels, image.dtype)


def to_pixels(value):
    """The nearest whole numbers, int32."""
    return tf.cast(tf.round(value), tf.int32)

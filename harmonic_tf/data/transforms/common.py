"""What all transforms share: the Example, and what is done to its objects and its edges.

An Example is a dict of tensors: `image` uint8 or float [H, W, 3] with values 0..255, `boxes`
float32 [N, 4] as xyxy in absolute pixels of that image, and further values per object, [N, ...],
such as `classes`, `difficult` and `crowd`.
"""

from __future__ import annotations

from harmonic_tf.backend import tf

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


def pad(image, before, after):
    """Puts grey around an image: int32 [2] pixels (y, x) before it and after it."""
    margins = tf.pad(tf.stack([before, after], axis=1), [[0, 1], [0, 0]])
    return tf.pad(image, margins, constant_values=tf.cast(PADDING_GREY, image.dtype))

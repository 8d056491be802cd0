"""Batches in all forms that keras-cv detectors take, as images and dense labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonic_tf.backend import keras, keras_cv, tf

# Labels whose width changes from batch to batch are padded to a multiple of this, because XLA
# compiles anew for every width it meets.
WIDTH_STEP = 32


def unpack_batch(data: Any) -> tuple[tf.Tensor, Mapping[str, tf.Tensor] | None]:
    """Images and labels of a batch in any of the forms that keras-cv detectors take.

    Args:
        data: images; `(images, labels)`; or `{"images": ..., "bounding_boxes": labels}`.

    Returns:
        Images and labels; labels are None when there are none.

    Raises:
        ValueError: when the batch carries sample weights.
    """
    if isinstance(data, Mapping):
        return data["images"], data.get("bounding_boxes")
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError(
            "Sample weights are not supported by joint training. Give the data set as "
            "(images, labels) pairs."
        )
    return images, labels


def unpack_labelled(data: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The same of a batch to train or test on, labels dense.

    Args:
        data: see `unpack_batch`.

    Returns:
        Images, and labels as `boxes` float32 [B, M, 4] and `classes` int32 [B, M], padded with -1.

    Raises:
        ValueError: when there are no labels, or sample weights.
    """
    images, labels = unpack_batch(data)
    if labels is None:
        raise ValueError("Training needs labels: give batches as (images, labels).")
    return images, _dense(labels)


def _dense(labels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    labels = keras_cv.bounding_box.to_dense(dict(labels))
    boxes = tf.cast(labels["boxes"], tf.float32)
    classes = tf.cast(labels["classes"], tf.int32)
    if classes.shape.rank == 3:
        classes = tf.squeeze(classes, axis=-1)
    if classes.shape[1] is None:
        more = -tf.shape(classes)[1] % WIDTH_STEP
        boxes = tf.pad(boxes, [[0, 0], [0, more], [0, 0]], constant_values=-1.0)
        classes = tf.pad(classes, [[0, 0], [0, more]], constant_values=-1)
    return {"boxes": boxes, "classes": classes}

"""One picture after the other out of a data set, by position, inside of tf.data."""

from __future__ import annotations

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.data import pictures
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.transforms import framing
from harmonic_tf.data.transforms.common import Example

_OBJECT_FIELDS = {
    "boxes": np.float32,
    "classes": np.int32,
    "difficult": np.bool_,
    "crowd": np.bool_,
}


class Reader:
    """The annotations of a data set as tensors, from which a pipeline reads by position.

    Args:
        data: what to read.
    """

    def __init__(self, data: DetectionData):
        annotations = data.annotations
        counts = [len(annotation.boxes) for annotation in annotations]
        self._paths = tf.constant([str(annotation.image_path) for annotation in annotations])
        self._sizes = tf.constant([[a.height, a.width] for a in annotations], tf.int32)
        offsets = [-1 if a.record_offset is None else a.record_offset for a in annotations]
        self._offsets = tf.constant(offsets, tf.int64) if max(offsets) >= 0 else None
        orientations = [annotation.orientation for annotation in annotations]
        self._orientations = tf.constant(orientations) if max(orientations) > 1 else None
        self._ends = tf.constant(np.cumsum(counts), tf.int32)
        self._counts = tf.constant(counts, tf.int32)
        self._objects = {
            name: tf.constant(np.concatenate([getattr(a, name) for a in annotations]).astype(dtype))
            for name, dtype in _OBJECT_FIELDS.items()
        }

    def whole(self, picture: tf.Tensor) -> Example:
        """One picture, decoded whole, with its objects."""
        image = pictures.decode(self._encoded(picture), self._orientation(picture))
        return {"image": image, **self._objects_of(picture)}

    def framed(
        self,
        picture: tf.Tensor,
        size: int,
        seed: tf.Tensor | None = None,
        scale_range: tuple[float, float] = (1.0, 1.0),
        min_area_fraction: float = 0.0,
    ) -> Example:
        """One picture as `zoom_and_crop` and `letterbox` give it, short of the padding.

        The window is drawn first, so that only what it shows is decoded, and no larger than needed.

        Args:
            picture: position in the data.
            size: side of the letterboxed picture, pixels.
            seed: int32 or int64 [2]; None shows the whole picture.
            scale_range: see `zoom_and_crop`.
            min_area_fraction: see `zoom_and_crop`.

        Returns:
            The Example with an image float32 [h, w, 3], the longer side of `size`.
        """
        source_size, example = self._sizes[picture], self._objects_of(picture)
        window = tf.concat([[0, 0], source_size], axis=0)
        if seed is not None:
            window = framing.draw_window(source_size, seed, scale_range)
        shrinking = framing.shrinking(window, size)
        window = framing.align(window, source_size, tf.constant(framing.SHRINKING)[shrinking])
        part = framing.part_inside(window, source_size)
        image, shrunk_by = pictures.decode_part(
            self._encoded(picture), part, shrinking, self._orientation(picture)
        )
        image = framing.pad_to_window(image, part, window, shrunk_by)
        if seed is not None:
            example = framing.objects_in_window(example, window, min_area_fraction)
        return framing.fit({"image": image, **example}, window[2:], size)

    def _encoded(self, picture: tf.Tensor) -> tf.Tensor:
        offset = None if self._offsets is None else self._offsets[picture]
        return pictures.read(self._paths[picture], offset)

    def _orientation(self, picture: tf.Tensor) -> tf.Tensor | None:
        return None if self._orientations is None else self._orientations[picture]

    def _objects_of(self, picture: tf.Tensor) -> Example:
        count = self._counts[picture]
        start = self._ends[picture] - count
        return {
            name: tf.slice(
                values,
                tf.stack([start] + [0] * (values.shape.rank - 1)),
                tf.stack([count, *values.shape[1:]]),
            )
            for name, values in self._objects.items()
        }

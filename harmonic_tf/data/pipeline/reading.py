"""One picture after the other out of a data set, by position, inside of tf.data."""

from __future__ import annotations

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images import decoding
from harmonic_tf.data.pipeline.cache import Cache
from harmonic_tf.data.pipeline.transforms import draw_window, fit
from harmonic_tf.data.pipeline.transforms.common import Example, clip_objects, pad

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
        cache: its decoded pictures, if they are kept.
    """

    def __init__(self, data: DetectionData, cache: Cache | None = None):
        annotations = data.annotations
        self.count = len(annotations)
        self._cache = cache
        self._paths = tf.constant([str(annotation.image_path) for annotation in annotations])
        self._sizes = tf.constant([[a.height, a.width] for a in annotations], tf.int32)
        offsets = [-1 if a.record_offset is None else a.record_offset for a in annotations]
        self._offsets = tf.constant(offsets, tf.int64) if max(offsets) >= 0 else None
        orientations = [annotation.orientation for annotation in annotations]
        self._orientations = tf.constant(orientations) if max(orientations) > 1 else None
        self._decoders = decoding.decoder_numbers(annotations)
        counts = [len(annotation.boxes) for annotation in annotations]
        self._object_counts = tf.constant(counts, tf.int32)
        self._object_ends = tf.constant(np.cumsum(counts), tf.int32)
        self._objects = {
            name: tf.constant(np.concatenate([getattr(a, name) for a in annotations]).astype(dtype))
            for name, dtype in _OBJECT_FIELDS.items()
        }

    def whole(self, picture: tf.Tensor) -> Example:
        """One picture, decoded whole, with its objects."""
        image = decoding.decode(
            self._encoded(picture), self._orientation(picture), self._decoder(picture)
        )
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
        source_size, objects = self._sizes[picture], self._objects_of(picture)
        window = tf.pad(source_size, [[2, 0]])
        if seed is not None:
            window = draw_window(source_size, seed, scale_range)
        shrinking = _shrinking(window, size)
        window = _align(window, source_size, tf.gather(decoding.SHRINKING, shrinking))
        image = self._seen(picture, window, source_size, shrinking)
        corner = tf.cast(tf.gather(window, [1, 0, 1, 0]), tf.float32)
        example = {**objects, "image": image, "boxes": objects["boxes"] - corner}
        example = fit(example, window[2:], size)
        return example if seed is None else clip_objects(example, min_area_fraction)

    def _seen(
        self, picture: tf.Tensor, window: tf.Tensor, source_size: tf.Tensor, shrinking: tf.Tensor
    ) -> tf.Tensor:
        """What a window shows of a picture, on grey where it reaches over the edges; shrunk."""
        start = tf.maximum(window[:2], 0)
        part = tf.concat([start, tf.minimum(window[:2] + window[2:], source_size) - start], axis=0)
        if self._cache is None:
            image, divisor = decoding.decode_part(
                self._encoded(picture),
                part,
                shrinking,
                self._orientation(picture),
                self._decoder(picture),
            )
        else:
            image, divisor = self._cache.part(picture, source_size, part), 1
        return tf.cond(
            tf.reduce_all(part == window),
            lambda: image,
            lambda: _on_canvas(image, (start - window[:2]) // divisor, -(-window[2:] // divisor)),
        )

    def _encoded(self, picture: tf.Tensor) -> tf.Tensor:
        offset = None if self._offsets is None else self._offsets[picture]
        return decoding.read(self._paths[picture], offset)

    def _orientation(self, picture: tf.Tensor) -> tf.Tensor | None:
        return None if self._orientations is None else self._orientations[picture]

    def _decoder(self, picture: tf.Tensor) -> tf.Tensor | None:
        return None if self._decoders is None else self._decoders[picture]

    def _objects_of(self, picture: tf.Tensor) -> Example:
        end, count = self._object_ends[picture], self._object_counts[picture]
        return {name: values[end - count : end] for name, values in self._objects.items()}


def _shrinking(window: tf.Tensor, size: int) -> tf.Tensor:
    """Position in `SHRINKING` of the most that still leaves a window as large as its letterbox."""
    least = tf.constant([size * factor for factor in decoding.SHRINKING[1:]])
    return tf.reduce_sum(tf.cast(tf.reduce_max(window[2:]) >= least, tf.int32))


def _align(window: tf.Tensor, source_size: tf.Tensor, multiple: tf.Tensor) -> tf.Tensor:
    """Lets a window grow until its edges are at multiples, or at the picture's own end."""
    start, end = window[:2] // multiple * multiple, window[:2] + window[2:]
    grown = -(-end // multiple) * multiple
    end = tf.where(end <= source_size, tf.minimum(grown, source_size), grown)
    return tf.concat([start, end - start], axis=0)


def _on_canvas(image: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return pad(image, start, size - start - tf.shape(image)[:2])

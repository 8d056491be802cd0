"""From annotated pictures on disk to batches, with tf.data: for training and for evaluation.

Nothing here is random but through `seed`: what picture comes when, and what happens to it, depends
on its position in the stream alone, never on threads or on what was read before. No Python runs
per picture.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.data import transforms
from harmonic_tf.data.example import Annotation, DataError, DetectionData, Problem
from harmonic_tf.data.reading import Reader


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How pictures are varied in training; see `harmonic_tf.data.transforms` for each.

    Args:
        flip_probability: how often a picture is mirrored left to right, in [0, 1].
        vertical_flip_probability: how often it is mirrored top to bottom, in [0, 1].
        scale_range: least and greatest zoom of scale jitter, 0 < least <= greatest.
        min_area_fraction: share of its area that an object must keep, in [0, 1].
        brightness: largest shift, in levels of 0..255.
        contrast: largest relative change, in [0, 1].
        saturation: largest relative change, in [0, 1].
        hue: largest turn, degrees, in [0, 180].

    Raises:
        ValueError: a value is out of its range.
    """

    flip_probability: float = 0.5
    vertical_flip_probability: float = 0.0
    scale_range: tuple[float, float] = (1.0, 1.5)
    min_area_fraction: float = 0.3
    brightness: float = 16.0
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 9.0

    def __post_init__(self):
        greatest = {"brightness": 255.0, "hue": 180.0}
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), greatest.get(field.name, 1.0)
            if field.name == "scale_range":
                if not 0.0 < value[0] <= value[1]:
                    raise ValueError(f"scale_range = {value}: must be 0 < least <= greatest.")
            elif not 0.0 <= value <= limit:
                raise ValueError(f"{field.name} = {value}: must be between 0 and {limit:g}.")


def training_batches(
    data: DetectionData,
    image_size: int,
    batch_size: int,
    seed: int,
    max_boxes: int = 100,
    augmentation: Augmentation | None = Augmentation(),
    start_batch: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """An endless stream of augmented batches, the same one whenever the arguments are the same.

    Each epoch holds every picture once, in an order of its own; epochs follow each other without
    a seam, so that a batch may hold the end of one and the start of the next, or several of a data
    set smaller than a batch. Objects marked difficult are trained on. Crowd regions are no
    training targets: they take part in every transform and are left out at the very end.

    Args:
        data: what to train on.
        image_size: side S of the letterboxed pictures, pixels.
        batch_size: pictures per batch, B.
        seed: any integer.
        max_boxes: objects per picture that there is room for, M.
        augmentation: how to vary the pictures; None leaves them as they are.
        start_batch: where in the stream to start, >= 0: the batches before it are left out at
            no cost.
        shard: `(index, count)`: of every `count` batches only the one at `index`, at no cost for
            the others. This is how several readers share one stream.

    Returns:
        A dataset of (images, {"boxes", "classes"}): float32 [B, S, S, 3] with values 0..255,
        float32 [B, M, 4] as xyxy in pixels of the letterboxed picture, and float32 [B, M]. Unused
        places hold -1.

    Raises:
        DataError: there is no picture, or one has more objects than there is room for.
    """
    _check_not_empty(data)
    _check_room(data, max_boxes)
    records = Reader(data)
    shard_index, shard_count = shard

    def in_shard(position, _):
        return (position // batch_size) % shard_count == shard_index

    def load(position, picture):
        if augmentation is None:
            example = transforms.letterbox(records.whole(picture), image_size)
        else:
            example = _vary(records, picture, tf.stack([seed, position]), augmentation, image_size)
        return _image_and_targets(example, max_boxes)

    return (
        _order(data, seed, start_batch * batch_size)
        .filter(in_shard)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def pictures_of_batch(data: DetectionData, batch_size: int, seed: int, batch: int) -> list[str]:
    """The picture files that `training_batches` puts into one batch.

    Args:
        data: what is trained on.
        batch_size: pictures per batch.
        seed: the stream's seed.
        batch: position of the batch in the stream, >= 0.
    """
    order = _order(data, seed, batch * batch_size).take(batch_size)
    return [str(data.annotations[int(picture)].image_path) for _, picture in order]


def _order(data: DetectionData, seed: int, start: int) -> tf.data.Dataset:
    """Which picture comes when: endless (position in the stream, picture), from `start` on."""
    count = len(data.annotations)

    def shuffled(epoch):
        order = tf.range(count, dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(order, seed=tf.stack([seed, epoch]))
        return tf.data.Dataset.from_tensor_slices(order)

    return (
        tf.data.Dataset.counter(start // count)
        .flat_map(shuffled)
        .skip(start % count)
        .enumerate(start)
    )


def evaluation_batches(data: DetectionData, image_size: int, batch_size: int) -> tf.data.Dataset:
    """Every picture once, in order and unchanged but for the letterbox.

    All batches are full. The places that the pictures leave over in the last one repeat the last
    picture and are marked by an `index` of -1: drop what is detected there.

    Args:
        data: what to evaluate on.
        image_size: side S of the letterboxed pictures, pixels.
        batch_size: pictures per batch, B.

    Returns:
        A dataset of dicts: `images` float32 [B, S, S, 3] with values 0..255; `index` int64 [B],
        position in `data.annotations`; `source_size` int32 [B, 2], height and width of the
        decoded picture, for `transforms.unletterbox_boxes`.

    Raises:
        DataError: there is no picture.
    """
    _check_not_empty(data)
    count = len(data.annotations)
    records = Reader(data)

    def load(position):
        example = records.whole(tf.minimum(position, count - 1))
        return {
            "images": transforms.letterbox(example, image_size)["image"],
            "index": tf.where(position < count, position, -1),
            "source_size": tf.shape(example["image"])[:2],
        }

    return (
        tf.data.Dataset.range(-(-count // batch_size) * batch_size)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _vary(
    records: Reader, picture, seed: tf.Tensor, augmentation: Augmentation, image_size: int
) -> transforms.Example:
    zoom_seed, flip_seed, vertical_flip_seed, color_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 4)
    )
    example = records.framed(
        picture, image_size, zoom_seed, augmentation.scale_range, augmentation.min_area_fraction
    )
    example = transforms.flip_horizontal(example, flip_seed, augmentation.flip_probability)
    if augmentation.vertical_flip_probability:
        example = transforms.flip_vertical(
        example, vertical_flip_seed, augmentation.vertical_flip_probability
    )
    example = transforms.jitter_colors(
        example,
        color_seed,
        augmentation.brightness,
        augmentation.contrast,
        augmentation.saturation,
        augmentation.hue,
    )
    import os
    if os.environ.get('U8'):
        example['image']=tf.cast(example['image']+0.5, tf.uint8)
    from harmonic_tf.data.transforms.framing import pad_to_square
    return pad_to_square(example, image_size)


def _image_and_targets(
    example: transforms.Example, max_boxes: int
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """What a detector is trained on: the picture and its objects, without crowds, padded by -1."""
    example = transforms.keep_objects(example, ~example["crowd"])
    boxes, classes = example["boxes"], tf.cast(example["classes"], tf.float32)
    free = max_boxes - tf.shape(boxes)[0]
    boxes = tf.pad(boxes, [[0, free], [0, 0]], constant_values=-1.0)
    classes = tf.pad(classes, [[0, free]], constant_values=-1.0)
    return example["image"], {
        "boxes": tf.ensure_shape(boxes, [max_boxes, 4]),
        "classes": tf.ensure_shape(classes, [max_boxes]),
    }


def _check_not_empty(data: DetectionData) -> None:
    if not data.annotations:
        raise DataError(
            Problem(
                file=data.name,
                field="annotations",
                value="0 pictures",
                problem="there is nothing to read",
                remedy="check the data set's path and split",
            )
        )


def _check_room(data: DetectionData, max_boxes: int) -> None:
    def targets(annotation: Annotation) -> int:
        return int(np.sum(~annotation.crowd))

    fullest = max(data.annotations, key=targets)
    if targets(fullest) > max_boxes:
        raise DataError(
            Problem(
                file=str(fullest.image_path),
                field="objects",
                value=str(targets(fullest)),
                problem=f"more objects in one picture than max_boxes = {max_boxes}",
                remedy=f"raise max_boxes to {targets(fullest)}, the most in {data.name}",
            )
        )

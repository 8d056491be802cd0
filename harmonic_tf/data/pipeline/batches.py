"""From annotated pictures on disk to batches, with tf.data: for training and for evaluation.

Nothing here is random but through `seed`: what picture comes when, and what happens to it, depends
on its position in the stream alone, never on threads or on what was read before. No Python runs
per picture, but for formats that TensorFlow does not decode.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from harmonic_tf.backend import plain, tf
from harmonic_tf.data.checks import refuse
from harmonic_tf.data.example import (
    TENSORFLOW,
    Annotation,
    DataError,
    DetectionData,
    Problem,
)
from harmonic_tf.data.pipeline import transforms
from harmonic_tf.data.pipeline.augmentation import Augmentation, augmented
from harmonic_tf.data.pipeline.cache import Cache
from harmonic_tf.data.pipeline.reading import Reader
from harmonic_tf.data.pipeline.service import distributed, epoch_of_worker

_USUAL = Augmentation()
_NONE = Augmentation(transforms=())


def training_batches(
    data: DetectionData,
    image_size: int | Sequence[int],
    batch_size: int,
    seed: int,
    max_boxes: int = 100,
    augmentation: Augmentation | None = _USUAL,
    start_batch: int = 0,
    shard: tuple[int, int] = (0, 1),
    replicas: int = 1,
    cache: Cache | None = None,
    service: str | None = None,
) -> tf.data.Dataset:
    """An endless stream of augmented batches, the same one whenever the arguments are the same.

    Each epoch holds every picture once, in an order of its own; epochs follow each other without
    a seam, so that a batch may hold the end of one and the start of the next, or several of a data
    set smaller than a batch. Objects marked difficult are trained on. Crowd regions are no
    training targets: they take part in every transform and are left out at the very end.

    Args:
        data: what to train on.
        image_size: side S of the letterboxed pictures, pixels. Of several sizes each batch has one,
            drawn from the seed and the batch's place in the stream.
        batch_size: pictures per batch, B.
        seed: any integer.
        max_boxes: objects per picture that there is room for, M.
        augmentation: how to vary the pictures; None leaves them as they are.
        start_batch: where in the stream to start, >= 0: the batches before it are left out at
            no cost.
        shard: `(index, count)`: of every `count` batches only the one at `index`, at no cost for
            the others. This is how several readers share one stream.
        replicas: how many batches in a row, the ones of a step, have the same size.
        cache: the decoded pictures, if they are kept; see `harmonic_tf.data.pipeline.cache`.
        service: `"HOST:PORT"` of a tf.data service that is to do the work; the stream is then
            another one at every start, see `harmonic_tf.data.pipeline.service`.

    Returns:
        A dataset of (images, {"boxes", "classes"}): uint8 [B, S, S, 3], float32 [B, M, 4] as xyxy
        in pixels of the letterboxed picture, and float32 [B, M]. Unused places hold -1. Where there
        are several sizes, S is None.

    Raises:
        DataError: there is no picture, or one may come to have more objects than there is room for,
            or the service cannot be reached, or not have the cache or decode a picture.
    """
    _check_not_empty(data)
    if service is not None and cache is None:
        _check_decoders(data)
    _check_room(data, max_boxes, augmentation)
    reader = Reader(data, cache)
    sizes = [image_size] if isinstance(image_size, int) else list(image_size)
    shard_index, shard_count = shard

    def in_shard(position, _):
        return (position // batch_size) % shard_count == shard_index

    def load(position, picture):
        def of_size(size):
            picture_seed = tf.stack([seed, position])
            example = augmented(reader, picture, size, picture_seed, augmentation or _NONE)
            example = transforms.pad_to_square(_to_levels(example), size)
            return _image_and_targets(example, max_boxes)

        if len(sizes) == 1:
            return of_size(sizes[0])
        step_seed = tf.stack([seed, position // (batch_size * replicas)])
        which = tf.random.stateless_uniform([], step_seed, maxval=len(sizes), dtype=tf.int32)
        return tf.switch_case(which, [functools.partial(of_size, size) for size in sizes])

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1  # pictures are worked on side by side instead
    batches = (
        _order(data, seed, start_batch * batch_size, epoch_of_worker() if service else None)
        .filter(plain(in_shard))
        .map(plain(load), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )
    return batches if service is None else distributed(batches, service, cache)


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


def _order(
    data: DetectionData, seed: int, start: int, epochs: tf.data.Dataset | None = None
) -> tf.data.Dataset:
    """Which picture comes when: endless (position in the stream, picture), from `start` on.

    Other `epochs` than those from the start on leave out no picture of theirs.
    """
    count = len(data.annotations)

    def shuffled(epoch):
        order = tf.range(count, dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(order, seed=tf.stack([seed, epoch]))
        positions = epoch * count + tf.range(count, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((positions, order))

    if epochs is not None:
        return epochs.flat_map(plain(shuffled))
    return tf.data.Dataset.counter(start // count).flat_map(plain(shuffled)).skip(start % count)


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
    reader = Reader(data)

    def load(position):
        example = reader.whole(tf.minimum(position, count - 1))
        return {
            "images": transforms.letterbox(example, image_size)["image"],
            "index": tf.where(position < count, position, -1),
            "source_size": tf.shape(example["image"])[:2],
        }

    return (
        tf.data.Dataset.range(-(-count // batch_size) * batch_size)
        .map(plain(load), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


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


def _to_levels(example: transforms.Example) -> transforms.Example:
    """Rounds an image to uint8, what is out of 0..255 to the nearest of them, in one pass."""
    levels, _, _ = tf.raw_ops.QuantizeV2(
        input=example["image"], min_range=0.0, max_range=255.0, T=tf.quint8, mode="MIN_COMBINED"
    )
    return {**example, "image": tf.bitcast(levels, tf.uint8)}


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


def _check_decoders(data: DetectionData) -> None:
    """A service runs no Python of ours."""
    for annotation in data.annotations:
        if annotation.decoder != TENSORFLOW:
            refuse(
                annotation.image_path,
                "file",
                f"decoded by {annotation.decoder}",
                "picture cannot be decoded by a tf.data service",
                "Convert the data set to TFRecords first (harmonic-tf convert), or use a cache",
            )


def _check_room(data: DetectionData, max_boxes: int, augmentation: Augmentation | None) -> None:
    def targets(annotation: Annotation) -> int:
        return int(np.sum(~annotation.crowd))

    fullest = max(data.annotations, key=targets)
    most = (augmentation or _NONE).most_objects(targets(fullest))
    if most > max_boxes:
        made_up = "" if most == targets(fullest) else ", put together from several or copied,"
        raise DataError(
            Problem(
                file=str(fullest.image_path),
                field="objects",
                value=str(targets(fullest)),
                problem=f"more objects in one picture{made_up} than max_boxes = {max_boxes}",
                remedy=f"raise max_boxes to {most}, the most in {data.name}",
            )
        )

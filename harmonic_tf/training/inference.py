"""From a model and a data set to what `harmonic_tf.evaluation` measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf, traced
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.pipeline.batches import evaluation_batches
from harmonic_tf.data.pipeline.transforms import letterbox, unletterbox_boxes
from harmonic_tf.evaluation import Detections, GroundTruth
from harmonic_tf.models import DetectionDecoder, JointDetector

CANDIDATES = 1000
"""How many detections per picture are looked at before NMS; as many as RetinaNet decodes of each
pyramid level, arXiv 1708.02002, section 4.1."""

Found = Mapping[str, tf.Tensor]
"""Detections of a batch as `DetectionDecoder` gives them, boxes as xyxy."""


def ground_truth_of(data: DetectionData) -> GroundTruth:
    """The objects of a data set, as evaluation takes them.

    Args:
        data: a loaded split.

    Returns:
        Its objects, picture by picture in the order of the data.
    """
    annotations = data.annotations
    counts = [len(annotation.boxes) for annotation in annotations]

    def column(name: str, dtype: type, *shape: int) -> np.ndarray:
        parts = [np.reshape(getattr(annotation, name), (-1, *shape)) for annotation in annotations]
        return np.concatenate(parts).astype(dtype)

    def extra(name: str) -> np.ndarray:
        unknown = [np.full(count, np.nan) for count in counts]
        parts = [a.extras.get(name, nan) for a, nan in zip(annotations, unknown)]
        return np.concatenate(parts).astype(np.float32)

    return GroundTruth(
        image_ids=[annotation.image_id for annotation in annotations],
        class_names=data.class_names,
        image_index=np.repeat(np.arange(len(annotations)), counts),
        boxes=column("boxes", np.float32, 4),
        classes=column("classes", np.int64),
        difficult=column("difficult", bool),
        crowd=column("crowd", bool),
        extras={name: extra(name) for name in sorted({n for a in annotations for n in a.extras})},
    )


def prediction_function(
    model: keras.Model, decoder: DetectionDecoder | None = None
) -> Callable[[tf.Tensor], Found]:
    """Compiles what `detect` calls; keep it to call it again.

    Unlike `model.predict` it takes no part in a strategy that happens to be in scope, so that one
    of several hosts can detect while the others go on.

    Args:
        model: a detector of this package.
        decoder: in place of the model's own.
    """
    if decoder is None:
        return _compiled(model.predict_step)
    return _compiled(
        lambda images: model.decode_predictions(model(images, training=False), images, decoder)
    )


def before_and_after_function(
    model: JointDetector, max_candidates: int = CANDIDATES
) -> Callable[[tf.Tensor], tuple[Found, Found]]:
    """Compiles what `detect_before_and_after` calls: one pass of the network, decoded twice.

    Args:
        model: a detector whose decoder is a `DetectionDecoder`.
        max_candidates: the best so many of a picture are taken before NMS.
    """
    own = model.prediction_decoder
    keep_all = DetectionDecoder(
        own.score_threshold,
        max_detections=max_candidates,
        nms="none",
        class_agnostic=own.class_agnostic,
    )

    def predict(images):
        outputs = model(images, training=False)
        return (
            model.decode_predictions(outputs, images, keep_all),
            model.decode_predictions(outputs, images),
        )

    return _compiled(predict)


def _compiled(function: Callable[[tf.Tensor], Any]) -> Callable[[tf.Tensor], Any]:
    """Compiles for each size of pictures, any number of which may be given.

    TensorFlow fuses operations otherwise where it knows that number, which changes how bfloat16 is
    rounded. Left open, the numbers are those of `model.predict` and of an exported model.
    """
    compiled = traced(function)

    def call(images: tf.Tensor) -> Any:
        spec = tf.TensorSpec([None, *images.shape[1:]], images.dtype)
        return compiled.get_concrete_function(spec)(images)

    return call


def detect(
    predict: Callable[[tf.Tensor], Found],
    data: DetectionData,
    image_size: int,
    batch_size: int,
    progress: bool = True,
) -> Detections:
    """Runs a detector over every picture of a data set.

    Args:
        predict: from images float32 [B, S, S, 3] to detections: the `prediction_function` of a
            model.
        data: the pictures.
        image_size: side of the model's square input, pixels.
        batch_size: pictures per step.
        progress: whether to show a progress bar.

    Returns:
        Detections in the pixels of the source pictures, clipped to them.
    """
    batches = _batches(data, image_size, batch_size, progress)
    return _joined(
        [_in_source_pixels(predict(batch["images"]), batch, image_size) for batch in batches]
    )


def detect_in(
    predict: Callable[[tf.Tensor], Found], image: np.ndarray, image_size: int
) -> Detections:
    """Runs a detector over one picture, as `detect` does over those of a data set.

    Args:
        predict: see `detect`.
        image: uint8 [H, W, 3].
        image_size: side of the model's square input, pixels.

    Returns:
        Detections in the picture's pixels, clipped to it.
    """
    example = {"image": tf.constant(image), "boxes": tf.zeros([0, 4])}
    batch = {"index": tf.constant([0]), "source_size": tf.constant([image.shape[:2]])}
    found = predict(letterbox(example, image_size)["image"][None])
    return _in_source_pixels(found, batch, image_size)


def detect_before_and_after(
    predict: Callable[[tf.Tensor], tuple[Found, Found]],
    data: DetectionData,
    image_size: int,
    batch_size: int,
) -> tuple[Detections, Detections]:
    """As `detect`, before NMS and after it, from one pass of the network.

    Args:
        predict: the `before_and_after_function` of a model.
        data: the pictures.
        image_size: side of the model's square input, pixels.
        batch_size: pictures per step.

    Returns:
        The candidates before NMS, by falling score within each picture, and the detections after
        it: both with the model's score threshold, in the pixels of the source pictures.
    """
    parts = []
    for batch in _batches(data, image_size, batch_size):
        pair = predict(batch["images"])
        parts.append([_in_source_pixels(found, batch, image_size) for found in pair])
    before, after = zip(*parts)
    return _joined(before), _joined(after)


def _batches(
    data: DetectionData, image_size: int, batch_size: int, progress: bool = True
) -> Iterator[Mapping[str, tf.Tensor]]:
    """`evaluation_batches`, with a bar that counts the pictures when they are done."""
    with tqdm(
        total=len(data.annotations), desc="Detecting", unit="picture", disable=not progress
    ) as bar:
        for batch in evaluation_batches(data, image_size, batch_size):
            yield batch
            bar.update(int(np.sum(batch["index"].numpy() >= 0)))


def _joined(parts: Sequence[Detections]) -> Detections:
    fields = [field.name for field in dataclasses.fields(Detections)]
    return Detections(*(np.concatenate([getattr(part, f) for part in parts]) for f in fields))


def _in_source_pixels(found: Found, batch: Mapping[str, tf.Tensor], image_size: int) -> Detections:
    """The real detections of a batch, flat, in the pixels of their own pictures."""
    classes, scores = found["classes"].numpy(), found["confidence"].numpy()
    height, width = tf.unstack(batch["source_size"][:, None, :], axis=-1)
    boxes = unletterbox_boxes(found["boxes"], height, width, image_size)
    boxes = box_ops.clip(boxes, height, width).numpy()
    index = np.broadcast_to(batch["index"].numpy()[:, None], classes.shape)
    real = (classes >= 0) & (index >= 0) & (box_ops.area(boxes).numpy() > 0)
    return Detections(
        image_index=index[real],
        boxes=boxes[real],
        scores=scores[real],
        classes=classes[real].astype(np.int64),
    )

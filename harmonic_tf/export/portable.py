"""The detector for runtimes that are not TensorFlow: from letterboxed pictures to detections."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf, traced, value_of
from harmonic_tf.export.labels import write_labels
from harmonic_tf.export.versions import write_version
from harmonic_tf.models import DetectionDecoder, JointDetector

DECODING = "decoding"
"""Name scope of what comes after the network: boxes, scores, suppression."""


@dataclasses.dataclass(frozen=True)
class Portable:
    """A detector as a function of letterboxed pictures.

    Its input is `images` [B, S, S, 3], values from 0 to 255, as `transforms.letterbox` gives them.
    Boxes are xyxy in pixels of that square; `transforms.unletterbox_boxes` is the way back.

    With suppression it answers like a signature of `ServingModule`: `boxes` float32 [B, N, 4],
    `scores` float32 [B, N], `classes` int32 [B, N], `num_detections` int32 [B], padded with boxes
    and scores of 0 and the class -1. Without, with all of its A boxes, clipped to the square:
    `boxes` float32 [B, A, 4] and `scores` float32 [B, A, C], calibrated if the model's decoder has
    a calibration.

    Args:
        function: a `tf.function`.
        holder: keeps its variables.
    """

    function: Callable
    holder: tf.Module


def portable(
    model: JointDetector,
    images: tf.TensorSpec,
    decoder: DetectionDecoder | None,
) -> Portable:
    """Makes a detector portable.

    Args:
        model: built in float32.
        images: the input: [B or None, S, S, 3], float32 or uint8.
        decoder: suppresses; None leaves all boxes.
    """
    size = images.shape[1]

    spec = tf.TensorSpec(images.shape, images.dtype, "images")

    @functools.partial(traced, input_signature=[spec])
    def detect(images):
        pixels = tf.cast(images, tf.float32)
        outputs = model(pixels, training=False)
        with tf.name_scope(DECODING):
            if decoder is None:
                dense = model.dense_predictions(outputs, size, size)
                boxes = box_ops.clip(dense["boxes"], size, size)
                scores = model.class_scores(dense["logits"])
                scores = model.prediction_decoder.calibrate_dense(scores)
                return {"boxes": boxes, "scores": scores}
            found = model.decode_predictions(outputs, pixels, decoder)
            boxes = box_ops.convert(found["boxes"], model.bounding_box_format, "xyxy", size, size)
            real = found["classes"] >= 0
            return {
                "boxes": tf.where(real[..., None], boxes, 0.0),
                "scores": tf.where(real, found["confidence"], 0.0),
                "classes": found["classes"],
                "num_detections": found["num_detections"],
            }

    holder = tf.Module()
    # Without Keras's functions for every layer.
    holder.weights = [value_of(weight) for weight in model.weights]
    return Portable(detect, holder)


def write_portable(
    content: bytes,
    file_name: str,
    class_names: Sequence[str],
    export_dir: str,
    version: int | None,
) -> str:
    """Writes a converted model with its labels as a version, see `write_version`."""

    def write(folder: str) -> None:
        with open(os.path.join(folder, file_name), "wb") as file:
            file.write(content)
        write_labels(folder, class_names)

    return write_version(os.path.abspath(export_dir), write, version)

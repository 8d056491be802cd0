"""Runs exported models as `harmonic_tf.training.inference.detect` takes them, to measure them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from harmonic_tf.backend import tf
from harmonic_tf.export.labels import read_labels
from harmonic_tf.export.onnx import ONNX_FILE
from harmonic_tf.export.tflite import TFLITE_FILE
from harmonic_tf.models import DetectionDecoder

SAVED_MODEL_FILE = "saved_model.pb"

Answer = Mapping[str, np.ndarray]
"""The outputs of an exported model by name."""


class Exported(NamedTuple):
    """An exported model, ready to run.

    Args:
        predict: from letterboxed pictures float32 [B, S, S, 3] to detections as `DetectionDecoder`
            gives them, in pixels of the square.
        image_size: side S, pixels.
        class_names: name of each class.
    """

    predict: Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
    image_size: int
    class_names: list[str]


def is_exported(folder: str) -> bool:
    """Whether a folder is a version of an exported model."""
    return _file_in(folder) is not None


def load_exported(folder: str, decoder: DetectionDecoder) -> Exported:
    """Loads a version of an exported model.

    Args:
        folder: with `saved_model.pb`, `model.tflite` or `model.onnx` in it.
        decoder: suppresses where the model does not do so itself.

    Raises:
        FileNotFoundError: there is no model, or its labels are missing.
        ImportError: onnxruntime is not installed.
    """
    name = _file_in(folder)
    if name is None:
        raise FileNotFoundError(
            f"{folder}: none of {', '.join(_LOADERS)} is in it. Give the folder of a version, such "
            "as models/NAME/1."
        )
    run, image_size = _LOADERS[name](folder)
    labels = os.path.join(folder, "assets") if name == SAVED_MODEL_FILE else folder

    def predict(images: tf.Tensor) -> Mapping[str, tf.Tensor]:
        answer = {key: tf.constant(value) for key, value in run(images.numpy()).items()}
        if "classes" not in answer:
            return decoder(answer["boxes"], answer["scores"])
        return {
            "boxes": answer["boxes"],
            "confidence": answer["scores"],
            "classes": answer["classes"],
        }

    return Exported(predict, image_size, read_labels(labels))


def _file_in(folder: str) -> str | None:
    return next((n for n in _LOADERS if os.path.isfile(os.path.join(folder, n))), None)


def _load_saved_model(folder: str) -> tuple[Callable[[np.ndarray], Answer], int]:
    model = tf.saved_model.load(folder)

    def run(images: np.ndarray) -> Answer:
        answer = model.signatures["predict_float_images"](images=tf.constant(images))
        return {name: value.numpy() for name, value in answer.items()}

    return run, int(model.image_size)


def _load_tflite(folder: str) -> tuple[Callable[[np.ndarray], Answer], int]:
    interpreter = tf.lite.Interpreter(os.path.join(folder, TFLITE_FILE), num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()["images"]

    def run(images: np.ndarray) -> Answer:
        if details["dtype"] == np.uint8:
            images = np.rint(images).astype(np.uint8)
        answers = [runner(images=image[None]) for image in images]
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    return run, int(details["shape"][1])


def _load_onnx(folder: str) -> tuple[Callable[[np.ndarray], Answer], int]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "ONNX models run on onnxruntime, which is an extra: pip install 'harmonic_tf[onnx]'."
        ) from error
    session = onnxruntime.InferenceSession(
        os.path.join(folder, ONNX_FILE), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> Answer:
        return dict(zip(names, session.run(names, {"images": images})))

    return run, session.get_inputs()[0].shape[1]


_LOADERS = {
    SAVED_MODEL_FILE: _load_saved_model,
    TFLITE_FILE: _load_tflite,
    ONNX_FILE: _load_onnx,
}

"""A detector for TensorFlow Lite, on phones and boards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from harmonic_tf.backend import quiet, tf
from harmonic_tf.export.labels import check_labels
from harmonic_tf.export.portable import DECODING, Portable, portable, write_portable
from harmonic_tf.models import JointDetector, PortableDecoder

TFLITE_FILE = "model.tflite"
"""Name of the model in the folder of a version."""

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
"""How weights and activations are stored: float32; weights in float16; weights in int8; both in
int8, with scales taken from pictures."""

# What TensorFlow Lite calls the model's outputs.
_OUTPUTS = "StatefulPartitionedCall"


def export_tflite(
    model: JointDetector,
    class_names: Sequence[str],
    export_dir: str,
    image_size: int,
    quantization: str = "none",
    suppress: bool = True,
    pictures: Iterable[np.ndarray] | None = None,
    version: int | None = None,
) -> str:
    """Writes a version with `model.tflite`, for one picture at a time, and `labels.txt`.

    Its one signature is described in `Portable`. The input is float32, or uint8 with
    `quantization="int8"`. In int8 it is the network that is quantized: the arithmetic of boxes,
    whose numbers span from a stride to the picture's side, stays in float32.

    Args:
        model: built in float32; its decoder's choices are those of the exported model.
        class_names: name of each class.
        export_dir: folder of the model's versions.
        image_size: side S of the input, pixels.
        quantization: one of `QUANTIZATIONS`.
        suppress: whether non-maximum suppression is part of the model.
        pictures: letterboxed pictures [S, S, 3], values from 0 to 255, to take scales from; for
            int8 alone. A hundred of the training pictures will do.
        version: see `write_version`.

    Returns:
        The folder of the version.

    Raises:
        ValueError: for an unknown quantization, int8 without pictures or of a network that
            computes boxes, or names that do not fit the model.
        FileExistsError: the version is there already.
        OSError: the folder cannot be written to.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization = {quantization!r} must be one of {QUANTIZATIONS}.")
    if quantization == "int8" and not model.quantizable:
        raise ValueError(
            f"quantization = 'int8': {type(model).__name__} computes boxes within its network, for "
            "which whole numbers up to 255 are too coarse. Choose 'dynamic' or 'float16'."
        )
    check_labels(class_names, model)
    integers = quantization == "int8"
    spec = tf.TensorSpec([1, image_size, image_size, 3], tf.uint8 if integers else tf.float32)
    decoder = PortableDecoder(**model.prediction_decoder.get_config()) if suppress else None
    detector = portable(model, spec, decoder)
    requests = _requests(pictures) if integers else None
    with quiet():  # it lists every kind of operation
        if integers:
            content = _in_integers(detector, requests)
        else:
            content = _in_floats(detector, quantization)
    return write_portable(content, TFLITE_FILE, class_names, export_dir, version)


def _converter(detector: Portable) -> tf.lite.TFLiteConverter:
    concrete = detector.function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], detector.holder)


def _requests(pictures: Iterable[np.ndarray] | None) -> Callable[[], Iterator[list[np.ndarray]]]:
    """The pictures as the converter asks for them, which it does more than once."""
    pictures = () if pictures is None else pictures
    rounded = [np.rint(picture).astype(np.uint8)[None] for picture in pictures]
    if not rounded:
        raise ValueError("int8 takes its scales from pictures: give some, such as a hundred.")
    return lambda: ([picture] for picture in rounded)


def _in_floats(detector: Portable, quantization: str) -> bytes:
    converter = _converter(detector)
    if quantization != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _in_integers(detector: Portable, requests: Callable[[], Iterator[list[np.ndarray]]]) -> bytes:
    """The network in int8; what comes after it, told by its name, as it is."""
    interpreter = tf.lite.Interpreter(model_content=_in_floats(detector, "none"))
    names = [tensor["name"] for tensor in interpreter.get_tensor_details()]
    converter = _converter(detector)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = requests
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=requests,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=[n for n in names if n.startswith((f"{DECODING}/", _OUTPUTS))]
        ),
    )
    return debugger.get_nondebug_quantized_model()

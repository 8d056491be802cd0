"""A detector for ONNX Runtime and what else reads ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from harmonic_tf.backend import tf
from harmonic_tf.export.labels import check_labels
from harmonic_tf.export.portable import portable, write_portable
from harmonic_tf.models import JointDetector

ONNX_FILE = "model.onnx"
"""Name of the model in the folder of a version."""

# The first with all operations that are needed is 12; runtimes of 2022 know this one.
_OPSET = 17


def export_onnx(
    model: JointDetector,
    class_names: Sequence[str],
    export_dir: str,
    image_size: int,
    suppress: bool = True,
    version: int | None = None,
) -> str:
    """Writes a version with `model.onnx`, for any number of pictures at a time, and `labels.txt`.

    Inputs and outputs are described in `Portable`; the input is float32.

    Args:
        model: built in float32; its decoder's choices are those of the exported model.
        class_names: name of each class.
        export_dir: folder of the model's versions.
        image_size: side S of the input, pixels.
        suppress: whether non-maximum suppression is part of the model.
        version: see `write_version`.

    Returns:
        The folder of the version.

    Raises:
        ImportError: tf2onnx is not installed.
        ValueError: the decoder's is Soft-NMS, which ONNX has no operation for; or the names do not
            fit the model.
        FileExistsError: the version is there already.
        OSError: the folder cannot be written to.
    """
    try:
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "ONNX needs tf2onnx, which is an extra: pip install 'harmonic_tf[onnx]'."
        ) from error
    check_labels(class_names, model)
    decoder = model.prediction_decoder if suppress else None
    if decoder is not None and decoder.nms == "soft":
        raise ValueError("nms = 'soft' is unknown to ONNX. Take hard NMS, or leave NMS outside.")
    images = tf.TensorSpec([None, image_size, image_size, 3], tf.float32)
    function = portable(model, images, decoder).function
    proto, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    return write_portable(proto.SerializeToString(), ONNX_FILE, class_names, export_dir, version)

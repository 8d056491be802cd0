"""From a trained detector to what runs without this package: TensorFlow Serving, phones, ONNX."""

from harmonic_tf.export.onnx import export_onnx
from harmonic_tf.export.saved_model import export_model
from harmonic_tf.export.server_files import write_server_files
from harmonic_tf.export.serving import ServingSettings
from harmonic_tf.export.tflite import QUANTIZATIONS, export_tflite
from harmonic_tf.export.versions import check_export_dir

__all__ = [
    "QUANTIZATIONS",
    "ServingSettings",
    "check_export_dir",
    "export_model",
    "export_onnx",
    "export_tflite",
    "write_server_files",
]

r"""Writes the detector of a training run for TensorFlow Serving, TensorFlow Lite or ONNX.

harmonic-tf export --run=runs/quickstart --export_dir=models/scenes
harmonic-tf export --run=runs/quickstart --export_dir=models/scenes-int8 --format=tflite \
    --quantization=int8

Thresholds and NMS are those of the run where they are not given. Scores are calibrated where the
run has a calibration.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from absl import flags

from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.pipeline.batches import evaluation_batches
from harmonic_tf.data.splits import Parts
from harmonic_tf.export import (
    QUANTIZATIONS,
    ServingSettings,
    export_model,
    export_onnx,
    export_tflite,
    write_server_files,
)
from harmonic_tf.export.serving import MAX_BATCH
from harmonic_tf.models import JointDetector
from harmonic_tf.shell import command, quoted
from harmonic_tf.training.building import load_model
from harmonic_tf.training.precision import set_precision
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import SettingsError

from .. import common, data, model
from .. import experiment as experiments
from ..command_line import value_in
from ..running import Command, UsageError

SAVED_MODEL, TFLITE, ONNX = FORMATS = ("saved_model", "tflite", "onnx")
PICTURES = 100

_FORMAT = flags.DEFINE_enum("format", SAVED_MODEL, FORMATS, "What the model is written as.")
_MAX_BATCH = flags.DEFINE_integer(
    "max_batch", MAX_BATCH, "SavedModel: most images of a request.", lower_bound=1
)
_QUANTIZATION = flags.DEFINE_enum(
    "quantization", QUANTIZATIONS[0], QUANTIZATIONS, "TensorFlow Lite: number format."
)
_NMS_OUTSIDE = flags.DEFINE_bool(
    "nms_outside",
    False,
    "TensorFlow Lite and ONNX: answer with all boxes and their scores, without NMS.",
)
_CALIBRATION_IMAGES = flags.DEFINE_integer(
    "calibration_images",
    PICTURES,
    "TensorFlow Lite: training images that int8 takes its scales from.",
    lower_bound=1,
)
# Flags that one format alone knows; the others refuse them.
_ONLY = {
    SAVED_MODEL: ("max_batch", "max_pixels", "precision"),
    TFLITE: ("quantization", "nms_outside", "calibration_images"),
    ONNX: ("nms_outside",),
}


def main() -> None:
    """Loads, exports, says where."""
    values = flags.FLAGS
    if not common.RUN.value or not values.export_dir:
        raise UsageError("--run=DIR of a training run and --export_dir=models/NAME are needed.")
    run = RunDirectory(common.RUN.value)
    try:
        folder, next_step = _EXPORTERS[_FORMAT.value](run, values.export_dir)
    except (ImportError, ValueError) as error:
        raise SettingsError(str(error)) from error
    print(f"{folder}\n\n{next_step}")


def flags_of_exported_run(arguments: Sequence[str]) -> Sequence[str]:
    """The flags of the run; flags that are not of the format asked for are refused."""
    chosen = value_in(arguments, "format") or SAVED_MODEL
    for name in sorted({name for names in _ONLY.values() for name in names}):
        given = any(value_in(arguments, form) is not None for form in (name, f"no{name}"))
        if given and chosen in FORMATS and name not in _ONLY[chosen]:
            raise UsageError(f"--{name} is not for --format={chosen}.")
    if value_in(arguments, "calibration_images") and value_in(arguments, "quantization") != "int8":
        raise UsageError("--calibration_images is for --quantization=int8.")
    folder = value_in(arguments, "run")
    return experiments.flags_of_run(folder) if folder else ()


def _export_saved_model(run: RunDirectory, export_dir: str) -> tuple[str, str]:
    """Exports; returns the folder, and what to say of the next step."""
    values = flags.FLAGS
    detector = _detector(run, values.precision)
    settings = ServingSettings(_image_size(detector), _MAX_BATCH.value, values.max_pixels)
    version = common.MODEL_VERSION.value
    folder = export_model(detector, run.class_names(), export_dir, settings, version)
    kept = write_server_files(export_dir, _MAX_BATCH.value)
    notes = [f"Left as it is, though it would be another one now: {name}" for name in kept]
    show = f"Show it: saved_model_cli show --dir {quoted(folder)} --all"
    return folder, "\n".join([*notes, show, _measure_it(run, folder)])


def _export_tflite(run: RunDirectory, export_dir: str) -> tuple[str, str]:
    detector = _detector(run, "float32")
    size, images = _image_size(detector), None
    if _QUANTIZATION.value == "int8":
        batches = evaluation_batches(_training_images(run), size, 1)
        images = (batch["images"][0].numpy() for batch in batches)
    folder = export_tflite(
        detector,
        run.class_names(),
        export_dir,
        size,
        _QUANTIZATION.value,
        not _NMS_OUTSIDE.value,
        images,
        common.MODEL_VERSION.value,
    )
    return folder, _measure_it(run, folder)


def _export_onnx(run: RunDirectory, export_dir: str) -> tuple[str, str]:
    detector = _detector(run, "float32")
    folder = export_onnx(
        detector,
        run.class_names(),
        export_dir,
        _image_size(detector),
        not _NMS_OUTSIDE.value,
        common.MODEL_VERSION.value,
    )
    return folder, _measure_it(run, folder)


_EXPORTERS = {SAVED_MODEL: _export_saved_model, TFLITE: _export_tflite, ONNX: _export_onnx}


def _measure_it(run: RunDirectory, folder: str) -> str:
    return f"Measure it: {command('evaluate', f'--run={run.path}', f'--checkpoint={folder}')}"


def _detector(run: RunDirectory, precision: str) -> JointDetector:
    """The run's detector with the decoder that the flags ask for."""
    path = common.CHECKPOINT.value
    path = run.checkpoint(path) if path in ("best", "last") else path
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path}: no such checkpoint. Give --run=DIR of a training run, or "
            "--checkpoint=FILE.keras."
        )
    set_precision(precision)
    decoder = model.decoder()
    return load_model(path, decoder, common.calibration(decoder.nms))


def _image_size(detector: JointDetector) -> int:
    """Side of the detector's input; where that is open, the one that it was measured at."""
    return detector.image_size or flags.FLAGS.image_size


def _training_images(run: RunDirectory) -> DetectionData:
    """Some of the images that the run was trained on, evenly spread over them."""
    values = flags.FLAGS
    source = Parts(values.dataset, "skip", data.cut(values.dataset))
    images = source.load(values.train_split, run.class_names())
    count = min(_CALIBRATION_IMAGES.value, len(images.annotations))
    places = np.linspace(0, len(images.annotations) - 1, count)
    some = [images.annotations[int(place)] for place in places]
    return check_pictures(dataclasses.replace(images, annotations=some), "skip")


COMMAND = Command(
    main,
    [
        *("run", "checkpoint", "calibrated", "export_dir", "model_version", "format"),
        *model.DECODING,
        *("max_batch", "max_pixels", "precision"),
        *("nms_outside", "quantization", "calibration_images"),
    ],
    before=flags_of_exported_run,
)

r"""Writes the detector of a training run for TensorFlow Serving, TensorFlow Lite or ONNX.

python -m harmonic_tf.export --run=runs/quickstart --export_dir=models/scenes
python -m harmonic_tf.export --run=runs/quickstart --export_dir=models/scenes-int8 \
    --format=tflite --quantization=int8
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence

import numpy as np

from harmonic_tf.data import sources
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.images.checking import MAX_PIXELS, check_pictures
from harmonic_tf.data.pipeline.batches import evaluation_batches
from harmonic_tf.export import (
    QUANTIZATIONS,
    ServingSettings,
    export_model,
    export_onnx,
    export_tflite,
    write_server_files,
)
from harmonic_tf.export.serving import MAX_BATCH
from harmonic_tf.models import NMS_CHOICES, DetectionDecoder, JointDetector
from harmonic_tf.training.building import load_model
from harmonic_tf.training.command_line import expanded, value_in
from harmonic_tf.training.precision import PRECISIONS, set_precision
from harmonic_tf.training.run_directory import RunDirectory

SAVED_MODEL, TFLITE, ONNX = FORMATS = ("saved_model", "tflite", "onnx")
PICTURES = 100

# Options that one format alone knows, with what they are where not given.
_DEFAULTS = {
    SAVED_MODEL: {"max_batch": MAX_BATCH, "max_pixels": MAX_PIXELS, "precision": None},
    TFLITE: {"quantization": QUANTIZATIONS[0], "nms_outside": False, "pictures": PICTURES},
    ONNX: {"nms_outside": False},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: loads, exports, says where."""
    options = _options(arguments)
    run = RunDirectory(options.run)
    try:
        folder, next_step = _EXPORTERS[options.format](run, options)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"export: {error}")
    sys.stdout.write(f"{folder}\n\n{next_step}\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with defaults; options of other formats are refused."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = _DEFAULTS[options.format]
    for name in sorted({name for defaults in _DEFAULTS.values() for name in defaults}):
        if name not in known and getattr(options, name) is not None:
            parser.error(f"--{name} is not for --format={options.format}.")
        if getattr(options, name) is None:
            setattr(options, name, known.get(name))
    if options.pictures != PICTURES and options.quantization not in (None, "int8"):
        parser.error("--pictures is for --quantization=int8.")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harmonic_tf.export",
        description=__doc__.partition("\n")[0],
        epilog="Thresholds and NMS are those of the run where they are not given.",
    )
    add = parser.add_argument
    add("--run", required=True, help="folder of a training run")
    add("--export_dir", required=True, help="folder of the model, which gets a version")
    add("--checkpoint", default="best", help="best, last or a .keras file; default: %(default)s")
    add("--version", type=int, help="by default the one after the highest")
    add("--format", choices=FORMATS, default=SAVED_MODEL, help="default: %(default)s")

    add = parser.add_argument_group("detections").add_argument
    add("--score_threshold", type=_fraction, help="detections at or below it are dropped")
    add("--nms_iou", type=_fraction, help="overlap above which hard NMS drops a detection")
    add("--nms", choices=NMS_CHOICES, help="how overlapping detections are suppressed")
    add("--class_agnostic_nms", action="store_const", const=True, help="over all classes")
    add("--max_detections", type=int, help="most detections of a picture")

    add = parser.add_argument_group("SavedModel").add_argument
    add("--max_batch", type=int, help=f"pictures of a request; default: {MAX_BATCH}")
    add("--max_pixels", type=int, help=f"of a picture; default: {MAX_PIXELS}")
    add("--precision", choices=PRECISIONS, help="of the network; by default the run's")

    add = parser.add_argument_group("TensorFlow Lite and ONNX, in float32").add_argument
    add(
        "--nms_outside",
        action="store_const",
        const=True,
        help="answer with all boxes and their scores, without NMS",
    )
    add("--quantization", choices=QUANTIZATIONS, help="TensorFlow Lite; default: none")
    add(
        "--pictures",
        type=int,
        help=f"training pictures that int8 takes its scales from; default: {PICTURES}",
    )
    return parser


def _fraction(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} must be in [0, 1]")
    return value


def _export_saved_model(run: RunDirectory, options: argparse.Namespace) -> tuple[str, str]:
    """Exports; returns the folder, and what to say of the next step."""
    precision = options.precision or json.loads(run.read_text("version.json"))["precision"]
    model = _model(run, options, precision)
    settings = ServingSettings(_image_size(run, model), options.max_batch, options.max_pixels)
    folder = export_model(model, run.class_names(), options.export_dir, settings, options.version)
    kept = write_server_files(options.export_dir, options.max_batch)
    notes = [f"Left as it is, though it would be another one now: {name}" for name in kept]
    return folder, "\n".join([*notes, f"Show it: saved_model_cli show --dir {folder} --all"])


def _export_tflite(run: RunDirectory, options: argparse.Namespace) -> tuple[str, str]:
    model = _model(run, options, "float32")
    size, pictures = _image_size(run, model), None
    if options.quantization == "int8":
        batches = evaluation_batches(_training_pictures(run, options.pictures), size, 1)
        pictures = (batch["images"][0].numpy() for batch in batches)
    folder = export_tflite(
        model,
        run.class_names(),
        options.export_dir,
        size,
        options.quantization,
        not options.nms_outside,
        pictures,
        options.version,
    )
    return folder, _measure_it(run, folder)


def _export_onnx(run: RunDirectory, options: argparse.Namespace) -> tuple[str, str]:
    model = _model(run, options, "float32")
    folder = export_onnx(
        model,
        run.class_names(),
        options.export_dir,
        _image_size(run, model),
        not options.nms_outside,
        options.version,
    )
    return folder, _measure_it(run, folder)


_EXPORTERS = {SAVED_MODEL: _export_saved_model, TFLITE: _export_tflite, ONNX: _export_onnx}


def _measure_it(run: RunDirectory, folder: str) -> str:
    return f"Measure it: python evaluate.py --run={run.path} --checkpoint={folder}"


def _model(run: RunDirectory, options: argparse.Namespace, precision: str) -> JointDetector:
    """The run's model with the decoder that the command line asks for."""
    path = options.checkpoint
    path = run.checkpoint(path) if path in ("best", "last") else path
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path}: no such checkpoint. Give --run=DIR of a training run, or "
            "--checkpoint=FILE.keras."
        )
    set_precision(precision)
    model = load_model(path)
    given = {
        "score_threshold": options.score_threshold,
        "iou_threshold": options.nms_iou,
        "nms": options.nms,
        "class_agnostic": options.class_agnostic_nms,
        "max_detections": options.max_detections,
    }
    given = {name: value for name, value in given.items() if value is not None}
    model.prediction_decoder = DetectionDecoder(
        **{**model.prediction_decoder.get_config(), **given}
    )
    return model


def _image_size(run: RunDirectory, model: JointDetector) -> int:
    """Side of the model's input; where the network leaves it open, the one it was measured at."""
    if model.image_size is not None:
        return model.image_size
    return int(_flag(run, "image_size"))


def _training_pictures(run: RunDirectory, count: int) -> DetectionData:
    """So many of the pictures that the run was trained on, evenly spread over them."""
    if count < 1:
        raise ValueError(f"pictures = {count} must be at least 1.")
    data = sources.load(_flag(run, "dataset"), _flag(run, "train_split"), run.class_names(), "skip")
    places = np.linspace(0, len(data.annotations) - 1, min(count, len(data.annotations)))
    some = [data.annotations[int(place)] for place in places]
    return check_pictures(dataclasses.replace(data, annotations=some), "skip")


def _flag(run: RunDirectory, name: str) -> str:
    """The value of a flag that the run was made with."""
    value = value_in(list(expanded([f"--flagfile={run.flags}"])), name)
    if value is None:
        raise ValueError(f"{run.flags}: no --{name} in it. Give a run that train.py has made.")
    return value


if __name__ == "__main__":
    main()

"""What `fuzz_readers` damages: a valid input of every reader, and how the product reads it."""

from __future__ import annotations

import collections
import dataclasses
import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path

import checkout  # noqa: F401 (before flags)
import fuzz_mutations as mutations
import numpy as np
from absl import flags as absl_flags
from PIL import Image

from flags.command_line import expanded
from flags.experiment import flags_of_run
from flags.running import UsageError
from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.data.example import Annotation, DataError
from harmonic_tf.data.images.checking import check_picture
from harmonic_tf.data.records.conversion import convert
from harmonic_tf.data.sources import load
from harmonic_tf.evaluation import (
    Calibration,
    CalibrationError,
    GroundTruth,
    ResultsError,
    read_calibration,
    read_detections,
    write_calibration,
)
from harmonic_tf.models import HarmonicRetinaNet, ModelFileError, build_backbone, load_detector
from harmonic_tf.models.torch_file import read_tensors
from harmonic_tf.shell import shortened
from harmonic_tf.training.ablation.rows import Row
from harmonic_tf.training.ablation.runs import Run
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import SettingsError
from harmonic_tf.training.state import newest_state

_CLASSES = ("cat", "dog")
_WIDTH, _HEIGHT = 40, 30
_IMAGE_SIZE = 64
_TORCH_HEADER = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


@dataclasses.dataclass(frozen=True)
class Reader:
    """One of the product's ways to read a file.

    Args:
        write: makes a valid input in an empty folder.
        read: reads it, as the product does.
        mutate: damages one file's bytes.
        files: patterns of the files in the folder that are damaged.
        errors: what `read` raises where an input is bad, in words for a user; besides an `OSError`
            that names its file.
        leads_outside: whether the format itself may name files elsewhere.
        share: of the cases, where others have 1: what takes long to read has less.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], object]
    mutate: mutations.Mutation
    files: tuple[str, ...]
    errors: tuple[type[Exception], ...] = (DataError,)
    leads_outside: bool = False
    share: float = 1.0


def _write_pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
    for name in names:
        Image.fromarray(pixels).save(folder / name)


def _write_coco(folder: Path) -> None:
    _write_pictures(folder / "train", "a.jpg", "b.png")
    size = {"width": _WIDTH, "height": _HEIGHT}
    names = {7: "a.jpg", 3: "b.png"}
    names = {7: "a.jpg", 3: "b.png"}
    boxes = {(7, 9): [1, 2, 10, 20], (7, 4): [5.5, 6.25, 3, 4], (3, 4): [0, 0, 40, 30]}
    rows = enumerate(boxes.items())
    document = {
        "images": [{"id": key, "file_name": name, **size} for key, name in names.items()],
        "annotations": [
            {"id": i, "image_id": image, "category_id": k, "bbox": box, "iscrowd": 0}
            for i, ((image, k), box) in rows
        ],
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog", "supercategory": "a"}],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(document))


def _write_voc(folder: Path) -> None:
    _write_pictures(folder / "JPEGImages", "p1.jpg", "p2.jpg")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("p1\np2\n")
    (folder / "Annotations").mkdir()
    corners = "<xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>22</ymax>"
    size = f"<size><width>{_WIDTH}</width><height>{_HEIGHT}</height><depth>3</depth></size>"
    flags = "<difficult>1</difficult><truncated>0</truncated>"
    things = [
        f"<object><name>{k}</name>{flags}<bndbox>{corners}</bndbox></object>" for k in _CLASSES
    ]
    for name in ("p1", "p2"):
        content = f"<filename>{name}.jpg</filename>{size}{''.join(things)}"
        path = folder / "Annotations" / f"{name}.xml"
        path.write_text(f"<annotation>{content}</annotation>")


def _write_yolo(folder: Path) -> None:
    _write_pictures(folder / "images" / "train", "a.jpg", "b.jpg")
    (folder / "labels" / "train").mkdir(parents=True)
    for name in ("a", "b"):
        labels = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.2 0.1\n1 0.1 0.1 0.5 0.1 0.4 0.6\n"
        (folder / "labels" / "train" / f"{name}.txt").write_text(labels)
    text = "path: .\ntrain: images/train\nval: images/train\nnc: 2\nnames:\n  0: cat\n  1: dog\n"
    (folder / "data.yaml").write_text(text)


def _write_records(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    _write_coco(source)
    convert(f"coco:{source}", str(folder / "records"), ["train"])
    label_map = "".join(f"item {{ id: {k} name: '{n}' }}\n" for k, n in enumerate(_CLASSES, 1))
    (folder / "records" / "label_map.pbtxt").write_text(label_map)


def _write_bare_records(folder: Path) -> None:
    """Without the manifest, whose checksums would refuse any damage before it is looked at."""
    _write_records(folder)
    (folder / "records" / "manifest.json").unlink()


def _write_images(folder: Path) -> None:
    _write_pictures(folder, "a.jpg", "a.png", "a.gif", "a.bmp", "a.webp", "a.tiff")
    pixels = np.zeros((_HEIGHT, _WIDTH), np.uint16)
    Image.fromarray(pixels).save(folder / "deep.png")
    Image.fromarray(pixels).save(folder / "deep.tiff", compression="tiff_lzw")
    image = Image.open(folder / "a.gif")
    image.convert("P").save(folder / "palette.bmp")
    image.save(folder / "two.gif", save_all=True, append_images=[image])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.convert("RGB").save(folder / "turned.jpg", exif=exif, progressive=True)


def _read_images(folder: Path) -> list[Annotation]:
    """Every picture as it is annotated, as far as its first error."""
    none = np.zeros((0, 4), np.float32), *(np.zeros(0, dtype) for dtype in (np.int32, bool, bool))
    checked = []
    for path in sorted(folder.iterdir()):
        width, height = (_WIDTH, _HEIGHT)[:: -1 if path.name == "turned.jpg" else 1]
        checked.append(check_picture(Annotation(str(path), path.name, width, height, *none)))
    return checked


def _backbone() -> keras.Model:
    return keras_cv.models.CSPDarkNetBackbone(
        stackwise_channels=[4] * 4,
        stackwise_depth=[1] * 4,
        include_rescaling=True,
        input_shape=(_IMAGE_SIZE, _IMAGE_SIZE, 3),
    )


def _write_detector(folder: Path) -> None:
    anchors = AnchorGrid(sizes=(8, 16, 32, 64, 128))
    options = {"anchors": anchors, "channels": 4, "head_depth": 1}
    detector = HarmonicRetinaNet(_backbone(), len(_CLASSES), "xyxy", **options)
    detector.save(folder / "best.keras")


def _write_preset(folder: Path) -> None:
    config = keras.saving.serialize_keras_object(_backbone())
    (folder / "config.json").write_text(json.dumps({**config, "weights": None}))


def _write_state(folder: Path) -> None:
    variables = {name: tf.Variable(tf.range(100.0)) for name in "abc"}
    for step in (1, 2):
        tf.train.Checkpoint(**variables).write(str(folder / f"step-{step}" / "state"))


def _ground_truth() -> GroundTruth:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 20]], np.float32)
    nothing = np.zeros(2, bool)
    return GroundTruth([1, "b"], _CLASSES, np.arange(2), boxes, np.arange(2), nothing, nothing)


def _write_results(folder: Path) -> None:
    row = {"image_id": 1, "category_id": 2, "bbox": [1, 2.5, 3, 4], "score": 0.5}
    (folder / "results.json").write_text(json.dumps([row, {**row, "image_id": "b"}]))


def _write_run(folder: Path) -> None:
    """All that a finished run keeps as text, as numbers and as its calibration."""
    run = RunDirectory(str(folder))
    settings = {"model": "retinanet", "epochs": 3, "anchor_ratios": ["0.5", "1"], "resume": False}
    run.write_settings(settings, "")
    run.write_class_names(_CLASSES)
    run.write_text("metrics.json", json.dumps({"coco": {"AP": 0.5, "AP50": None}}))
    run.add_step_times(1, 10, 2.5, 5.0)
    np.savez_compressed(folder / "bootstrap.npz", AP=np.arange(3, dtype=np.float32))


def _read_run(folder: Path) -> object:
    run = RunDirectory(str(folder))
    trained = Run(Row("baseline", "baseline", None, False, None), 0, str(folder))
    found = run.class_names(), flags_of_run(str(folder)), trained.metrics()
    run.add_step_times(2, 1, 1.0, 1.0)
    return *found, trained.step_times(), trained.draws()


def _write_calibration(folder: Path) -> None:
    table, numbers = np.array([[0.0, 0.4, 1.0], [0.1, 0.2, 0.9]]), {"LaECE": 0.1}
    calibration = Calibration(
        "isotonic", list(_CLASSES), table, "voc:a/val", {"cat": 3, "dog": 4}, numbers, numbers
    )
    write_calibration(str(folder / "calibration.json"), calibration)


def _write_flags(folder: Path) -> None:
    text = "# a comment\n--preset=quickstart_yolov8\n--epochs=3\n--nostop_gradient\n--seed=7\n"
    (folder / "flags.cfg").write_text(text)


def _read_flags(folder: Path) -> list[str]:
    """As a command reads them: what is there, and what absl makes of it."""
    try:
        arguments = list(expanded([f"--flagfile={folder / 'flags.cfg'}"]))
        return absl_flags.FLAGS(["train", *arguments])
    except (ValueError, absl_flags.Error) as error:  # as `flags.running` has it
        raise UsageError(shortened(str(error))) from error


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None


def _write_torch(folder: Path) -> None:
    """The layout of PyTorch before 1.6, with stand-ins of its names."""
    names = {"torch": ("FloatStorage",), "torch._utils": ("_rebuild_tensor_v2",)}
    for module, (name,) in names.items():
        stand_in = type(name, (), {"__module__": module})
        sys.modules[module] = types.SimpleNamespace(**{name: stand_in})
    storage = ("storage", sys.modules["torch"].FloatStorage, "0", "cpu", 12)
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2

    class Tensor:
        def __reduce__(self):
            return rebuild, (storage, 0, (3, 4), (4, 1), False, collections.OrderedDict())

    with (folder / "weights.pth").open("wb") as file:
        for part in (*_TORCH_HEADER, {"a.weight": Tensor()}, ["0"]):
            _Pickler(file, 2).dump(part)
        file.write(np.int64(12).tobytes() + np.arange(12, dtype=np.float32).tobytes())


READERS = {
    "coco": Reader(
        _write_coco,
        lambda folder: load(f"coco:{folder}", "train"),
        mutations.mutated_json,
        ("annotations/*.json",),
    ),
    "voc": Reader(
        _write_voc,
        lambda folder: load(f"voc:{folder}", "train"),
        mutations.mutated_xml,
        ("Annotations/*.xml", "ImageSets/Main/train.txt"),
    ),
    "yolo": Reader(
        _write_yolo,
        lambda folder: load(f"yolo:{folder}", "train"),
        mutations.mutated_text,
        ("data.yaml", "labels/train/*.txt"),
        leads_outside=True,
    ),
    "tfrecord": Reader(
        _write_bare_records,
        lambda folder: load(f"tfrecord:{folder / 'records'}", "train"),
        mutations.mutated_records,
        ("records/*.tfrecord",),
        share=0.3,
    ),
    "manifest": Reader(
        _write_records,
        lambda folder: load(f"tfrecord:{folder / 'records'}", "train"),
        mutations.mutated_text,
        ("records/manifest.json", "records/label_map.pbtxt"),
        share=0.3,
    ),
    "image": Reader(_write_images, _read_images, mutations.mutated_bytes, ("*",), share=0.5),
    "keras": Reader(
        _write_detector,
        lambda folder: load_detector(str(folder / "best.keras")),
        mutations.mutated_keras,
        ("best.keras",),
        (ModelFileError,),
        share=0.1,
    ),
    "preset": Reader(
        _write_preset,
        lambda folder: build_backbone(f"preset:{folder}"),
        mutations.mutated_json,
        ("config.json",),
        (ValueError,),  # the settings of a command are checked so
        share=0.1,
    ),
    "state": Reader(
        _write_state,
        lambda folder: newest_state(str(folder)),
        mutations.mutated_bytes,
        ("step-2/*",),
        (SettingsError,),
        share=0.3,
    ),
    "results": Reader(
        _write_results,
        lambda folder: read_detections(str(folder / "results.json"), _ground_truth()),
        mutations.mutated_json,
        ("results.json",),
        (ResultsError,),
    ),
    "run": Reader(
        _write_run,
        _read_run,
        mutations.mutated_json,
        ("*.json",),
        (SettingsError,),
    ),
    "draws": Reader(
        _write_run, _read_run, mutations.mutated_archive, ("bootstrap.npz",), (SettingsError,)
    ),
    "calibration": Reader(
        _write_calibration,
        lambda folder: read_calibration(str(folder / "calibration.json"), _CLASSES),
        mutations.mutated_json,
        ("calibration.json",),
        (CalibrationError,),
    ),
    "flags": Reader(
        _write_flags,
        _read_flags,
        mutations.mutated_text,
        ("flags.cfg",),
        (UsageError,),
        leads_outside=True,
    ),
    "torch": Reader(
        _write_torch,
        lambda folder: read_tensors(str(folder / "weights.pth")),
        mutations.mutated_pickles,
        ("weights.pth",),
        (ValueError,),  # its caller knows the file by its SHA-256
    ),
}
"""Every reader by name."""

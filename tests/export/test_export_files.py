"""What lies in a version, and the command that writes one."""

import json
import os
import pathlib

import numpy as np
import pytest
from tensorflow_serving.apis import prediction_log_pb2

from flags.commands import export as command
from harmonic_tf.backend import tf
from harmonic_tf.data import sources
from harmonic_tf.data.scenes import rendering
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.export.versions import write_version
from harmonic_tf.export.warmup import WARMUP_FILE
from harmonic_tf.training.run_directory import RunDirectory


def test_labels_and_signatures(exported, signatures, serving):
    folder = pathlib.Path(exported[1])
    assert folder.name == "1"
    labels = (folder / "assets" / "labels.txt").read_text(encoding="utf-8")
    assert labels.splitlines() == list(serving.names)
    assert set(signatures) == {
        "serving_default",
        "serving_thresholds",
        "predict_images",
        "predict_float_images",
        "tf_example",
    }
    outputs = signatures["serving_default"].structured_outputs
    assert {name: spec.shape.as_list() for name, spec in outputs.items()} == {
        "boxes": [None, 20, 4],
        "scores": [None, 20],
        "classes": [None, 20],
        "class_names": [None, 20],
        "num_detections": [None],
    }


def test_warmup_requests_replay(exported, signatures):
    path = os.path.join(exported[1], WARMUP_FILE)
    replayed = set()
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "tiny"
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
        assert signatures[name](**inputs)["boxes"].shape == [1, 20, 4]
        replayed.add(name)
    assert replayed == set(signatures)


def test_the_names_are_those_of_the_classes(exported, serving, tmp_path):
    with pytest.raises(ValueError, match="2 class names for a model that knows 3 classes"):
        export_model(exported[0], serving.names[:2], str(tmp_path / "x"), serving.settings)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("field", ["image_size", "max_batch", "max_pixels"])
def test_settings_out_of_range(field):
    with pytest.raises(ValueError, match=f"{field} = 0 must be at least 1"):
        ServingSettings(**{"image_size": 64, field: 0})


# Of the decoder, those of the exported model.
SETTINGS = {"precision": "float32", "score_threshold": 0.001, "max_detections": 20}


@pytest.fixture(scope="module")
def run(exported, serving, tmp_path_factory):
    """The folder of a run whose best checkpoint is the exported model."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    exported[0].save(str(folder / "checkpoints" / "best.keras"))
    (folder / "classes.json").write_text(json.dumps(serving.names), encoding="utf-8")
    RunDirectory(str(folder)).write_settings(SETTINGS, "")
    return folder


@pytest.fixture
def export(run, run_command):
    """Runs the command on that run."""
    return lambda *arguments: run_command("export", f"--run={run}", *arguments)


def test_command(exported, serving, export, tmp_path, capsys):
    folder = tmp_path / "models" / "cells"
    export(f"--export_dir={folder}", "--nms=soft", "--max_detections=5")
    assert capsys.readouterr().out.startswith(f"{folder / '1'}\n")
    assert (folder / "models.config").is_file()
    pictures = serving.pictures()
    model = serving.retinanet(nms="soft", max_detections=5)
    model.set_weights(exported[0].get_weights())
    answer = tf.saved_model.load(str(folder / "1")).signatures["serving_default"](
        images=tf.constant(pictures)
    )
    serving.assert_same(serving.answered(answer), serving.detected(model, pictures, tmp_path))


def test_command_takes_the_runs_image_size_where_the_network_leaves_it_open(
    run, serving, export, tmp_path, monkeypatch
):
    path = tmp_path / "open.keras"
    serving.retinanet(image_size=None).save(str(path))
    RunDirectory(str(run)).write_settings({**SETTINGS, "image_size": 96}, "")
    taken = []
    monkeypatch.setattr(command, "export_model", lambda *a: taken.append(a) or "folder")
    export(f"--checkpoint={path}", f"--export_dir={tmp_path}", "--max_batch=3")
    ((model, names, _, settings, version),) = taken
    assert (model.image_size, settings.image_size, settings.max_batch) == (None, 96, 3)
    assert (names, version) == (list(serving.names), None)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--checkpoint=last"], 1, "last.keras: no such checkpoint"),
        (["--max_batch=0"], 2, "max_batch"),
        (["--model_version=0"], 2, "model_version"),
        (["--run=nowhere"], 1, "nowhere/experiment.json: no such file, so nowhere is no training"),
        (["--format=onnx", "--nms=soft"], 1, "nms = 'soft' is unknown to ONNX"),
        (["--format=tflite", "--max_batch=4"], 2, "--max_batch is not for --format=tflite"),
        (["--format=onnx", "--precision=float32"], 2, "--precision is not for --format=onnx"),
        (["--format=onnx", "--quantization=int8"], 2, "--quantization is not for --format=onnx"),
        (["--nonms_outside"], 2, "--nms_outside is not for --format=saved_model"),
        (
            ["--format=tflite", "--quantization=float16", "--calibration_images=7"],
            2,
            "--calibration_images is for --quantization=int8",
        ),
        (["--format=tflite", "--quantization=int8", "--calibration_images=0"], 2, "calibration"),
        (["--score_threshold=1.5"], 2, "score_threshold"),
        (["--export_dir="], 2, "--export_dir=models/NAME are needed"),
    ],
)
def test_command_says_what_is_wrong(export, tmp_path, capsys, arguments, status, said):
    with pytest.raises(SystemExit) as end:
        export(f"--export_dir={tmp_path / 'models'}", *arguments)
    assert end.value.code == status
    assert said in capsys.readouterr().err


def test_command_quantizes_with_images_of_the_run(run, export, tmp_path, capsys, monkeypatch):
    count = 12
    rendering.render(str(tmp_path / "data" / "train"), count, seed=1, image_size=(80, 64))
    data = {"image_size": 64, "dataset": f"scenes:{tmp_path}/data", "train_split": "train"}
    RunDirectory(str(run)).write_settings({**SETTINGS, **data}, "")
    names = sources.load(f"scenes:{tmp_path}/data", "train").class_names
    taken = []
    monkeypatch.setattr(command, "export_tflite", lambda *a: taken.append(a) or "folder")
    monkeypatch.setattr(command.RunDirectory, "class_names", lambda self: names)
    arguments = ["--format=tflite", "--quantization=int8", "--nms_outside"]
    export(f"--export_dir={tmp_path}", *arguments, "--calibration_images=5")
    export(f"--export_dir={tmp_path}", *arguments, "--calibration_images=50")
    for (_, given, _, size, quantization, suppress, pictures, _), expected in zip(
        taken, (5, count)
    ):
        assert (given, size, quantization, suppress) == (names, 64, "int8", False)
        pictures = list(pictures)
        assert len(pictures) == expected
        assert {picture.shape for picture in pictures} == {(64, 64, 3)}
        assert np.mean(pictures) > 1.0
    assert "harmonic-tf evaluate" in capsys.readouterr().out


def test_command_leaves_what_starts_a_server(export, tmp_path, capsys, monkeypatch):
    def export_nothing(model, names, export_dir, settings, version):
        return write_version(export_dir, lambda _: None, version)

    monkeypatch.setattr(command, "export_model", export_nothing)
    folder = tmp_path / "models" / "cells"
    export(f"--export_dir={folder}")
    assert "Left as it is" not in capsys.readouterr().out
    (folder / "monitoring.config").write_text("mine")
    export(f"--export_dir={folder}")
    said = capsys.readouterr().out
    assert "Left as it is, though it would be another one now: monitoring.config" in said
    assert {"1", "2", "models.config", "kubernetes.yaml"} < set(os.listdir(folder))

"""What lies in a version, and the command that writes one."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from tensorflow_serving.apis import prediction_log_pb2

from harmonic_tf.backend import tf
from harmonic_tf.data import sources
from harmonic_tf.data.scenes import rendering
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.export import __main__ as command
from harmonic_tf.export.__main__ import main
from harmonic_tf.export.warmup import WARMUP_FILE


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


@pytest.fixture(scope="module")
def run(exported, serving, tmp_path_factory):
    """The folder of a run whose best checkpoint is the exported model."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    exported[0].save(str(folder / "checkpoints" / "best.keras"))
    (folder / "classes.json").write_text(json.dumps(serving.names), encoding="utf-8")
    (folder / "version.json").write_text('{"precision": "float32"}', encoding="utf-8")
    return folder


def test_command(exported, serving, run, tmp_path, capsys):
    folder = tmp_path / "models" / "cells"
    main([f"--run={run}", f"--export_dir={folder}", "--nms=soft", "--max_detections=5"])
    assert capsys.readouterr().out.startswith(f"{folder / '1'}\n")
    pictures = serving.pictures()
    model = serving.retinanet(nms="soft", max_detections=5)
    model.set_weights(exported[0].get_weights())
    answer = tf.saved_model.load(str(folder / "1")).signatures["serving_default"](
        images=tf.constant(pictures)
    )
    serving.assert_same(serving.answered(answer), serving.detected(model, pictures, tmp_path))


def test_command_takes_the_runs_image_size_where_the_network_leaves_it_open(
    run, serving, tmp_path, monkeypatch
):
    path = tmp_path / "open.keras"
    serving.retinanet(image_size=None).save(str(path))
    (run / "flags.cfg").write_text("--image_size=96\n--other=1\n", encoding="utf-8")
    taken = []
    monkeypatch.setattr(command, "export_model", lambda *a: taken.append(a) or "folder")
    main([f"--run={run}", f"--checkpoint={path}", f"--export_dir={tmp_path}", "--max_batch=3"])
    ((model, names, _, settings, version),) = taken
    assert (model.image_size, settings.image_size, settings.max_batch) == (None, 96, 3)
    assert (names, version) == (list(serving.names), None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--checkpoint=last"], "last.keras: no such checkpoint"),
        (["--max_batch=0"], "max_batch = 0 must be at least 1"),
        (["--version=0"], "version = 0 must be at least 1"),
        (["--run=nowhere"], "nowhere/version.json"),
        (["--format=onnx", "--nms=soft"], "nms = 'soft' is unknown to ONNX"),
        (["--format=tflite", "--quantization=int8", "--pictures=0"], "pictures = 0 must be"),
        (["--format=tflite", "--quantization=int8"], "flags.cfg"),
    ],
)
def test_command_says_what_is_wrong_with_the_run(run, tmp_path, arguments, said):
    with pytest.raises(SystemExit, match=said):
        main([f"--run={run}", f"--export_dir={tmp_path / 'models'}", *arguments])
    shutil.rmtree(tmp_path / "models", ignore_errors=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format=tflite", "--max_batch=4"],
        ["--format=onnx", "--precision=float32"],
        ["--format=onnx", "--quantization=int8"],
        ["--nms_outside"],
        ["--format=tflite", "--quantization=float16", "--pictures=7"],
        ["--score_threshold=1.5"],
    ],
)
def test_options_of_other_formats_are_refused(run, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main([f"--run={run}", "--export_dir=unused", *arguments])
    assert end.value.code == 2
    assert arguments[-1].partition("=")[0] in capsys.readouterr().err


def test_command_quantizes_with_pictures_of_the_run(run, serving, tmp_path, capsys, monkeypatch):
    count = 12
    rendering.render(str(tmp_path / "data" / "train"), count, seed=1, image_size=(80, 64))
    flags = ("--image_size=64", f"--dataset=scenes:{tmp_path}/data", "--train_split=train")
    (run / "flags.cfg").write_text("\n".join(flags), encoding="utf-8")
    names = sources.load(f"scenes:{tmp_path}/data", "train").class_names
    taken = []
    monkeypatch.setattr(command, "export_tflite", lambda *a: taken.append(a) or "folder")
    monkeypatch.setattr(command.RunDirectory, "class_names", lambda self: names)
    arguments = ["--format=tflite", "--quantization=int8", "--nms_outside"]
    main([f"--run={run}", f"--export_dir={tmp_path}", *arguments, "--pictures=5"])
    main([f"--run={run}", f"--export_dir={tmp_path}", *arguments, "--pictures=50"])
    for (_, given, _, size, quantization, suppress, pictures, _), expected in zip(
        taken, (5, count)
    ):
        assert (given, size, quantization, suppress) == (names, 64, "int8", False)
        pictures = list(pictures)
        assert len(pictures) == expected
        assert {picture.shape for picture in pictures} == {(64, 64, 3)}
        assert np.mean(pictures) > 1.0
    assert "evaluate.py" in capsys.readouterr().out


def test_command_leaves_what_starts_a_server(run, tmp_path, capsys):
    folder = tmp_path / "models" / "cells"
    main([f"--run={run}", f"--export_dir={folder}", "--max_detections=5"])
    assert "Left as it is" not in capsys.readouterr().out
    (folder / "monitoring.config").write_text("mine")
    main([f"--run={run}", f"--export_dir={folder}", "--max_detections=5"])
    said = capsys.readouterr().out
    assert "Left as it is, though it would be another one now: monitoring.config" in said
    assert {"1", "2", "models.config", "kubernetes.yaml"} < set(os.listdir(folder))

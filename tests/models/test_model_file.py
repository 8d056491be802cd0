"""Detectors out of files that somebody else wrote."""

import copy
import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from harmonic_tf.backend import keras
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models import ModelFileError, build_backbone, load_detector
from harmonic_tf.models.model_file import check_config
from tests.models.conftest import tiny_retinanet


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector's file: its members by name."""
    path = tmp_path_factory.mktemp("saved") / "a.keras"
    tiny_retinanet().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, members, config=None, compression=zipfile.ZIP_STORED):
    if config is not None:
        members = {**members, "config.json": json.dumps(config).encode()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def with_backbone(saved, backbone):
    config = json.loads(saved["config.json"])
    config["config"]["backbone"] = backbone
    return config


def test_loads_what_was_saved(tmp_path):
    model = tiny_retinanet(seed=3)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss=HarmonicLoss())
    model.save(tmp_path / "a.keras")
    loaded = load_detector(str(tmp_path / "a.keras"))
    assert type(loaded) is type(model)
    for ours, theirs in zip(model.weights, loaded.weights):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_backbone_of_plain_keras_loads(tmp_path):
    layers = keras.layers
    images = keras.Input((64, 64, 3))
    p3 = layers.Conv2D(8, 9, 8, padding="same", name="p3", kernel_regularizer="l2")(images)
    p4 = layers.Conv2D(8, 3, 2, padding="same", name="p4", activation="relu")(p3 * 2.0)
    p5 = layers.Conv2D(8, 3, 2, padding="same", name="p5")(layers.ReLU(6.0)(p4))
    nested = keras.Model(images, p5)
    check_config(keras.saving.serialize_keras_object(nested), "a.keras")


def marker(tmp_path):
    return str(tmp_path / "was_run")


def of_a_module(module, name, config):
    return {"module": module, "class_name": name, "config": config, "registered_name": name}


def attacks(mark):
    touch = ["touch", mark]
    named = {"module": "subprocess", "class_name": "function", "config": "call"}
    lambda_layer = {"name": "a", "trainable": True, "function": ["4wAA", None, None]}
    return {
        "class of any module": of_a_module("subprocess", "Popen", {"args": touch}),
        "function of any module": {**named, "registered_name": "call"},
        "builtin": {"module": "builtins", "class_name": "function", "config": "exec"},
        "lambda": {"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}},
        "Lambda": of_a_module("keras.layers", "Lambda", lambda_layer),
        "SavedModel": of_a_module("keras.layers", "TFSMLayer", {"filepath": mark}),
        "file of words": of_a_module("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
        "utility": of_a_module("keras.utils", "get_file", {"fname": mark, "origin": "file:///x"}),
        "operation": of_a_module(
            "keras.layers", "TFOpLambda", {"function": "io.write_file", "name": "w"}
        ),
        "type": of_a_module(None, "__typespec__", {}),
        "no name": {"class_name": ["Popen"], "config": {}},
        "not an importable name": of_a_module("keras.layers", "Dense.__init__", {}),
    }


@pytest.mark.parametrize("attack", attacks(""))
def test_what_could_run_a_program_is_refused(tmp_path, saved, attack):
    backbone = attacks(marker(tmp_path))[attack]
    for place in (backbone, {"a": [{"b": backbone}]}):
        path = written(tmp_path / "a.keras", saved, with_backbone(saved, place))
        with pytest.raises(ModelFileError, match="could run what the file brings"):
            load_detector(path)
    assert not (tmp_path / "was_run").exists()


def test_a_preset_of_a_stranger_is_refused(tmp_path):
    config = of_a_module("subprocess", "Popen", {"args": ["touch", marker(tmp_path)]})
    (tmp_path / "config.json").write_text(json.dumps({**config, "weights": None}))
    with pytest.raises(ValueError, match="could run what the file brings"):
        build_backbone(f"preset:{tmp_path}")
    assert not (tmp_path / "was_run").exists()


def test_more_weights_than_the_file_holds_are_not_allocated(tmp_path, saved):
    config = json.loads(saved["config.json"])
    for name, value in (("channels", 10**6), ("num_classes", 10**9)):
        larger = copy.deepcopy(config)
        larger["config"][name] = value
        with pytest.raises(ModelFileError, match="a larger network than the file has weights of"):
            load_detector(written(tmp_path / "a.keras", saved, larger))
    load_detector(written(tmp_path / "a.keras", saved, config))  # nothing of those is left


def test_no_more_layers_than_there_are_weights(tmp_path, saved):
    config = json.loads(saved["config.json"])
    for value in (10**9, -1, float("nan")):
        config["config"]["head_depth"] = value
        with pytest.raises(ModelFileError, match=r"head_depth = .* is not the depth"):
            load_detector(written(tmp_path / "a.keras", saved, config))


def weights(fill):
    """A file of weights that `fill` writes into."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def elsewhere(file):
    file["a"] = h5py.ExternalLink("other.h5", "/a")


def soft(file):
    file["a"] = h5py.SoftLink("/b")


def raw_elsewhere(file):
    file.create_dataset("a", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "a", (4,))
    file.create_virtual_dataset("a", layout)


def bomb(file):
    file.create_dataset("a", (2**40,), "f4", chunks=(2**20,), compression="gzip")


@pytest.mark.parametrize(
    ("fill", "problem"),
    (
        (elsewhere, "link to another place"),
        (soft, "link to another place"),
        (raw_elsewhere, "kept in another file"),
        (virtual, "kept in another file"),
        (bomb, "describes more than it holds"),
    ),
)
def test_weights_are_in_the_file_itself(tmp_path, saved, fill, problem):
    members = {**saved, "model.weights.h5": weights(fill)}
    with pytest.raises(ModelFileError, match=problem):
        load_detector(written(tmp_path / "a.keras", members))


def test_groups_in_a_circle_end(tmp_path, saved):
    def circle(file):
        file.create_group("a")["back"] = file["/"]

    members = {**saved, "model.weights.h5": weights(circle)}
    with pytest.raises(ModelFileError, match="has 0 weights"):
        load_detector(written(tmp_path / "a.keras", members))


def test_archives_are_as_keras_writes_them(tmp_path, saved):
    path = tmp_path / "a.keras"
    with pytest.raises(ModelFileError, match="members"):
        load_detector(written(path, {**saved, "../../x": b""}))
    with pytest.raises(ModelFileError, match="members"):
        load_detector(written(path, {"config.json": b"{}"}))
    with pytest.raises(ModelFileError, match="not stored"):
        load_detector(written(path, saved, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ModelFileError, match="is not JSON"):
        load_detector(written(path, {**saved, "config.json": b"[" * 100_000}))
    with pytest.raises(ModelFileError, match="does not describe a model"):
        load_detector(written(path, {**saved, "config.json": b"[]"}))
    with pytest.raises(ModelFileError, match="is damaged"):
        load_detector(written(path, {**saved, "model.weights.h5": b"no weights"}))


def test_other_files_are_no_detectors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.keras: no such file"):
        load_detector(str(tmp_path / "a.keras"))
    (tmp_path / "a.keras").write_bytes(b"\x89HDF\r\n\x1a\n")  # Keras 2 would read its old format
    with pytest.raises(ModelFileError, match="not a whole"):
        load_detector(str(tmp_path / "a.keras"))
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"is not a \.keras file"):
        load_detector(str(tmp_path / "a.h5"))
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "b.keras")
    with pytest.raises(ModelFileError, match="not a detector"):
        load_detector(str(tmp_path / "b.keras"))

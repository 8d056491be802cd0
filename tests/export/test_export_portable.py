"""TensorFlow Lite and ONNX answer what the model does, as far as their numbers reach."""

import pathlib
import sys

import numpy as np
import pytest
from plausible_detectors import spread_scores

from harmonic_tf.backend import tf
from harmonic_tf.export import export_onnx, export_tflite
from harmonic_tf.export.runtimes import is_exported, load_exported
from harmonic_tf.models import NMS_CHOICES, DetectionDecoder

COUNT = 20


@pytest.fixture(scope="module")
def images(serving):
    """Letterboxed pictures of whole levels, so that uint8 holds them."""
    return np.float32([serving.pixels_of(serving.size, serving.size, seed) for seed in range(4)])


@pytest.fixture(scope="module")
def detectors(serving, images):
    """Detectors whose scores are spread, so that rounding does not change their order."""
    models = {"retinanet": serving.retinanet(), "yolov8": serving.yolov8()}
    kernel = models["retinanet"].get_layer("box_head").prediction.kernel
    kernel.assign(40.0 * kernel)  # boxes are not just anchors
    for model in models.values():
        model.bounding_box_format = "xyxy"
        spread_scores(model, tf.constant(images), candidates=100)
    return models


def detected(model, images, decoder=None):
    images = tf.constant(images)
    found = model.decode_predictions(model(images, training=False), images, decoder)
    return {name: value.numpy() for name, value in found.items()}


def dense(model, images):
    size = images.shape[1]
    found = model.dense_predictions(model(tf.constant(images), training=False), size, size)
    return np.clip(found["boxes"], 0, size), tf.sigmoid(found["logits"]).numpy()


def assert_same(found, expected, atol):
    found = {name: value.numpy() for name, value in found.items()}
    assert np.all(np.sum(expected["classes"] >= 0, axis=1) >= 2)
    np.testing.assert_array_equal(found["classes"], expected["classes"])
    real = expected["classes"] >= 0
    for name in ("boxes", "confidence"):
        np.testing.assert_allclose(found[name][real], expected[name][real], atol=atol, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "nms"), [*(("retinanet", nms) for nms in NMS_CHOICES), ("yolov8", "hard")]
)
def test_tflite_suppresses_as_the_model_does(detectors, serving, images, tmp_path, name, nms):
    model, decoder = detectors[name], DetectionDecoder(max_detections=COUNT, nms=nms)
    model.prediction_decoder = decoder
    folder = export_tflite(model, serving.names, str(tmp_path / "m"), serving.size)
    exported = load_exported(folder, decoder)
    assert_same(exported.predict(tf.constant(images)), detected(model, images, decoder), 1e-3)
    assert exported.image_size == serving.size
    assert exported.class_names == list(serving.names)


@pytest.mark.parametrize(
    ("name", "nms", "class_agnostic"),
    [
        ("retinanet", "hard", False),
        ("retinanet", "hard", True),
        ("retinanet", "vote", False),
        ("retinanet", "none", False),
        ("yolov8", "hard", False),
    ],
)
def test_onnx_suppresses_as_the_model_does(
    detectors, serving, images, tmp_path, name, nms, class_agnostic
):
    model = detectors[name]
    decoder = DetectionDecoder(max_detections=COUNT, nms=nms, class_agnostic=class_agnostic)
    model.prediction_decoder = decoder
    folder = export_onnx(model, serving.names, str(tmp_path / "m"), serving.size)
    exported = load_exported(folder, decoder)
    for batch in (images, images[:1]):
        assert_same(exported.predict(tf.constant(batch)), detected(model, batch, decoder), 1e-3)
    assert exported.image_size == serving.size
    assert exported.class_names == list(serving.names)


# Largest difference of a box's side, pixels, and of a score, of an input of 64 pixels.
TOLERANCES = {
    "none": (1e-3, 1e-5),
    "float16": (0.1, 0.02),
    "dynamic": (0.5, 0.05),
    "int8": (1.0, 0.2),
}


@pytest.mark.parametrize("quantization", TOLERANCES)
def test_dense_predictions_of_tflite(detectors, serving, images, tmp_path, quantization):
    model = detectors["retinanet"]
    folder = export_tflite(
        model, serving.names, str(tmp_path / "m"), serving.size, quantization, False, images
    )
    interpreter = tf.lite.Interpreter(f"{folder}/model.tflite")
    details = interpreter.get_input_details()[0]
    assert details["dtype"] == (np.uint8 if quantization == "int8" else np.float32)
    run = interpreter.get_signature_runner()
    found = run(images=images[:1].astype(details["dtype"]))
    boxes, scores = dense(model, images[:1])
    box_tolerance, score_tolerance = TOLERANCES[quantization]
    np.testing.assert_allclose(found["boxes"], boxes, atol=box_tolerance)
    np.testing.assert_allclose(found["scores"], scores, atol=score_tolerance)


def test_int8_is_in_int8_but_for_the_arithmetic_of_boxes(detectors, serving, images, tmp_path):
    folder = export_tflite(
        detectors["retinanet"],
        serving.names,
        str(tmp_path / "m"),
        serving.size,
        "int8",
        pictures=images,
    )
    interpreter = tf.lite.Interpreter(f"{folder}/model.tflite")
    interpreter.allocate_tensors()
    tensors = interpreter.get_tensor_details()
    # Four dimensions and more than one channel: kernels of convolutions and what they give.
    wide = [t for t in tensors if len(t["shape"]) == 4 and t["shape"][-1] > 3]
    assert len(wide) > 20
    assert {t["dtype"] for t in wide} == {np.int8}
    assert {t["dtype"] for t in tensors if t["name"].startswith("decoding/Exp")} == {np.float32}
    found = interpreter.get_signature_runner()(images=images[:1].astype(np.uint8))
    assert found["num_detections"][0] > 0
    assert found["boxes"].shape == (1, COUNT, 4)


def test_without_suppression_it_is_done_afterwards(detectors, serving, images, tmp_path):
    model, decoder = detectors["retinanet"], DetectionDecoder(iou_threshold=0.3)
    folders = [
        export_tflite(model, serving.names, str(tmp_path / "a"), serving.size, suppress=False),
        export_onnx(model, serving.names, str(tmp_path / "b"), serving.size, suppress=False),
    ]
    for folder in folders:
        names = {path.name for path in pathlib.Path(folder).iterdir()}
        assert names in ({"labels.txt", "model.tflite"}, {"labels.txt", "model.onnx"})
        exported = load_exported(folder, decoder)
        expected = detected(model, images, decoder)
        assert_same(exported.predict(tf.constant(images)), expected, 1e-3)


def test_calibrated_scores_of_all_formats(detectors, serving, images, tmp_path):
    """With suppression inside and outside: what the model itself gives, and what NumPy makes."""
    model = detectors["retinanet"]
    model.prediction_decoder = DetectionDecoder(max_detections=COUNT)
    raw = detected(model, images)
    table = serving.rising_table()
    model.prediction_decoder = model.prediction_decoder.calibrated_by(table)
    expected = detected(model, images)
    knots = np.linspace(0, 1, table.shape[1])
    for scores, classes, own in zip(raw["confidence"], raw["classes"], expected["confidence"]):
        rows = [np.interp(s, knots, table[k]) for s, k in zip(scores, classes) if k >= 0]
        np.testing.assert_allclose(own[own >= 0], sorted(rows, reverse=True), atol=1e-6)

    arguments = (serving.names, str(tmp_path / "m"), serving.size)
    boxes, scores = dense(model, images)
    scores = model.prediction_decoder.calibrate_dense(scores).numpy()
    for export in (export_tflite, export_onnx):
        exported = load_exported(export(model, *arguments), DetectionDecoder())
        assert_same(exported.predict(tf.constant(images)), expected, 1e-3)
        outside = load_exported(
            export(model, *arguments, suppress=False),
            lambda boxes, scores: {"boxes": boxes, "scores": scores},
        )
        found = outside.predict(tf.constant(images))
        np.testing.assert_allclose(found["boxes"], boxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"], scores, atol=1e-4)


def test_a_saved_model_is_measured_likewise(exported, serving, images):
    model, folder = exported
    loaded = load_exported(folder, DetectionDecoder())
    assert_same(loaded.predict(tf.constant(images)), detected(model, images), 1e-4)
    assert (loaded.image_size, loaded.class_names) == (serving.size, list(serving.names))
    assert is_exported(folder)
    assert not is_exported(str(pathlib.Path(folder).parent))
    with pytest.raises(FileNotFoundError, match="none of saved_model"):
        load_exported(str(pathlib.Path(folder).parent), DetectionDecoder())


def test_bad_arguments(serving, images, tmp_path):
    arguments = (serving.names, str(tmp_path / "m"), serving.size)
    model = serving.retinanet(nms="soft")
    with pytest.raises(ValueError, match="quantization = 'int4' must be one of"):
        export_tflite(model, *arguments, "int4")
    with pytest.raises(ValueError, match="int8 takes its scales from pictures"):
        export_tflite(model, *arguments, "int8")
    with pytest.raises(ValueError, match="nms = 'soft' is unknown to ONNX"):
        export_onnx(model, *arguments)
    for export in (export_tflite, export_onnx):
        with pytest.raises(ValueError, match="2 class names for a model that knows 3 classes"):
            export(model, serving.names[:2], *arguments[1:])
        with pytest.raises(ValueError, match="is of several lines"):
            export(model, ("a", "b\nc", "d"), *arguments[1:])
    assert list(tmp_path.iterdir()) == []


def test_onnx_is_an_extra(serving, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    for name, call in (
        ("tf2onnx", lambda: export_onnx(serving.retinanet(), serving.names, str(tmp_path), 64)),
        ("onnxruntime", lambda: load_exported(str(tmp_path), DetectionDecoder())),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=r"pip install 'harmonic_tf\[onnx\]'"):
            call()

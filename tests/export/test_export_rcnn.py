"""The two-stage detector in other runtimes answers what the model does."""

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.export import export_model, export_onnx, export_tflite
from harmonic_tf.export.runtimes import load_exported
from harmonic_tf.models import DetectionDecoder

DECODER = DetectionDecoder(score_threshold=0.1, max_detections=15)


@pytest.fixture(scope="module")
def images(serving):
    return np.float32([serving.pixels_of(serving.size, serving.size, seed) for seed in range(3)])


@pytest.fixture(scope="module")
def detector(serving):
    """Scores of both stages are spread, so that rounding does not change their order."""
    model = serving.faster_rcnn()
    first, second = model.get_layer("proposal_head"), model.get_layer("box_head")
    for layer, factor in ((first.logits, 1000.0), (first.offsets, 30.0), (second.classes, 100.0)):
        layer.kernel.assign(factor * layer.kernel)
    model.prediction_decoder = DECODER
    return model


@pytest.fixture(scope="module")
def expected(detector, images):
    found = detector.predict_step(tf.constant(images))
    assert np.all(found["num_detections"] >= 3)
    return {name: value.numpy() for name, value in found.items()}


def assert_same(found, expected):
    np.testing.assert_array_equal(found["classes"], expected["classes"])
    real = expected["classes"] >= 0
    for name in ("boxes", "confidence"):
        np.testing.assert_allclose(found[name][real], expected[name][real], atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("export", [export_onnx, export_tflite])
def test_portable_rcnn_answers_as_the_model_does(
    detector, expected, images, serving, tmp_path, export
):
    folder = export(detector, serving.names, str(tmp_path / "m"), serving.size)
    assert_same(load_exported(folder, DECODER).predict(tf.constant(images)), expected)


def test_saved_model_of_an_rcnn_answers_as_the_model_does(
    detector, expected, images, serving, tmp_path
):
    folder = export_model(detector, serving.names, str(tmp_path / "m"), serving.settings)
    signature = tf.saved_model.load(folder).signatures["predict_float_images"]
    answer = signature(images=tf.constant(images))
    found = {"boxes": answer["boxes"], "confidence": answer["scores"], "classes": answer["classes"]}
    assert_same({name: value.numpy() for name, value in found.items()}, expected)


def test_an_rcnn_is_not_quantized_to_integers(detector, images, serving, tmp_path):
    with pytest.raises(ValueError, match=r"HarmonicFasterRCNN computes boxes .* 'dynamic'"):
        export_tflite(
            detector, serving.names, str(tmp_path / "m"), serving.size, "int8", pictures=images
        )

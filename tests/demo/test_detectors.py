"""Runs and exported models on the page: what they find, what their scores mean, what is refused."""

import numpy as np
import pytest

from harmonic_tf.data.images.decoding import picture
from harmonic_tf.demo import detectors
from harmonic_tf.demo.detectors import AS_EXPORTED, detector_of_export, detector_of_run
from harmonic_tf.evaluation import CalibrationError, Detections, fit_calibration
from harmonic_tf.export.labels import read_labels
from harmonic_tf.export.runtimes import Exported
from harmonic_tf.models import NMS_CHOICES, DetectionDecoder
from harmonic_tf.training.building import load_model
from harmonic_tf.training.inference import ground_truth_of
from tests.demo.conftest import data_of, find_bright, tiny_detector
from tests.tiny import SIZE


def by_hand(model, outputs, images, nms):
    """What a model makes of its outputs for a picture of its own size, with raw scores."""
    own = model.prediction_decoder
    decoder = DetectionDecoder(own.score_threshold, max_detections=own.max_detections, nms=nms)
    found = model.decode_predictions(outputs, images, decoder)
    boxes, scores, classes = (found[n].numpy()[0] for n in ("boxes", "confidence", "classes"))
    real = (classes >= 0) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    zeros = np.zeros(len(boxes), np.int64)
    return Detections(zeros, boxes, scores, classes.astype(np.int64)).take(real)


def assert_same(found, expected):
    order = np.argsort(-expected.scores, kind="stable")
    for field in ("boxes", "scores", "classes"):
        expected_column = getattr(expected, field)[order]
        np.testing.assert_allclose(getattr(found, field), expected_column, rtol=1e-4, atol=1e-4)


def test_a_run_is_seen_with_any_nms_and_calibrated_with_its_own(make_run, val, found_in_val):
    run = make_run("--precision=float32")
    calibration = fit_calibration(ground_truth_of(val), found_in_val, "linear", val.name)
    run.write_calibration(calibration)
    detector = detector_of_run(run.path, data_of(run))
    assert detector.name == run.path and detector.class_names == list(val.class_names)
    assert list(detector.choices) == list(NMS_CHOICES)  # hard, its own, is the first

    image, model = picture(val.annotations[0]), load_model(run.checkpoint("best"))
    images = image[None].astype(np.float32)
    outputs = model(images, training=False)
    for nms, choice in detector.choices.items():
        raw = by_hand(model, outputs, images, nms)
        assert_same(detector.detect(image, nms), calibration(raw) if nms == "hard" else raw)
        if nms == "hard":
            assert "Calibrated: a score is the IoU to expect" in choice.meaning
            assert f"linear, fitted on {val.name}" in choice.meaning
            assert choice.validation.note == "The run has no validation split."
        else:
            assert choice.meaning.startswith("Not calibrated")
            assert choice.validation.note == "Validation was measured with hard NMS alone."


def test_an_exported_model_is_seen_as_it_was_exported(monkeypatch):
    exported = Exported(find_bright, SIZE, ["lamp", "sun"])
    monkeypatch.setattr(detectors, "load_exported", lambda folder, decoder: exported)
    detector = detector_of_export("models/lamps/3")
    assert (detector.name, detector.class_names) == ("models/lamps/3", ["lamp", "sun"])
    ((nms, choice),) = detector.choices.items()
    assert nms == AS_EXPORTED and choice.validation.curve is None
    image = np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8)
    image[20:40, 60:90] = 255
    found = detector.detect(image, nms)
    np.testing.assert_allclose(found.boxes, [[60, 20, 90, 40]] * 2, atol=2)
    np.testing.assert_allclose(found.scores, [0.9, 0.3])


def test_an_exported_model_without_the_names_of_its_classes_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"labels.txt: no such file.* Export the model"):
        read_labels(str(tmp_path))


def test_what_is_no_detector_is_refused(make_run, tmp_path):
    run = make_run("--precision=float32", checkpoint=False)
    data = data_of(run)
    with pytest.raises(FileNotFoundError, match=r"elsewhere is no training run. Give the"):
        detector_of_run(str(tmp_path / "elsewhere"), data)
    with pytest.raises(FileNotFoundError, match=r"best.keras: no such checkpoint.* --resume"):
        detector_of_run(run.path, data)
    with pytest.raises(FileNotFoundError, match="Give the folder of a version, such as"):
        detector_of_export(run.path)
    run.save_model(tiny_detector(len(run.class_names())), "best")
    with open(run.calibration_file, "w", encoding="utf-8") as file:
        file.write("{}")
    with pytest.raises(CalibrationError, match=r"calibration.json"):
        detector_of_run(run.path, data)

"""A run as training leaves it, of a detector that knows nothing, and a stand-in for detectors."""

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from flags import running
from flags.experiment import experiment_of_run, flagfile, resolved
from harmonic_tf.backend import keras, tf
from harmonic_tf.data import sources
from harmonic_tf.data.scenes.rendering import render
from harmonic_tf.demo.detectors import Choice, Detector
from harmonic_tf.demo.validation import THRESHOLDS, Validation
from harmonic_tf.evaluation import Detections, PrecisionRecall
from harmonic_tf.models import DetectionDecoder, HarmonicRetinaNet
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.measuring import keep, measure_found
from harmonic_tf.training.run_directory import RunDirectory
from tests.tiny import SIZE, TinyBackbone


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """The folder of a data set with a validation split alone."""
    folder = tmp_path_factory.mktemp("scenes")
    render(str(folder / "val"), 6, 0, (SIZE, SIZE))
    return folder


@pytest.fixture(scope="session")
def val(scenes):
    return sources.load(f"scenes:{scenes}", "val", None, "error")


@pytest.fixture(scope="session")
def found_in_val(val):
    """Nearly all objects, ever worse placed, with scores on the raw detector's scale."""
    truth, rng = ground_truth_of(val), np.random.default_rng(0)
    count = len(truth.boxes)
    moved = truth.boxes + rng.uniform(0, 12, (count, 1)).astype(np.float32)
    scores = rng.uniform(0.1, 0.9, count).astype(np.float32)
    found = Detections(truth.image_index, moved, scores, truth.classes)
    return found.take(np.arange(count) % 5 > 0)


@pytest.fixture
def make_run(tmp_path, scenes, val):
    """Function that makes a run; its flags beside the data's."""

    def make(*flags, checkpoint=True):
        run = RunDirectory(str(tmp_path / "run"))
        run.create()
        settings = settings_of(f"--dataset=scenes:{scenes}", f"--image_size={SIZE}", *flags)
        run.write_settings(settings, flagfile(settings))
        run.write_class_names(val.class_names)
        if checkpoint:
            run.save_model(tiny_detector(len(val.class_names)), "best")
        return run

    return make


@pytest.fixture
def measured_run(make_run, val, found_in_val):
    """A run with a validation split, whose detections it keeps."""
    run = make_run("--val_split=val", "--precision=float32", checkpoint=False)
    keep(run.evaluation("val"), measure_found(val, found_in_val))
    return run


def settings_of(*arguments):
    """What a run records of a command line."""
    running.load("train")
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["train", *arguments])
        return resolved()


def data_of(run):
    """The data settings of a run; the flags in force stay as they are."""
    running.load("train")
    with flagsaver.flagsaver():
        return experiment_of_run(run.path).data


def tiny_detector(num_classes):
    keras.utils.set_random_seed(3)
    decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
    return HarmonicRetinaNet(
        TinyBackbone(), num_classes, "xyxy", channels=8, head_depth=0, prediction_decoder=decoder
    )


def find_bright(images):
    """Two boxes around the bright pixels, with scores 0.9 and 0.3."""
    boxes = np.full((1, 2, 4), -1.0, np.float32)
    y, x = np.nonzero(np.asarray(images)[0].min(axis=-1) > 200)
    boxes[0] = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    return {
        "boxes": tf.constant(boxes),
        "classes": tf.constant([[0, 1]]),
        "confidence": tf.constant([[0.9, 0.3]]),
    }


def make_detector(name="bright", predict=find_bright):
    """A stand-in with two kinds of NMS: of the first precision and recall are known."""
    # Precision is not known from 0.95 on, where nothing is shown.
    precision = np.where(THRESHOLDS < 0.95, THRESHOLDS, np.nan)
    known = Validation("val: 3 objects", PrecisionRecall(precision, 1 - THRESHOLDS))
    choices = {
        "hard": Choice(predict, "Calibrated: the IoU to expect.", known),
        "soft": Choice(predict, "Not calibrated.", Validation("Measured with hard NMS alone.")),
    }
    return Detector(name, ("lamp", "<b>sun</b>"), SIZE, choices)

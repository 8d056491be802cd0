"""Event files hold what a look at the detector gives, read back with TensorBoard's own reader."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.pr_curve.metadata import parse_plugin_metadata
from tensorboard.util import tensor_util

from harmonic_tf.backend import keras, tf
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.evaluation import Detections, GroundTruth
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.training.inference import ground_truth_of
from harmonic_tf.training.tensorboard import (
    FirstPictures,
    Positives,
    TensorBoard,
    precision_recall_curves,
)

SIZE = 64
CLASS_NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Function that makes a split: one object in each picture, of another size in each."""
    folder = tmp_path_factory.mktemp("pictures")

    def make(count, objects=1):
        annotations = []
        for i in range(count):
            box = np.float32([4, 4, 16 + i, 24])
            x1, y1, x2, y2 = box.astype(int)
            pixels = np.full((SIZE, SIZE, 3), 40 + i, np.uint8)
            pixels[y1:y2, x1:x2] = 255
            path = folder / f"{i}.png"
            Image.fromarray(pixels).save(path)
            no = np.zeros(objects, bool)
            classes = np.full(objects, i % 3, np.int32)
            boxes = np.tile(box, (objects, 1))
            annotations.append(Annotation(str(path), i, SIZE, SIZE, boxes, classes, no, no))
        return DetectionData("made up", CLASS_NAMES, annotations)

    return make


def first_objects(images):
    """Stands in for a detector: the same two boxes in every picture."""
    count = len(images)
    return {
        "boxes": tf.tile(tf.constant([[[4.0, 4, 40, 40], [10, 10, 60, 30]]]), [count, 1, 1]),
        "classes": tf.tile(tf.constant([[0, 2]]), [count, 1]),
        "confidence": tf.tile(tf.constant([[0.9, 0.4]]), [count, 1]),
    }


class Echo:
    """Stands in for a detector whose only cells are the objects, some of which weigh little."""

    SHIFT, LOGIT, SCORES = 2.0, 0.5, (0.25, 0.0, 1.0)  # of pixels, in every class, per object

    def __call__(self, images, training):
        assert not training
        return tf.zeros(tf.shape(images)[0])

    def dense_predictions(self, outputs, height, width):
        cells = len(self.SCORES)
        boxes = tf.tile(tf.constant([[[0.0, 0, width, height]]]), [tf.shape(outputs)[0], cells, 1])
        return {
            "logits": tf.fill([tf.shape(outputs)[0], cells, len(CLASS_NAMES)], self.LOGIT),
            "offsets": tf.fill([tf.shape(outputs)[0], cells, 4], self.SHIFT),
            "boxes": boxes,
        }

    def targets(self, labels, predictions, height, width):
        return {
            "classes": labels["classes"],
            "boxes": labels["boxes"],
            "offsets": tf.zeros_like(labels["boxes"]),
            "scores": tf.broadcast_to(self.SCORES, tf.shape(labels["classes"])),
        }


def test_positives_are_those_of_the_loss(tiny_detector, data):
    model = tiny_detector(jit_compile=False)
    split = data(5)
    values = Positives(model, model.loss, split, SIZE, seed=7)()
    for of_positives in values.values():
        assert of_positives.dtype == np.float32
        assert np.all((of_positives > 0) & (of_positives <= 1))

    labels = {
        "boxes": np.stack([annotation.boxes for annotation in split.annotations]),
        "classes": np.stack([annotation.classes for annotation in split.annotations]),
    }
    images = np.stack([np.asarray(Image.open(a.image_path)) for a in split.annotations])
    # The means that training logs, over the same pictures: the other way to the same numbers.
    means = {name: mean.numpy() for name, mean in model.test_step((images, labels)).items()}
    assert len(values["b_r"]) == round(5 * means["positives_per_image"]) >= 5
    for name, mean in {"b_r": "b_r", "b_c": "b_c", "IoU": "mean_iou"}.items():
        assert values[name].shape == values["score"].shape
        np.testing.assert_allclose(values[name].mean(), means[mean], rtol=1e-5)


def test_weights_are_divided_out_and_what_weighs_nothing_is_left_out(data):
    split = data(24, objects=3)
    loss = HarmonicLoss(classification="cross_entropy", smooth_l1_weight=1.0, iou_loss=None)
    values = Positives(Echo(), loss, split, SIZE, seed=3)()
    assert {len(of_positives) for of_positives in values.values()} == {2 * 16}

    score = 1 / (1 + np.exp(-Echo.LOGIT))
    np.testing.assert_allclose(values["score"], score, rtol=1e-6)
    np.testing.assert_allclose(values["b_r"], np.exp(-4 * (Echo.SHIFT - 0.5)), rtol=1e-5)
    others = -2 * np.log(1 - score)
    for target, b_c in zip((0.25, 1.0), (values["b_c"][::2], values["b_c"][1::2])):
        entropy = -target * np.log(score) - (1 - target) * np.log(1 - score) + others
        np.testing.assert_allclose(b_c, np.exp(-entropy), rtol=1e-5)

    # The predicted box is the picture, so an IoU tells which picture it is from: each comes once.
    areas = [np.prod(a.boxes[0, 2:] - a.boxes[0, :2]) / SIZE**2 for a in split.annotations]
    assert len(set(areas)) == 24
    places = np.abs(values["IoU"][::2, None] - areas).argmin(axis=1)
    assert len(set(places)) == 16
    assert not np.array_equal(places, range(16))  # not the first, which may be alike


def test_positives_are_the_same_whatever_is_random(data):
    values = [Positives(Echo(), HarmonicLoss(), data(20, objects=3), SIZE, seed=1) for _ in "ab"]
    before = values[0]()
    tf.random.set_seed(99)
    np.random.seed(99)
    for again in (values[0](), values[1]()):
        for name, of_positives in before.items():
            np.testing.assert_array_equal(again[name], of_positives)


def test_the_sheet_shows_the_first_eight(data):
    sheet = FirstPictures(first_objects, data(12), SIZE, 4)()
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    np.testing.assert_array_equal(sheet, FirstPictures(first_objects, data(8), SIZE, 8)())
    assert sheet.shape[0] > FirstPictures(first_objects, data(3), SIZE, 4)().shape[0]


@pytest.fixture(scope="module")
def model():
    """As much of a model as Keras asks for."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def board(folder, model, data, held_out=True):
    """A callback as `Model.fit` sets it up."""
    positives = Positives(Echo(), HarmonicLoss(), data, SIZE, seed=0)
    sheet = FirstPictures(first_objects, data, SIZE, 4)
    callback = TensorBoard(str(folder), positives, sheet, held_out)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def events(folder):
    """{tag: {step: array}} of a folder of event files, and the metadata of each tag."""
    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    reader.Reload()
    tags = reader.Tags()["tensors"]
    values = {
        tag: {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in reader.Tensors(tag)}
        for tag in tags
    }
    return values, {tag: reader.SummaryMetadata(tag) for tag in tags}


def picture_of(event):
    """What an image summary holds."""
    width, height, encoded = event[:3]
    image = Image.open(io.BytesIO(encoded))
    assert image.format == "PNG" and image.size == (int(width), int(height))
    return np.asarray(image)


def test_a_run_and_its_going_on(tmp_path, model, data):
    split = data(5, objects=3)
    truth = ground_truth_of(split)
    found = Detections(
        truth.image_index,
        truth.boxes,
        np.linspace(0.1, 0.9, 15, dtype=np.float32),
        truth.classes,
    )
    first = board(tmp_path, model, split)
    first.on_epoch_end(0, {"loss": 2.0, "b_r": 0.25})
    first.log_curves(1, truth, found)
    first.on_epoch_end(1, {"loss": 1.0, "b_r": 0.5, "val_AP": 0.75})
    killed, _ = events(tmp_path / "train")  # no file was closed
    assert list(killed["epoch_loss"]) == list(killed["positives/b_r"]) == [0, 1]
    second = board(tmp_path, model, split)
    second.on_epoch_end(2, {"loss": 0.5, "b_r": 0.75})
    second.on_train_end()

    train, _ = events(tmp_path / "train")
    np.testing.assert_equal(train["epoch_loss"], {0: 2.0, 1: 1.0, 2: 0.5})
    np.testing.assert_equal(train["epoch_b_r"], {0: 0.25, 1: 0.5, 2: 0.75})
    values = first.positives()
    for name, of_positives in values.items():
        assert list(train[f"positives/{name}"]) == [0, 1, 2]
        for low, high, counts in (buckets.T for buckets in train[f"positives/{name}"].values()):
            assert counts.sum() == len(of_positives)
            np.testing.assert_allclose(low[0], of_positives.min(), rtol=1e-6)
            np.testing.assert_allclose(high[-1], of_positives.max(), rtol=1e-6)
    assert picture_of(train["positives/score_and_IoU"][2]).shape == (600, 600, 3)

    validation, metadata = events(tmp_path / "validation")
    assert list(validation["epoch_AP"]) == [1]
    assert list(validation["detections"]) == [0, 1, 2]
    np.testing.assert_array_equal(picture_of(validation["detections"][1]), first.sheet())
    curves = precision_recall_curves(truth, found)
    assert list(curves) == CLASS_NAMES
    for name, curve in curves.items():
        tag = f"precision_recall/{name}"
        np.testing.assert_equal(validation[tag], {1: curve})
        plugin = metadata[tag].plugin_data
        assert plugin.plugin_name == "pr_curves"
        assert parse_plugin_metadata(plugin.content).num_thresholds == curve.shape[1] == 201


def test_without_a_validation_split_and_without_positives(tmp_path, model, data):
    callback = board(tmp_path, model, data(2), held_out=False)
    callback.positives = lambda: dict.fromkeys(("b_c", "score", "IoU"), np.zeros(0, np.float32))
    callback.on_epoch_end(4, {"loss": 1.0})
    train, _ = events(tmp_path / "train")
    assert list(train["detections"]) == list(train["epoch_loss"]) == [4]
    assert train["positives/b_c"][4][:, 2].sum() == 0
    assert not (tmp_path / "validation").exists()


def curve_at(curve, score):
    """Hits, misses, objects not found, precision and recall from a score on."""
    true, false, negative, missed, precision, recall = curve[:, round(score * 200)]
    assert negative == 0
    return true, false, missed, precision, recall


def test_curves_worked_by_hand():
    boxes = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 50, 10, 60]])
    crowd = np.array([False, False, False, True])
    truth = GroundTruth(
        ["p"], ["a", "none"], np.zeros(4, int), boxes, np.zeros(4, int), np.zeros(4, bool), crowd
    )
    found = Detections(
        np.zeros(6, int),
        # on the first, on it again, on the second at IoU 0.6, on the third at 0.4, in the crowd,
        # and of a class without objects
        np.float32(
            [boxes[0], boxes[0], [20, 0, 26, 10], [40, 0, 44, 10], [2, 52, 8, 58], boxes[0]]
        ),
        np.float32([0.9, 0.8, 0.5, 0.3, 0.95, 0.99]),
        np.array([0, 0, 0, 0, 0, 1]),
    )
    curves = precision_recall_curves(truth, found)
    assert list(curves) == ["a"]
    curve = curves["a"]
    np.testing.assert_allclose(curve_at(curve, 0.0), (2, 2, 1, 1 / 2, 2 / 3), rtol=1e-6)
    np.testing.assert_allclose(curve_at(curve, 0.4), (2, 1, 1, 2 / 3, 2 / 3), rtol=1e-6)
    np.testing.assert_allclose(curve_at(curve, 0.5), (2, 1, 1, 2 / 3, 2 / 3), rtol=1e-6)
    np.testing.assert_allclose(curve_at(curve, 0.505), (1, 1, 2, 1 / 2, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(curve_at(curve, 0.85), (1, 0, 2, 1, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(curve_at(curve, 0.95), (0, 0, 3, 0, 0), rtol=1e-6)


def test_curves_are_counts_over_the_detections_from_a_score_on():
    rng = np.random.default_rng(0)

    def table(count):
        corners = rng.uniform(0, 30, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 30, (count, 2))], axis=1)
        return rng.integers(0, 6, count), boxes.astype(np.float32), rng.integers(0, 2, count)

    pictures, boxes, classes = table(40)
    no = np.zeros(40, bool)
    truth = GroundTruth(list(range(6)), ["a", "b"], pictures, boxes, classes, no, no)
    pictures, boxes, classes = table(150)
    scores = (rng.integers(0, 101, 150) / 100).astype(np.float32)
    found = Detections(pictures, boxes, scores, classes)

    def overlap(a, b):
        sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
        shared = np.prod(sides.astype(float))
        return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

    for k, curve in enumerate(precision_recall_curves(truth, found).values()):
        wanted = np.sum(truth.classes == k)
        for column in range(0, 201, 25):
            threshold, free, true, false = column / 200, set(range(40)), 0, 0
            for d in np.argsort(-scores, kind="stable"):
                if classes[d] != k or float(scores[d]) < threshold:
                    continue
                fitting = {
                    overlap(boxes[d], truth.boxes[n]): n
                    for n in free
                    if truth.classes[n] == k and truth.image_index[n] == pictures[d]
                }
                if max(fitting, default=0) >= 0.5:
                    free.remove(fitting[max(fitting)])
                    true += 1
                else:
                    false += 1
            precision = true / (true + false) if true + false else 0
            expected = (true, false, 0, wanted - true, precision, true / wanted)
            np.testing.assert_allclose(curve[:, column], expected, rtol=1e-6)

"""A detector of somebody else's: the code of docs/own-detector.md, run as it stands there."""

import contextlib
import os
import re
import runpy

import numpy as np
import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.losses import BACKGROUND, HarmonicLoss
from harmonic_tf.models import DetectionDecoder, JointDetector, freeze

PICTURES = 8


@pytest.fixture(scope="module")
def own(source_tree, tiny_pictures, tmp_path_factory):
    """What the document's code has defined, run from top to bottom."""
    blocks = re.findall(r"```python\n(.*?)```", source_tree.read("docs/own-detector.md"), re.DOTALL)
    folder, before = tmp_path_factory.mktemp("document"), os.getcwd()
    (folder / "document.py").write_text("\n\n".join(blocks), encoding="utf-8")
    images, labels = tiny_pictures
    given = {"images": images, "labels": labels, "dataset": dataset(images, labels)}
    os.chdir(folder)
    try:
        return {**runpy.run_path("document.py", given), "folder": folder}
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def tiny_pictures():
    """Squares of 12 and 36 pixels, one for each level, their colour the class."""
    rng = np.random.default_rng(0)
    images = rng.uniform(90, 160, (PICTURES, 64, 64, 3)).astype(np.float32)
    corners, classes = rng.integers(0, 24, (PICTURES, 2, 2)), rng.integers(0, 3, (PICTURES, 2))
    sides = np.array([[12], [36]])
    boxes = np.concatenate([corners, corners + sides], axis=-1).astype(np.float32)
    for image, own_boxes, own_classes in zip(images, boxes, classes):
        for (x, y, to_x, to_y), c in reversed(list(zip(own_boxes.astype(int), own_classes))):
            image[y:to_y, x:to_x] = 255.0 * (np.arange(3) == c)
    classes = classes.astype(np.float32)
    classes[: PICTURES // 2, 1] = -1  # of two replicas one has more positives
    return images, {"boxes": boxes, "classes": classes}


def dataset(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(PICTURES, True)


def trained(kind, data, replicas=1, rate=0.05, steps=3, **arguments):
    """Weights after some steps from the same start, and what was logged."""
    scope = contextlib.nullcontext()
    if replicas > 1:
        devices = [f"CPU:{index}" for index in range(replicas)]
        scope = tf.distribute.MirroredStrategy(
            devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
        ).scope()
    keras.utils.set_random_seed(0)
    with scope:
        model = kind()
        model.compile(keras.optimizers.SGD(rate), **arguments)
    logs = model.fit(data.repeat(steps), verbose=0).history
    return [weight.numpy() for weight in model.trainable_variables], logs["loss"][0]


@pytest.fixture(scope="module")
def alone(own):
    """One replica, one pass, no XLA."""
    return trained(lambda: own["PointDetector"](3), own["dataset"], jit_compile=False)


def assert_same(one, other):
    for a, b in zip(one, other):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_the_document_runs_from_top_to_bottom(own):
    loaded = keras.models.load_model(own["folder"] / "points.keras")
    assert type(loaded) is own["PointDetector"]
    fresh = own["PointDetector"](3)
    fresh.compile("sgd")
    before, after = (model.evaluate(own["dataset"], verbose=0)[0] for model in (fresh, loaded))
    assert after < 0.8 * before
    for name, value in loaded.predict(own["images"], verbose=0).items():
        np.testing.assert_allclose(value, own["found"][name], atol=1e-4, err_msg=name)
    assert len(own["detections"].scores) > 0
    assert own["metrics"]["coco"]["AP"] > 0
    assert (own["folder"] / "served" / "points" / "1" / "saved_model.pb").exists()
    assert own["model"].image_size == 64


def test_points_learn_the_smallest_box_around_them_that_is_of_their_level(own):
    labels = {
        "boxes": tf.constant([[[0, 0, 60, 60], [4, 4, 18, 18], [0, 0, 30, 30], [-1.0] * 4]]),
        "classes": tf.constant([[0, 1, 2, -1]]),
    }
    y_true = own["assign"](labels, 64, 64)
    for point, found, box in zip(own["points"](64, 64).numpy(), *map(np.squeeze, y_true.values())):
        (x, y, stride), choices = point[:3], []
        for c, (left, top, right, bottom) in enumerate(labels["boxes"].numpy()[0, :3]):
            sides = np.array([x - left, y - top, right - x, bottom - y])
            if min(sides) > 0 and (max(sides) > 16) == (stride == 16):
                choices.append(((right - left) * (bottom - top), c))
        assert found == min(choices, default=(0, BACKGROUND))[1]
        if choices:
            np.testing.assert_array_equal(box, labels["boxes"][0, min(choices)[1]])


@pytest.mark.parametrize(
    "replicas, arguments",
    [
        (2, {"jit_compile": False}),
        (2, {"jit_compile": True, "accumulation_steps": 2}),
    ],
)
def test_replicas_xla_and_micro_batches_make_the_same_update(own, alone, replicas, arguments):
    shared = trained(lambda: own["PointDetector"](3), own["dataset"], replicas, **arguments)
    assert_same(alone[0], shared[0])
    np.testing.assert_allclose(alone[1], shared[1], rtol=1e-4)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_loss_alone_makes_the_same_update(own, alone, replicas):
    def plain():
        return own["PlainDetector"](*own["network"](3))

    weights, _ = trained(plain, own["dataset"], replicas, jit_compile=False)
    assert all(np.isfinite(weight).all() for weight in weights)
    assert_same(alone[0], weights)


def test_served_detections_are_those_of_predict(own, tmp_path):
    model, images = own["model"], own["images"]
    model.prediction_decoder = DetectionDecoder(score_threshold=0.0, max_detections=10)
    folder = export_model(model, ["a", "b", "c"], str(tmp_path / "own"), ServingSettings(64))
    signature = tf.saved_model.load(folder).signatures["predict_float_images"]
    answer = {name: value.numpy() for name, value in signature(images=images).items()}
    found = model.predict(images, verbose=0)
    assert answer["num_detections"].min() == 10
    np.testing.assert_allclose(answer["boxes"], found["boxes"], atol=1e-3)
    np.testing.assert_allclose(answer["scores"], found["confidence"], atol=1e-5)
    np.testing.assert_array_equal(answer["classes"], found["classes"])


def test_what_a_detector_lacks_is_named(own):
    class Nothing(JointDetector):
        pass

    class NoClasses(own["PointDetector"]):
        def __init__(self):
            super().__init__(3)
            del self.num_classes

    with pytest.raises(ValueError, match=r"NoClasses\.compile: the detector has no num_classes;"):
        NoClasses().compile("sgd")
    inputs, outputs = own["network"](3)
    nothing = Nothing(inputs=inputs, outputs=outputs)
    with pytest.raises(ValueError, match="has no targets, dense_predictions, num_classes; see"):
        nothing.compile("sgd")
    with pytest.raises(NotImplementedError, match="Nothing does not define dense_predictions"):
        nothing.predict(own["images"], verbose=0)
    for ask in (
        lambda model: model.compile("sgd", backbone_learning_rate_factor=0.5),
        lambda model: freeze(model, "backbone"),
        lambda model: freeze(model, "stem"),
    ):
        with pytest.raises(ValueError, match=r"PointDetector.*needs the attribute backbone"):
            ask(own["PointDetector"](3))


def test_what_the_loss_would_read_and_is_not_given_is_named(own):
    model = own["PointDetector"](3)
    with pytest.raises(ValueError, match="PointDetector: regressed_labels"):
        model.compile("sgd", HarmonicLoss(regressed_labels=True))
    model.compile("sgd", HarmonicLoss(), jit_compile=False)
    with pytest.raises(ValueError, match=r"no 'offsets', which smooth_l1_weight = 1\.0 reads"):
        model.fit(own["dataset"], verbose=0)

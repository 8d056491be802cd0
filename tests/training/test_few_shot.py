"""A detector that starts from one of other classes knows those it knew: told by their names."""

import json

import numpy as np
import pytest

from harmonic_tf.backend import keras
from harmonic_tf.models import DetectionDecoder, HarmonicRetinaNet, HarmonicYOLOV8Detector
from harmonic_tf.training.fine_tuning import ClassMatch, start_from
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import SettingsError
from tests.tiny import SIZE, TinyBackbone

BASE = ("ant", "bee", "cat")


def retinanet(names, seed, cosine=False):
    keras.utils.set_random_seed(seed)
    return HarmonicRetinaNet(
        TinyBackbone(),
        len(names),
        "xyxy",
        channels=8,
        head_depth=1,
        cosine_classifier=cosine,
        prediction_decoder=DetectionDecoder(score_threshold=0.0, max_detections=20),
    )


def cosine_retinanet(names, seed):
    return retinanet(names, seed, cosine=True)


def yolov8(names, seed):
    keras.utils.set_random_seed(seed)
    decoder = DetectionDecoder(score_threshold=0.0, max_detections=20)
    return HarmonicYOLOV8Detector(
        TinyBackbone(16), len(names), "xyxy", fpn_depth=1, prediction_decoder=decoder
    )


def randomized(model, seed=2):
    """The model with a bias of its own for each class, as training would leave it."""
    rng = np.random.default_rng(seed)
    for layer in model.class_layers():
        layer.set_weights([rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return model


def run_of(model, folder):
    """A run that has trained the model: its checkpoint."""
    run = RunDirectory(str(folder))
    run.create()
    run.save_model(model, "best")
    run.write_class_names(BASE)
    return run.checkpoint("best")


@pytest.fixture(scope="module", params=[retinanet, cosine_retinanet, yolov8])
def base(request, tmp_path_factory):
    """What builds a detector, one that knows `BASE`, and its checkpoint."""
    trained = randomized(request.param(BASE, seed=0))
    return request.param, trained, run_of(trained, tmp_path_factory.mktemp("base"))


def images():
    return np.random.default_rng(3).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)


def logits(model):
    """Logits and boxes of every anchor."""
    dense = model.dense_predictions(model(images(), training=False), SIZE, SIZE)
    return dense["logits"].numpy(), dense["boxes"].numpy()


def detections(model):
    found = model.decode_predictions(model(images(), training=False), images())
    return {name: value.numpy() for name, value in found.items()}


def by_class(model):
    """The weights of the last classification layers, the class as the last axis."""
    return [
        weight.reshape(*weight.shape[:-1], -1, model.num_classes)
        for layer in model.class_layers()
        for weight in layer.get_weights()
    ]


@pytest.mark.parametrize("names", (BASE, ("cat", "ant", "bee")))
def test_few_shot_start_finds_the_same_in_another_order_of_classes(base, names):
    build, trained, path = base
    model = build(names, seed=1)
    transfer = start_from(model, path, names)
    assert "classes too" in str(transfer) and "classes new" not in str(transfer)
    assert not transfer.reinitialized_parameters
    before, after = detections(trained), detections(model)
    named = np.array([names.index(name) for name in BASE])
    assert (before["classes"] >= 0).any()
    expected = np.where(before["classes"] < 0, -1, named[before["classes"].astype(int)])
    np.testing.assert_array_equal(after["boxes"], before["boxes"])
    np.testing.assert_array_equal(after["confidence"], before["confidence"])
    np.testing.assert_array_equal(after["classes"], expected)


@pytest.mark.parametrize("names", (("fly", "cat", "ant", "bee", "owl"), ("bee", "fly", "ant")))
def test_few_shot_start_keeps_known_classes_and_leaves_new_ones(base, names):
    """Also where the number of classes is the same: `cat` goes, `fly` is new."""
    build, trained, path = base
    model = randomized(build(names, seed=1), seed=5)
    fresh = by_class(model)
    transfer = start_from(model, path, names)
    for before, initial, after in zip(by_class(trained), fresh, by_class(model)):
        for index, name in enumerate(names):
            if name in BASE:
                np.testing.assert_array_equal(after[..., index], before[..., BASE.index(name)])
            else:
                np.testing.assert_array_equal(after[..., index], initial[..., index])
    (old_logits, old_boxes), (new_logits, new_boxes) = logits(trained), logits(model)
    np.testing.assert_array_equal(new_boxes, old_boxes)
    for name in set(BASE) & set(names):
        known, now = old_logits[..., BASE.index(name)], new_logits[..., names.index(name)]
        np.testing.assert_allclose(now, known, atol=1e-5)

    kept = [name for name in names if name in BASE]
    new = [name for name in names if name not in BASE]
    assert f"classes kept: {', '.join(kept)}\n  classes new: {', '.join(new)}" in str(transfer)
    assert ("left out: cat" in str(transfer)) == ("cat" not in names)
    anew = len(new) * sum(weight[..., 0].size for weight in fresh)
    assert transfer.reinitialized_parameters == anew
    assert transfer.kept_parameters + anew == model.count_params()
    assert not transfer.reinitialized and transfer.kept == len(model.weights)


def test_few_shot_start_leaves_a_wider_class_branch_as_it_is(tmp_path):
    """Of more classes than channels, YOLOv8's hidden layers widen: no column fits them."""
    names = (*BASE, *map(str, range(40)))
    trained, model = yolov8(BASE, seed=0), yolov8(names, seed=1)
    fresh = by_class(model)
    transfer = start_from(model, run_of(trained, tmp_path), names)
    for before, after in zip(fresh, by_class(model)):
        np.testing.assert_array_equal(after, before)
    assert not transfer.classes.kept and transfer.reinitialized
    assert "classes kept" not in str(transfer)


def test_few_shot_start_of_a_cosine_classifier_from_a_plain_one(tmp_path):
    names = (*BASE, "fly")
    trained, model = randomized(retinanet(BASE, seed=0)), cosine_retinanet(names, seed=1)
    transfer = start_from(model, run_of(trained, tmp_path), names)
    assert transfer.classes.kept == list(BASE)
    for before, after in zip(by_class(trained), by_class(model)):
        np.testing.assert_array_equal(after[..., :3], before)


def test_few_shot_start_from_a_checkpoint_without_names(tmp_path):
    """Nothing tells classes apart but their number."""
    trained = randomized(retinanet(BASE, seed=0))
    path = str(tmp_path / "alone.keras")
    trained.save(path)
    model = retinanet(BASE, seed=1)
    transfer = start_from(model, path, ("x", "y", "z"))
    np.testing.assert_array_equal(logits(model)[0], logits(trained)[0])
    assert "no classes.json that names them; each is kept as the one of its number" in str(transfer)
    transfer = start_from(retinanet("wxyz", seed=1), path, tuple("wxyz"))
    assert "no classes.json that names them; none is kept" in str(transfer)
    assert transfer.classes is None and len(transfer.reinitialized) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    (
        (json.dumps(["ant"]), r"classes\.json names 1 classes, --start_from=.* has 3"),
        ("[", r"classes\.json is not JSON .*Mend it"),
    ),
)
def test_few_shot_start_refuses_names_of_others(content, words, tmp_path):
    path = run_of(retinanet(BASE, seed=0), tmp_path)
    (tmp_path / "classes.json").write_text(content)
    model = retinanet(BASE, seed=1)
    before = model.get_weights()
    with pytest.raises(SettingsError, match=words):
        start_from(model, path, BASE)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_few_shot_classes_are_matched_by_name():
    match = ClassMatch(("a", "b", "c"), ("c", "x", "a"))
    assert (match.kept, match.new, match.left_out) == (["c", "a"], ["x"], ["b"])
    before, now = np.arange(6), -np.arange(1, 7)  # two predictions a cell
    assert match.merged(before, now).tolist() == [2, -2, 0, 5, -5, 3]
    assert now.tolist() == [-1, -2, -3, -4, -5, -6]  # as it was

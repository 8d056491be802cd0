"""The two-stage detector: what is sampled, what is learned of it, and what it is divided by."""

import numpy as np
import pytest

from harmonic_tf.anchors import AnchorGrid, iou
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import BACKGROUND, IGNORED, HarmonicLoss
from harmonic_tf.models import HarmonicFasterRCNN, build_backbone
from harmonic_tf.models.faster_rcnn import RPN, SAMPLED_ANCHORS
from harmonic_tf.models.joint.groups import MAIN
from tests.tiny import SIZE, TinyBackbone

RCNN = pytest.mark.parametrize("tiny", ["faster_rcnn"], indirect=True)


def compiled(model, optimizer="sgd", **kwargs):
    model.compile(optimizer, **{"jit_compile": False, **kwargs})
    return model


def batch(tiny, count=2):
    images, labels = tiny.pictures(count)
    classes = tf.cast(labels["classes"], tf.int32)
    return tf.constant(images), {"boxes": tf.constant(labels["boxes"]), "classes": classes}


def objects(labels, picture):
    real = labels["classes"][picture] >= 0
    return labels["boxes"][picture][real].numpy(), labels["classes"][picture][real].numpy()


def anchor_states(anchors, boxes):
    """Object of each anchor by the rule of arXiv 1506.01497, one after the other in NumPy."""
    overlaps = iou(anchors[:, None], boxes[None])
    best = overlaps.argmax(axis=1)
    states = np.where(overlaps.max(axis=1) >= 0.7, best, IGNORED)
    states[overlaps.max(axis=1) < 0.3] = BACKGROUND
    owned = np.zeros(len(anchors), bool)
    for place in range(len(boxes)):
        favourite = np.where(owned, -1.0, overlaps[:, place]).argmax()
        states[favourite], owned[favourite] = place, True
    return states


@RCNN
def test_sampled_anchors_are_matched_by_the_rule(tiny):
    model = compiled(tiny.model())
    images, labels = batch(tiny)
    outputs = model.labelled_outputs(images, labels, training=False)
    y_true, y_pred = model.sample_groups(labels, outputs, SIZE, SIZE)[RPN]
    anchors = model.anchors.boxes(SIZE, SIZE)
    assert y_pred["logits"].shape == (2, min(SAMPLED_ANCHORS, len(anchors)), 1)
    for i in range(2):
        boxes, _ = objects(labels, i)
        states = anchor_states(anchors.astype(np.float64), boxes.astype(np.float64))
        found, index = y_true["classes"][i].numpy(), y_true["index"][i].numpy()
        drawn = found != IGNORED
        assert len(set(index[drawn])) == drawn.sum()
        np.testing.assert_array_equal(found[drawn], np.minimum(states[index[drawn]], 0))
        assert np.sum(found == 0) == min(np.sum(states >= 0), SAMPLED_ANCHORS // 2)
        room = SAMPLED_ANCHORS - np.sum(found == 0)
        assert np.sum(found == BACKGROUND) == min(np.sum(states == BACKGROUND), room)
        positive = found == 0
        expected = boxes[states[index[positive]]]
        np.testing.assert_array_equal(y_true["boxes"][i][positive], expected)
        logits = outputs["rpn_logits"][i].numpy()[index]
        np.testing.assert_array_equal(y_pred["logits"][i], logits)


@RCNN
def test_sampled_rois_are_proposals_and_objects_a_quarter_of_them_positive(tiny):
    model = compiled(tiny.model())
    images, labels = batch(tiny)
    proposals = model(images, training=False)["rois"].numpy()
    outputs = model.labelled_outputs(images, labels, training=False)
    y_true, y_pred = model.sample_groups(labels, outputs, SIZE, SIZE)[MAIN]
    assert outputs["rois"].shape == (2, model.sampled_rois, 4)
    for i in range(2):
        boxes, classes = objects(labels, i)
        rois = outputs["rois"][i].numpy()
        known = np.concatenate([proposals[i], boxes])
        assert all(np.any(np.all(np.isclose(known, roi, atol=1e-3), axis=1)) for roi in rois)
        overlaps = iou(rois[:, None].astype(np.float64), boxes[None].astype(np.float64))
        expected = np.where(
            overlaps.max(axis=1) >= 0.5, classes[overlaps.argmax(axis=1)], BACKGROUND
        )
        np.testing.assert_array_equal(y_true["classes"][i], expected)
        assert 1 <= np.sum(expected >= 0) <= model.sampled_rois // 4
    np.testing.assert_array_equal(y_pred["rois"], outputs["rois"])


@RCNN
def test_each_stage_is_divided_by_its_samples_not_by_its_positives(tiny):
    model = compiled(tiny.model())
    images, labels = batch(tiny)
    outputs = model.labelled_outputs(images, labels, training=False)
    groups = model.sample_groups(labels, outputs, SIZE, SIZE)
    second = HarmonicLoss("softmax_cross_entropy")(*groups[MAIN]) / (2 * model.sampled_rois)
    plain = {"coupling": None, "task_contrasting": False, "iou_loss": None}
    first = HarmonicLoss("cross_entropy", smooth_l1_beta=1 / 9, **plain)(*groups[RPN])
    first /= np.sum(groups[RPN][0]["classes"] != IGNORED)
    logs = model.test_step((images, labels))
    np.testing.assert_allclose(logs["loss"], second + first, rtol=1e-5)
    parts = logs["rpn_classification_loss"] + logs["rpn_localization_loss"]
    np.testing.assert_allclose(parts, first, rtol=1e-5)


@RCNN
def test_what_is_sampled_follows_from_the_step_alone(tiny):
    """So a training that was resumed, which restores that number, goes on as it would have."""
    model = compiled(tiny.model())
    images, labels = batch(tiny)

    def rois_of(step):
        model.weight_update.attempted.assign(step)
        return model.labelled_outputs(images, labels, training=False)["rois"].numpy()

    first, second, again = rois_of(3), rois_of(4), rois_of(3)
    assert np.any(first != second)
    np.testing.assert_array_equal(first, again)


@RCNN
def test_rcnn_learns_and_logs_both_stages(tiny):
    model = compiled(tiny.model(), keras.optimizers.Adam(1e-2))
    history = model.fit(
        tf.data.Dataset.from_tensors(tiny.pictures()).repeat(10), epochs=2, verbose=0
    ).history
    for name in ("classification_loss", "rpn_classification_loss", "loss"):
        assert history[name][1] < history[name][0]
    assert {"localization_loss", "rpn_localization_loss", "b_r", "mean_iou"} < set(history)


@RCNN
def test_a_frozen_rcnn_has_classes_of_its_own_to_keep(tiny):
    model = tiny.model()
    (classes,) = model.class_layers()
    assert classes.kernel.shape[-1] == tiny.classes
    trained = {id(w) for layer in model.head_layers() for w in layer.weights}
    assert {id(w) for layer in model.last_layers() for w in layer.weights} < trained


@RCNN
def test_rcnn_saves_and_loads_with_predictions_and_training_state(tiny, tmp_path, everything_found):
    loss = HarmonicLoss("softmax_cross_entropy", coupling="unit", margin=0.1)
    model = compiled(
        tiny.model(prediction_decoder=everything_found), keras.optimizers.Adam(1e-3), loss=loss
    )
    images, labels = batch(tiny)
    model.train_step((images, labels))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    for name, value in model.get_config().items():
        assert name == "backbone" or loaded.get_config()[name] == value
    found, again = (m.predict_step(images) for m in (model, loaded))
    for key in found:
        np.testing.assert_allclose(found[key], again[key], atol=1e-4)
    loaded.weight_update.attempted.assign(model.weight_update.attempted)
    for m in (model, loaded):
        m.train_step((images, labels))
    for a, b in zip(model.trainable_variables, loaded.trainable_variables):
        np.testing.assert_allclose(a, b, atol=1e-5)


@RCNN
def test_an_rcnn_of_open_sides_is_the_one_of_that_size(tiny):
    fixed = tiny.model()
    late = tiny.model(backbone=TinyBackbone(image_size=None))
    for one, other in zip(late.weights, fixed.weights):
        one.assign(other)
    images, _ = batch(tiny)
    expected = fixed(images)
    for name, value in late(images).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)


@RCNN
@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"sampled_rois": 21}, r"sampled_rois = 21 must be in \[1, proposals = 20\]"),
        ({"anchors": {"strides": (16,), "sizes": (16,)}}, r"strides \(16,\)"),
        ({"anchors": None}, "begin at the stride 4, .* P2, which TinyBackbone has not"),
        ({"backbone": TinyBackbone(image_size=80)}, "multiple of 32"),
    ],
)
def test_rcnn_refuses_nonsense(tiny, arguments, words):
    with pytest.raises(ValueError, match=words):
        tiny.model(**arguments)


@RCNN
def test_rcnn_needs_a_class_and_the_loss_of_its_scores(tiny):
    with pytest.raises(ValueError, match="num_classes = 0"):
        HarmonicFasterRCNN(TinyBackbone(), 0, "xyxy", anchors=AnchorGrid())
    with pytest.raises(ValueError, match=r"'focal' does not fit .* 'softmax_cross_entropy'"):
        compiled(tiny.model(), loss=HarmonicLoss())


def test_rcnn_has_the_papers_pyramid_by_default():
    model = HarmonicFasterRCNN(
        build_backbone("resnet18", 64), 2, "xyxy", channels=8, hidden_units=8, proposals=600
    )
    outputs = model(np.zeros((1, 64, 64, 3), np.float32))
    cells = sum((64 // stride) ** 2 for stride in (4, 8, 16, 32, 64))
    assert outputs["rpn_logits"].shape == (1, 3 * cells, 1)
    assert outputs["rois"].shape == (1, 600, 4)
    assert outputs["logits"].shape == (1, 600, 3)

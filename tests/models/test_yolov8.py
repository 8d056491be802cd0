"""HarmonicYOLOV8Detector: its network, its targets and its loss; the rest is in test_detectors."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, keras_cv, name_of, tf
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models import FPN_DEPTHS, HarmonicYOLOV8Detector, build_backbone
from harmonic_tf.models.distances import BINS, CELLS, decode_distances, encode_distances
from harmonic_tf.models.task_alignment import assign_cells

YOLO = pytest.mark.parametrize("tiny", ["yolov8"], indirect=True)
RNG = np.random.default_rng(0)


def as_tensors(labels):
    return {key: tf.constant(value) for key, value in labels.items()}


@YOLO
def test_logits_are_those_of_keras_cv(tiny):
    model = tiny.model()
    stock = keras_cv.models.YOLOV8Detector(model.backbone, tiny.classes, "xyxy", fpn_depth=1)
    assert len(stock.weights) == len(model.weights)
    weights = {name_of(weight): weight for weight in model.weights}
    for weight in stock.weights:
        weight.assign(weights[name_of(weight)])
    images, _ = tiny.pictures()
    ours, theirs = model(images), stock(images)
    np.testing.assert_allclose(tf.sigmoid(ours["classes"]), theirs["classes"], atol=1e-5)
    np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1e-4)


@pytest.mark.parametrize("name", list(FPN_DEPTHS))
def test_sizes_are_those_of_the_presets(name):
    preset = name.replace("yolov8", "yolo_v8") + "_backbone"
    expected = keras_cv.models.YOLOV8Backbone.presets[preset]["metadata"]["params"]
    assert build_backbone(name, 64).count_params() == expected


@YOLO
def test_distances_lead_back_to_the_box(tiny):
    cells = CELLS.boxes(tiny.size, tiny.size)
    assert cells.shape == (8 * 8 + 4 * 4 + 2 * 2, 4)
    centers = (cells[:, :2] + cells[:, 2:]) / 2
    # Of P3, 15 strides are 120 px: every side of a box in a picture of 64 px can be reached.
    sides = RNG.uniform(0, 100, (len(cells), 4)).astype(np.float32)
    boxes = np.concatenate([centers - sides[:, :2], centers + sides[:, 2:]], -1)
    distances = encode_distances(boxes, cells)
    np.testing.assert_allclose(distances[0], sides[0] / 8, rtol=1e-5)
    np.testing.assert_allclose(decode_distances(distances, cells), boxes, atol=1e-4)
    far = encode_distances(boxes + np.float32([-1e4, 0, 1e4, 0]), cells)
    np.testing.assert_array_equal(far[:, 0::2], BINS - 1)


@YOLO
@pytest.mark.parametrize("switches", [{}, {"iou_loss": "ciou", "smooth_l1_weight": 0.0}], ids=str)
def test_the_loss_against_numpy(tiny, switches):
    """Every cell by itself, in float64, from the network's outputs and the assignment."""
    images, labels = tiny.pictures()
    model = tiny.model()
    loss = HarmonicLoss("cross_entropy", dfl_weight=0.5, **switches)
    model.compile("sgd", loss, jit_compile=False)
    outputs = {name: value.numpy() for name, value in model(images, training=False).items()}

    cells = CELLS.boxes(tiny.size, tiny.size).astype(np.float64)
    strides, centers = (cells[:, 2:] - cells[:, :2]), (cells[:, :2] + cells[:, 2:]) / 2
    bins = np.exp(outputs["boxes"].astype(np.float64).reshape(2, -1, 4, BINS))
    bins /= bins.sum(-1, keepdims=True)
    distances = (bins * np.arange(BINS)).sum(-1)
    boxes = np.concatenate(
        [centers - distances[..., :2] * strides, centers + distances[..., 2:] * strides], -1
    )
    scores = 1 / (1 + np.exp(-outputs["classes"].astype(np.float64)))
    classes, truth, targets = (
        value.numpy()
        for value in assign_cells(
            np.float32(centers),
            labels["boxes"],
            labels["classes"],
            np.float32(boxes),
            np.float32(scores),
        )
    )
    assert np.sum(classes >= 0) > 0
    total = 0.0
    for i, a in np.ndindex(classes.shape):
        k, t, p = classes[i, a], targets[i, a], scores[i, a]
        y = t * (np.arange(tiny.classes) == k)
        ce = -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))
        if k < 0:
            total += ce
            continue
        w, h = np.minimum(truth[i, a, 2:], boxes[i, a, 2:]) - np.maximum(
            truth[i, a, :2], boxes[i, a, :2]
        )
        shared = max(w, 0) * max(h, 0)
        areas = [np.prod(b[2:] - b[:2]) for b in (truth[i, a], boxes[i, a])]
        iou = shared / (sum(areas) - shared)
        sides = np.abs(truth[i, a] - np.tile(centers[a], 2)) / strides[a, 0]
        sides = np.clip(sides, 0, BINS - 1)
        localization = 0.0
        if not switches:
            d = np.abs(sides - distances[i, a])
            localization += np.sum(np.where(d < 1, 0.5 * d**2, d - 0.5))
            localization += 1.5 * (1 + iou) ** 0.8 * (1 - iou)
        else:
            localization += 1.5 * (1 - float(tiny_ciou(truth[i, a], boxes[i, a])))
        for side, q in zip(sides, bins[i, a]):
            left = min(int(side), BINS - 2)
            right = side - left
            localization -= 0.5 * ((1 - right) * np.log(q[left]) + right * np.log(q[left + 1]))
        contrast = max(abs(p[k] - iou) - 0.2, 0) / (1 + np.exp(-np.sum(p * np.log(p))))
        total += (1 + np.exp(-localization)) * ce
        total += t * ((1 + np.exp(-ce)) * localization + contrast)
    logs = model.test_step((images, as_tensors(labels)))
    np.testing.assert_allclose(logs["loss"], total / max(targets.sum(), 1), rtol=1e-3)


def tiny_ciou(a, b):
    from harmonic_tf import boxes as box_ops  # tested in test_boxes against its formula

    return box_ops.ciou(tf.constant(a, tf.float32), tf.constant(b, tf.float32)).numpy()


@YOLO
def test_refuses_what_it_cannot_train_with(tiny):
    model = tiny.model()
    with pytest.raises(ValueError, match=r"classification = 'focal'.*cross_entropy"):
        model.compile("sgd", HarmonicLoss())
    with pytest.raises(ValueError, match="fpn_depth = 0"):
        tiny.model(fpn_depth=0)
    with pytest.raises(ValueError, match="multiple of 32"):
        HarmonicYOLOV8Detector(build_backbone("yolov8_xs", 80), 2, "xyxy")


def test_a_distribution_loss_needs_distributions():
    loss = HarmonicLoss(dfl_weight=1.0)
    one = {"offsets": tf.zeros([1, 1, 4]), "boxes": tf.ones([1, 1, 4])}
    with pytest.raises(ValueError, match=r"no 'bins', which dfl_weight = 1\.0 reads"):
        loss.terms(
            {**one, "classes": tf.zeros([1, 1], tf.int32)}, {**one, "logits": tf.zeros([1, 1, 1])}
        )
    assert keras.losses.deserialize(keras.losses.serialize(loss)).dfl_weight == 1.0

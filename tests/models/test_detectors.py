"""What detectors train on, what they give back, that they learn and survive saving.

What all detectors share is tested on both where that is cheap, on RetinaNet alone elsewhere.
"""

import numpy as np
import pytest

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import keras, tf
from harmonic_tf.losses import HarmonicLoss
from harmonic_tf.models import SMOOTH_L1_WEIGHT, HarmonicRetinaNet, build_backbone
from harmonic_tf.models.pyramid import FeaturePyramid

LOGGED = {
    "loss",
    "classification_loss",
    "localization_loss",
    "task_contrasting_loss",
    "b_r",
    "b_c",
    "mean_iou",
    "positives_per_image",
    "gradient_norm",
    "skipped_steps",
}


BOTH = pytest.mark.parametrize("tiny", ["retinanet", "yolov8"], indirect=True)
ALL = pytest.mark.parametrize("tiny", ["retinanet", "yolov8", "faster_rcnn"], indirect=True)


def as_tensors(labels):
    return {key: tf.constant(value) for key, value in labels.items()}


def compiled(model, optimizer=None, **kwargs):
    kwargs = {"jit_compile": False, **kwargs}
    model.compile(optimizer or keras.optimizers.SGD(0.01, global_clipnorm=1.0), **kwargs)
    return model


@BOTH
def test_is_a_detector_of_keras_cv(tiny):
    assert isinstance(tiny.model(), tiny.stock)


@BOTH
def test_both_branches_get_better_and_every_term_is_logged(tiny):
    model = compiled(tiny.model(), keras.optimizers.Adam(1e-3))
    data = tf.data.Dataset.from_tensors(tiny.pictures()).repeat(10)
    history = model.fit(data, epochs=2, verbose=0).history
    assert set(history) == LOGGED
    # The sum may rise: YOLOv8 divides it by what positives deserve, which is next to nothing first.
    assert history["classification_loss"][1] < history["classification_loss"][0]
    assert history["mean_iou"][1] > history["mean_iou"][0]
    parts = sum(np.array(history[f"{t}_loss"]) for t in ("classification", "localization"))
    np.testing.assert_allclose(parts + history["task_contrasting_loss"], history["loss"], rtol=1e-4)
    for name in ("b_r", "b_c", "mean_iou"):
        assert 0 < history[name][0] <= 1


def test_the_loss_is_the_sum_over_samples_divided_by_the_positives(tiny):
    model = compiled(tiny.model())
    images, labels = tiny.pictures()
    outputs = model(images, training=False)
    anchors = tf.constant(model.anchors.boxes(tiny.size, tiny.size))
    y_pred = {
        "logits": outputs["classification"],
        "offsets": outputs["box"],
        "boxes": box_ops.decode(outputs["box"], anchors),
    }
    y_true = model.targets(as_tensors(labels), y_pred, tiny.size, tiny.size)
    loss = HarmonicLoss(smooth_l1_weight=SMOOTH_L1_WEIGHT)
    expected = loss(y_true, y_pred) / np.sum(y_true["classes"].numpy() >= 0)
    logs = model.evaluate(
        tf.data.Dataset.from_tensors((images, labels)), verbose=0, return_dict=True
    )
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)


@ALL
def test_learns_from_pictures_without_any_object(tiny):
    model = compiled(tiny.model(), keras.optimizers.Adam(1e-2))
    images, labels = tiny.no_objects()
    before = tiny.scores(model, images)
    history = model.fit(tf.data.Dataset.from_tensors((images, labels)).repeat(5), verbose=0).history
    after = tiny.scores(model, images)
    assert history["loss"][0] > 0
    assert history["localization_loss"][0] == 0
    assert tf.reduce_mean(after) < tf.reduce_mean(before)


@ALL
def test_takes_labels_padded_to_width_zero(tiny):
    model = compiled(tiny.model())
    images, labels = tiny.no_objects(width=0)
    logs = model.train_on_batch(images, as_tensors(labels), return_dict=True)
    assert np.isfinite(logs["loss"])
    assert logs["loss"] > 0


def test_forms_of_batches_make_no_difference(tiny):
    """Padded labels, ragged ones, and a batch as keras-cv has it."""
    images, labels = tiny.pictures()
    labels["classes"][0, 1:] = -1  # one object in the first picture, three in the second
    ragged = {
        "boxes": tf.ragged.constant([b[c >= 0] for b, c in zip(*labels.values())], ragged_rank=1),
        "classes": tf.ragged.constant([c[c >= 0] for c in labels["classes"]]),
    }
    model = compiled(tiny.model(), keras.optimizers.SGD(0.0))  # weights stay as they are
    batches = ((images, labels), (images, ragged), {"images": images, "bounding_boxes": labels})
    losses = [
        model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history["loss"]
        for batch in batches
    ]
    for loss in losses[1:]:
        np.testing.assert_allclose(loss, losses[0], rtol=1e-5)


@ALL
def test_predicts_on_images_and_on_images_with_labels(tiny, everything_found):
    model = tiny.model(prediction_decoder=everything_found)
    images, labels = tiny.pictures(4)
    plain = model.predict(images, verbose=0)
    datasets = (
        tf.data.Dataset.from_tensor_slices(images).batch(2),
        tf.data.Dataset.from_tensor_slices((images, labels)).batch(2),
        tf.data.Dataset.from_tensor_slices({"images": images, "bounding_boxes": labels}).batch(2),
    )
    for dataset in datasets:
        found = model.predict(dataset, verbose=0)
        assert set(found) == {"boxes", "confidence", "classes", "num_detections"}
        for key, value in found.items():
            np.testing.assert_allclose(value, plain[key], atol=1e-3)
    assert plain["boxes"].shape == (4, 10, 4)
    assert np.all(plain["boxes"][plain["classes"] >= 0] <= tiny.size)


@BOTH
def test_untrained_scores_start_at_the_prior(tiny):
    scores = tiny.scores(tiny.model(), tiny.pictures()[0])
    np.testing.assert_allclose(np.median(scores), 0.01, atol=5e-3)


@BOTH
def test_formats_of_boxes_make_no_difference(tiny, everything_found):
    images, labels = tiny.pictures()
    losses, found = [], []
    for name in ("xyxy", "xywh", "rel_yxyx"):
        model = compiled(tiny.model(name, prediction_decoder=everything_found))
        converted = box_ops.convert(tf.constant(labels["boxes"]), "xyxy", name, 64, 64)
        converted = tf.where(labels["classes"][..., None] < 0, -1.0, converted)
        given = {"boxes": converted, "classes": tf.constant(labels["classes"])}
        losses.append(model.test_step((images, given))["loss"])
        detections = model.predict_step(images)
        boxes = box_ops.convert(tf.constant(detections["boxes"]), name, "xyxy", 64, 64)
        found.append(boxes[detections["classes"] >= 0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    for boxes in found[1:]:
        np.testing.assert_allclose(boxes, found[0], atol=1e-2)


@pytest.mark.parametrize(
    "tiny, choices",
    [
        ("retinanet", ["auto", True]),
        ("yolov8", ["auto"]),
        ("faster_rcnn", ["auto"]),
        *(pytest.param(n, [True], marks=pytest.mark.slow) for n in ("yolov8", "faster_rcnn")),
    ],
    indirect=["tiny"],
)
def test_xla_steps_equal_plain_ones(tiny, choices):
    weights = {}
    for choice in (False, *choices):
        model = compiled(tiny.model(), jit_compile=choice, run_eagerly=not choice)
        for seed in range(2):
            images, labels = tiny.pictures(seed=seed)
            model.train_on_batch(images, as_tensors(labels))
        weights[choice] = [w.numpy() for w in model.trainable_variables]
    for choice in choices:
        for plain, xla in zip(weights[False], weights[choice]):
            np.testing.assert_allclose(plain, xla, atol=1e-4, err_msg=f"{choice}")


@ALL
def test_trains_in_bfloat16_with_outputs_in_float32(tiny, mixed_bfloat16):
    model = compiled(tiny.model())
    images, labels = tiny.pictures()
    outputs = model(images)
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    losses = [
        model.train_on_batch(images, as_tensors(labels), return_dict=True)["loss"] for _ in range(5)
    ]
    assert np.all(np.isfinite(losses))
    assert {tf.as_dtype(v.dtype) for v in model.trainable_variables} == {tf.float32}
    assert model.predict(images, verbose=0)["boxes"].dtype == np.float32


def test_gradients_in_bfloat16_are_the_same_every_time(tiny, mixed_bfloat16):
    # 64 px pictures make P6 a single pixel, where one kernel of TensorFlow 2.15 leaves memory
    # unset; see FeaturePyramid.
    model = compiled(tiny.model())
    images, labels = tiny.pictures()
    labels = {"boxes": tf.constant(labels["boxes"]), "classes": tf.cast(labels["classes"], "int32")}
    step = tf.function(model.loss_gradients.of_part)
    norms = [
        tf.linalg.global_norm(step(tf.constant(images), labels, 1.0, {})[0]) for _ in range(12)
    ]
    np.testing.assert_allclose(norms, norms[0], rtol=1e-3)


@BOTH
def test_bfloat16_and_float32_give_about_the_same_loss(tiny):
    images, labels = tiny.pictures()
    losses = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        try:
            model = compiled(tiny.model())
            losses.append(model.test_step((images, as_tensors(labels)))["loss"])
        finally:
            keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(*losses, rtol=0.02)


def test_same_seed_same_weights(tiny):
    weights = []
    for _ in range(2):
        model = compiled(tiny.model(seed=7))
        images, labels = tiny.pictures()
        model.train_step((images, as_tensors(labels)))
        weights.append(np.concatenate([w.numpy().ravel() for w in model.trainable_variables]))
    np.testing.assert_allclose(*weights, atol=1e-6)


def test_regularization_of_layers_takes_part(tiny):
    def step(scale):
        model = tiny.model()
        kernel = tiny.last_of_class_head(model).kernel
        tiny.penalize(model, lambda: scale * tf.reduce_sum(kernel))
        compiled(model, keras.optimizers.SGD(1.0))
        before = kernel.numpy()
        images, labels = tiny.pictures()
        model.train_step((images, as_tensors(labels)))
        return kernel.numpy() - before

    # The gradient of scale * sum(kernel) is the scale, once, whatever the loss adds.
    np.testing.assert_allclose(step(0.5) - step(0.0), -0.5, atol=1e-4)


@BOTH
def test_saves_and_loads_with_the_same_predictions_and_training_state(
    tiny, tmp_path, everything_found
):
    loss = HarmonicLoss("cross_entropy", iou_loss="giou", margin=0.1)
    model = compiled(
        tiny.model(prediction_decoder=everything_found),
        keras.optimizers.Adam(1e-3),
        loss=loss,
    )
    images, labels = tiny.pictures()
    batch = images, as_tensors(labels)
    model.train_step(batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert type(loaded) is type(model)
    for name, value in model.get_config().items():
        assert name == "backbone" or loaded.get_config()[name] == value
    assert loaded.loss.get_config() == loss.get_config()
    assert loaded.get_compile_config() == model.get_compile_config()
    found, found_again = (m.predict_step(images) for m in (model, loaded))
    for key in found:
        np.testing.assert_allclose(found[key], found_again[key], atol=1e-5)
    for m in (model, loaded):
        m.train_step(batch)
    for a, b in zip(model.trainable_variables, loaded.trainable_variables):
        np.testing.assert_allclose(a, b, atol=1e-5)


@BOTH
def test_thresholds_can_be_changed_after_training(tiny, everything_found):
    model = tiny.model()
    images, _ = tiny.pictures()
    assert np.all(model.predict(images, verbose=0)["num_detections"] == 0)
    model.prediction_decoder = everything_found
    assert np.all(model.predict(images, verbose=0)["num_detections"] > 0)


def test_upsampling_is_nearest_neighbour():
    channels = 4
    pyramid = FeaturePyramid(channels)
    features = {
        level: tf.random.stateless_normal([1, side, side, 3], [1, side])
        for level, side in (("P3", 16), ("P4", 8), ("P5", 4))
    }
    p3 = pyramid(features)[0]
    up = keras.layers.UpSampling2D(2)
    p4_sum = pyramid.lateral["P4"](features["P4"]) + up(pyramid.lateral["P5"](features["P5"]))
    expected = pyramid.smooth["P3"](pyramid.lateral["P3"](features["P3"]) + up(p4_sum))
    np.testing.assert_allclose(p3, expected, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"loss": "focal"}, "must be a harmonic_tf.losses.HarmonicLoss"),
        ({"jit_compile": "yes"}, "jit_compile = 'yes'"),
        ({"metrics": ["accuracy"]}, "takes no metrics"),
    ],
)
def test_compile_refuses_what_it_cannot_do(tiny, arguments, words):
    with pytest.raises(ValueError, match=words):
        compiled(tiny.model(), **arguments)


def test_sample_weights_and_missing_labels_are_refused(tiny):
    model = compiled(tiny.model())
    images, labels = tiny.pictures()
    with pytest.raises(ValueError, match="Sample weights"):
        model.fit(tf.data.Dataset.from_tensors((images, labels, np.ones(2))), verbose=0)
    with pytest.raises(ValueError, match="needs labels"):
        model.fit(tf.data.Dataset.from_tensors(images), verbose=0)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"negative_iou": 0.6}, "negative_iou = 0.6"),
        ({"anchors": {"strides": (4, 8, 16, 32, 64), "sizes": (8, 16, 32, 64, 128)}}, "strides"),
    ],
)
def test_constructor_refuses_nonsense(tiny, arguments, words):
    with pytest.raises(ValueError, match=words):
        tiny.model(**arguments)


def test_picture_size_must_fit_the_pyramid():
    with pytest.raises(ValueError, match="multiple of 32"):
        HarmonicRetinaNet(build_backbone("csp_darknet_tiny", 80), 2, "xyxy")


def test_backbones_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"'resnet17' is unknown.*resnet18"):
        build_backbone("resnet17")
    with pytest.raises(FileNotFoundError, match="no such file"):
        build_backbone("mobilenet_v3_small", 64, weights=str(tmp_path / "none.h5"))
    backbone = build_backbone("mobilenet_v3_small", 64)
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    again = build_backbone("mobilenet_v3_small", 64, str(tmp_path / "backbone.weights.h5"))
    images = np.full((1, 64, 64, 3), 99.0)
    np.testing.assert_allclose(backbone(images), again(images), atol=1e-5)
    with pytest.raises(ValueError, match="do not fit"):
        build_backbone("csp_darknet_tiny", 64, str(tmp_path / "backbone.weights.h5"))


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "mobilenet_v3_small", "csp_darknet_tiny", "efficientnet_v2_b0"]
)
def test_every_backbone_has_the_levels_of_the_pyramid(name):
    backbone = build_backbone(name, 64)
    for level, stride in (("P3", 8), ("P4", 16), ("P5", 32)):
        output = backbone.get_layer(backbone.pyramid_level_inputs[level]).output
        assert output.shape[1] == 64 // stride


@ALL
@pytest.mark.slow
def test_overfits_eight_pictures(tiny):
    from harmonic_tf.evaluation import Detections, GroundTruth, coco_metrics

    model = compiled(
        tiny.model_that_can_learn_by_heart(), keras.optimizers.Adam(2e-3, global_clipnorm=10.0)
    )
    images, labels = tiny.pictures(8)
    model.fit(tf.data.Dataset.from_tensors((images, labels)).repeat(400), verbose=0)
    found = model.predict(images, verbose=0)
    index, place = np.nonzero(labels["classes"] >= 0)
    truth = GroundTruth(
        list(range(8)),
        ["red", "green", "blue"],
        index,
        labels["boxes"][index, place],
        labels["classes"][index, place].astype(np.int64),
        np.zeros(len(index), bool),
        np.zeros(len(index), bool),
    )
    index, place = np.nonzero(found["classes"] >= 0)
    detections = Detections(
        index,
        found["boxes"][index, place],
        found["confidence"][index, place],
        found["classes"][index, place].astype(np.int64),
    )
    assert coco_metrics(truth, detections)["AP50"] > 0.9

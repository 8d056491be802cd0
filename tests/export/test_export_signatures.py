"""Every signature answers what `evaluate` finds, on whatever pictures."""

import numpy as np
import pytest
from plausible_detectors import spread_scores
from tensorflow.core.protobuf import saved_model_pb2

from harmonic_tf.backend import keras, tf
from harmonic_tf.export import export_model
from harmonic_tf.models import HarmonicRetinaNet, build_backbone


def tf_examples(pictures):
    features = [
        {
            "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content])),
            "image/height": tf.train.Feature(int64_list=tf.train.Int64List(value=[7])),
        }
        for content in pictures
    ]
    return [
        tf.train.Example(features=tf.train.Features(feature=f)).SerializeToString()
        for f in features
    ]


def test_encoded_pictures_of_all_kinds_in_one_batch(
    exported, predict, signatures, serving, tmp_path
):
    pictures = serving.pictures()
    expected = serving.detected(exported[0], pictures, tmp_path, predict)
    answer = signatures["serving_default"](images=tf.constant(pictures))
    serving.assert_same(serving.answered(answer), expected)
    again = signatures["tf_example"](examples=tf.constant(tf_examples(pictures)))
    serving.assert_same(serving.answered(again), expected)

    assert answer["boxes"].dtype == answer["scores"].dtype == tf.float32
    assert answer["classes"].dtype == answer["num_detections"].dtype == tf.int32
    for (height, width), rows in zip(serving.sides, expected):
        assert np.all(rows[:, 2:] >= 0.0)
        assert np.all(rows[:, 2:] <= [width, height, width, height])


def test_one_picture_alone_and_among_others(signatures, serving):
    pictures = serving.pictures()
    together = serving.answered(signatures["serving_default"](images=tf.constant(pictures)))
    alone = [
        serving.answered(signatures["serving_default"](images=tf.constant([picture])))[0]
        for picture in pictures[:3]
    ]
    serving.assert_same(alone, together[:3])


@pytest.mark.parametrize(
    ("signature", "dtype"), [("predict_images", np.uint8), ("predict_float_images", np.float32)]
)
@pytest.mark.parametrize("sides", [(50, 70), (64, 64), (140, 60), (140, 30)])
def test_pixels(exported, predict, signatures, serving, tmp_path, signature, dtype, sides):
    images = [serving.pixels_of(*sides, seed) for seed in (7, 8)]
    pictures = [serving.encoded_as(image, "PNG") for image in images]
    answer = signatures[signature](images=tf.constant(np.stack(images).astype(dtype)))
    expected = serving.detected(exported[0], pictures, tmp_path, predict)
    if sides == (140, 30) and not sum(map(len, expected)):  # all boxes lie in the padding
        assert not np.any(answer["num_detections"])
    else:
        serving.assert_same(serving.answered(answer), expected)


def test_thresholds_of_a_request(exported, signatures, serving, tmp_path):
    model, pictures = serving.retinanet(max_detections=20), serving.pictures()
    model.set_weights(exported[0].get_weights())
    scores = serving.detected(model, pictures, tmp_path)[0][:, 0]
    middle = float(np.median(scores))
    model.prediction_decoder.score_threshold = middle
    model.prediction_decoder.iou_threshold = 0.2
    expected = serving.detected(model, pictures, tmp_path)
    answer = signatures["serving_thresholds"](
        images=tf.constant(pictures),
        score_threshold=tf.constant(middle),
        nms_iou=tf.constant(0.2),
    )
    serving.assert_same(serving.answered(answer), expected)
    assert len(expected[0]) < len(scores)


def test_thresholds_may_be_left_out_where_defaults_are_understood(exported):
    """TensorFlow Serving takes inputs that a request has not got from these."""
    with open(f"{exported[1]}/saved_model.pb", "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]
    defaults = graph.signature_def["serving_thresholds"].defaults
    own = {name: float(tf.make_ndarray(value)) for name, value in defaults.items()}
    assert own == {"score_threshold": 0.0, "nms_iou": 0.5}


def test_served_scores_are_calibrated_scores(exported, predict, serving, tmp_path):
    """As `evaluate` calibrates them, by NumPy; and the threshold of a request is one of these."""
    table = serving.rising_table()
    model, pictures = serving.retinanet(max_detections=20), serving.pictures()
    model.set_weights(exported[0].get_weights())
    raw = serving.detected(exported[0], pictures, tmp_path, predict)
    model.prediction_decoder = model.prediction_decoder.calibrated_by(table)
    folder = export_model(model, serving.names, str(tmp_path / "m"), serving.settings)
    served = tf.saved_model.load(folder).signatures
    images = tf.constant(pictures)
    found = serving.answered(served["serving_default"](images=images))
    serving.assert_same(found, serving.detected(model, pictures, tmp_path))
    knots = np.linspace(0, 1, table.shape[1])
    for rows, raw_rows in zip(found, raw):
        expected = [np.interp(row[0], knots, table[int(row[1])]) for row in raw_rows]
        np.testing.assert_allclose(rows[:, 0], sorted(expected, reverse=True), atol=1e-6)

    middle = np.median(found[0][:, 0]).astype(np.float32)
    asked = {"images": images, "nms_iou": tf.constant(0.5)}
    for threshold in (middle, np.float32(0.0)):
        answer = served["serving_thresholds"](**asked, score_threshold=tf.constant(threshold))
        expected = [rows[rows[:, 0] > threshold] for rows in found]
        serving.assert_same(serving.answered(answer), expected)


def real_retinanet(serving):
    """Large enough for TensorFlow to fuse its operations, which decides how bfloat16 is rounded."""
    keras.utils.set_random_seed(3)
    backbone = build_backbone("csp_darknet_tiny", serving.size)
    model = HarmonicRetinaNet(backbone, len(serving.names), "xyxy", channels=64, head_depth=2)
    images = [serving.pixels_of(serving.size, serving.size, seed) for seed in range(4)]
    spread_scores(model, tf.constant(np.float32(images)), candidates=100)
    return model


@pytest.mark.parametrize(
    ("precision", "build"),
    [
        ("float32", lambda serving: serving.yolov8(nms="soft", max_detections=15)),
        ("mixed_bfloat16", real_retinanet),
        (
            "mixed_bfloat16",
            lambda serving: serving.yolov8(class_agnostic=True, max_detections=15),
        ),
    ],
)
def test_all_ways_to_the_same_detections(serving, tmp_path, precision, build):
    """`model.predict`, `evaluate.py`'s way, a checkpoint loaded again, an exported model."""
    pictures = serving.pictures()
    keras.mixed_precision.set_global_policy(precision)
    try:
        model = build(serving)
        path = export_model(model, serving.names, str(tmp_path / "model"), serving.settings)
        model.bounding_box_format = "xyxy"  # the only one that `detect` takes
        model.save(str(tmp_path / "model.keras"))
        reloaded = keras.models.load_model(str(tmp_path / "model.keras"))
    finally:
        keras.mixed_precision.set_global_policy("float32")

    def by_predict(images):
        return {k: tf.constant(v) for k, v in model.predict(images, verbose=0).items()}

    expected = serving.detected(model, pictures, tmp_path)
    for other, predict in ((reloaded, None), (model, by_predict)):
        serving.assert_same(serving.detected(other, pictures, tmp_path, predict), expected)
    signatures = tf.saved_model.load(path).signatures
    answer = signatures["serving_default"](images=tf.constant(pictures))
    serving.assert_same(serving.answered(answer), expected)

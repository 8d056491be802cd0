"""Detections come back in the pixels of pictures of any size."""

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.data.images.decoding import picture
from harmonic_tf.evaluation import coco_metrics
from harmonic_tf.models import DetectionDecoder, JointDetector
from harmonic_tf.training.inference import (
    before_and_after_function,
    detect,
    detect_before_and_after,
    detect_in,
    ground_truth_of,
    prediction_function,
)


def find_white(images):
    """Stands in for a detector: one box around the white pixels of the letterboxed picture."""
    images = np.asarray(images)
    boxes = np.full((len(images), 2, 4), -1.0, np.float32)
    for i, image in enumerate(images):
        y, x = np.nonzero(image.min(axis=-1) > 200)
        boxes[i, 0] = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    found = np.tile([[0, -1]], (len(images), 1))
    return {
        "boxes": tf.constant(boxes),
        "classes": tf.constant(found, tf.int32),
        "confidence": tf.constant(np.where(found < 0, -1.0, 0.9), tf.float32),
        "num_detections": tf.ones(len(images), tf.int32),
    }


def white_boxes(folder, sizes):
    """Black pictures with one white box each."""
    annotations = []
    for i, (width, height) in enumerate(sizes):
        pixels = np.zeros((height, width, 3), np.uint8)
        box = np.float32([width // 5, height // 4, width // 2, height // 4 * 3])
        x1, y1, x2, y2 = box.astype(int)
        pixels[y1:y2, x1:x2] = 255
        path = folder / f"{i}.png"
        Image.fromarray(pixels).save(path)
        no = np.zeros(1, bool)
        annotations.append(
            Annotation(str(path), f"p{i}", width, height, box[None], np.zeros(1, np.int32), no, no)
        )
    return DetectionData("test", ["white"], annotations)


def test_boxes_return_to_the_pixels_of_their_pictures(tmp_path):
    data = white_boxes(tmp_path, [(200, 100), (64, 150), (40, 40), (333, 217), (90, 90)])
    found = detect(find_white, data, image_size=256, batch_size=2, progress=False)

    np.testing.assert_array_equal(found.image_index, range(5))
    truth = ground_truth_of(data)
    assert truth.image_ids == [f"p{i}" for i in range(5)]
    np.testing.assert_allclose(found.boxes, truth.boxes, atol=1.0)  # the letterbox blurs edges
    assert coco_metrics(truth, found)["AP50"] == 1.0


class FourBoxes:
    """Stands in for a network: the same four boxes everywhere, better scored in bright pictures."""

    bounding_box_format = "xyxy"
    class_scores = JointDetector.class_scores
    decode_predictions = JointDetector.decode_predictions
    predict_step = JointDetector.predict_step

    def __init__(self):
        self.prediction_decoder = DetectionDecoder(0.2, iou_threshold=0.5, max_detections=3)
        self.passes = tf.Variable(0)
        self.traced_shapes = []

    def __call__(self, images, training=None):
        self.traced_shapes.append(images.shape.as_list())
        self.passes.assign_add(1)
        brightness = tf.reduce_mean(images, axis=(1, 2, 3)) / 255.0
        return {"logits": brightness[:, None, None] + [[2.0], [1.0], [0.0], [-5.0]]}

    def dense_predictions(self, outputs, height, width):
        boxes = [[0, 0, 20, 20], [0, 0, 20, 18], [20, 20, 40, 40], [0, 0, 9, 9]]
        batch = tf.shape(outputs["logits"])[0]
        return {**outputs, "boxes": tf.tile(tf.constant([boxes], tf.float32), [batch, 1, 1])}


def test_before_and_after_nms_from_one_pass(tmp_path):
    data = white_boxes(tmp_path, [(64, 64), (64, 48), (32, 64)])
    model = FourBoxes()
    before, after = detect_before_and_after(before_and_after_function(model), data, 64, 2)
    assert model.passes.numpy() == 2  # batches

    alone = detect(prediction_function(model), data, 64, 2, progress=False)
    for field in ("image_index", "boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(after, field), getattr(alone, field))
    # The last box's score is below the threshold; the second is suppressed by the first.
    np.testing.assert_array_equal(before.image_index, np.repeat(range(3), 3))
    np.testing.assert_array_equal(after.image_index, np.repeat(range(3), 2))
    np.testing.assert_array_equal(before.boxes.reshape(3, 3, 4)[:, ::2].reshape(-1, 4), after.boxes)
    np.testing.assert_array_equal(before.scores.reshape(3, 3)[:, ::2].ravel(), after.scores)

    best, _ = detect_before_and_after(before_and_after_function(model, 1), data, 64, 2)
    np.testing.assert_array_equal(best.scores, before.scores[::3])


def test_one_picture_is_detected_in_as_in_a_data_set(tmp_path):
    data = white_boxes(tmp_path, [(200, 100), (64, 150)])
    predict = prediction_function(FourBoxes())
    together = detect(predict, data, 64, 1, progress=False)
    for index, annotation in enumerate(data.annotations):
        alone = detect_in(predict, picture(annotation), 64)
        expected = together.take(together.image_index == index)
        np.testing.assert_array_equal(alone.image_index, np.zeros(len(expected.scores)))
        for field in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(expected, field))


def test_another_decoder_takes_the_place_of_the_models_own(tmp_path):
    data, model = white_boxes(tmp_path, [(64, 64)]), FourBoxes()
    keep_all = DetectionDecoder(0.2, max_detections=3, nms="none")
    found = detect(prediction_function(model, keep_all), data, 64, 1, progress=False)
    candidates, _ = detect_before_and_after(before_and_after_function(model), data, 64, 1)
    for field in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(found, field), getattr(candidates, field))


@pytest.mark.parametrize("function_of", [prediction_function, before_and_after_function])
def test_the_number_of_pictures_is_left_open(function_of):
    """As in `model.predict` and in an exported model: bfloat16 is rounded the same way there."""
    model = FourBoxes()
    predict = function_of(model)
    for shape in ((2, 32, 32, 3), (5, 32, 32, 3), (2, 64, 32, 3)):
        predict(tf.zeros(shape))
    assert model.traced_shapes == [[None, 32, 32, 3], [None, 64, 32, 3]]


def test_pictures_without_objects_have_a_place_in_the_ground_truth():
    nothing = np.zeros((0,))
    annotations = [
        Annotation("a", 7, 10, 10, nothing.reshape(0, 4), nothing, nothing, nothing),
        Annotation("b", 9, 10, 10, np.ones((1, 4)), np.ones(1), np.ones(1), np.zeros(1)),
    ]
    truth = ground_truth_of(DetectionData("test", ["x", "y"], annotations))
    assert list(truth.image_ids) == [7, 9]
    np.testing.assert_array_equal(truth.image_index, [1])
    assert truth.difficult.dtype == bool
    assert tf.constant(truth.boxes).shape == (1, 4)

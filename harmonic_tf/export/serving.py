"""The graph that is served: from requests to detections in the pixels of their pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import tf, traced, value_of
from harmonic_tf.data.images.checking import MAX_PIXELS
from harmonic_tf.data.pipeline import transforms
from harmonic_tf.export import requests
from harmonic_tf.export.labels import check_labels
from harmonic_tf.models import JointDetector

MAX_BATCH = 32
"""Most pictures of a request, where not set."""


@dataclasses.dataclass(frozen=True)
class ServingSettings:
    """What a served model takes.

    Args:
        image_size: side of the network's square input, pixels.
        max_batch: most pictures of a request, >= 1.
        max_pixels: most pixels of a picture, >= 1.

    Raises:
        ValueError: for a number out of its range.
    """

    image_size: int
    max_batch: int = MAX_BATCH
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        for field, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"ServingSettings: {field} = {value} must be at least 1.")


class ServingModule(tf.Module):
    """A detector with its preprocessing, as signatures of a SavedModel.

    All of them answer with the detections that `harmonic_tf.training.inference.detect` gives, in
    its order: `boxes` float32 [B, N, 4], xyxy in pixels of the picture that was sent, clipped to
    it; `scores` float32 [B, N], falling; `classes` int32 [B, N]; `class_names` string [B, N];
    `num_detections` int32 [B]. N is the decoder's `max_detections`. What lies behind the
    detections of a picture is padding: boxes and scores 0, class -1, name "".

    Where the decoder has a calibration, scores are calibrated, and the threshold of a request is
    one of these, which only drops more than the decoder's own threshold of raw scores does.

    Args:
        model: a detector whose decoder is a `DetectionDecoder`, which sets the thresholds.
        class_names: name of each class.
        settings: what the model takes.

    Raises:
        ValueError: the names do not fit the model, see `check_labels`.
    """

    def __init__(self, model: JointDetector, class_names: Sequence[str], settings: ServingSettings):
        super().__init__(name="harmonic_tf")
        check_labels(class_names, model)
        # Who loads the model can ask for it; requests do not need it.
        self.image_size = tf.Variable(settings.image_size, trainable=False, name="image_size")
        # The weights alone: a Keras model would bring a function for every layer with it.
        self.weights = [value_of(weight) for weight in model.weights]
        self._settings = settings
        self._class_names = tuple(class_names)
        decoder = model.prediction_decoder
        self._thresholds = decoder.lowest_score, decoder.iou_threshold
        self._detect = _detection_function(model, settings.image_size)

    def signatures(self) -> dict[str, Callable]:
        """The signatures by name, as `tf.saved_model.save` takes them."""
        strings = functools.partial(tf.TensorSpec, [None], tf.string)
        pixels = functools.partial(tf.TensorSpec, [None, None, None, 3], name="images")
        own_score, own_iou = (tf.constant(value, tf.float32) for value in self._thresholds)

        def signature(*inputs):
            return functools.partial(traced, input_signature=inputs)

        @signature(strings(name="images"))
        def serving_default(images):
            return self._of_encoded(images, "images")

        # TensorFlow saves defaults that are tensors: who calls may leave these two out.
        @signature(
            strings(name="images"),
            tf.TensorSpec([], tf.float32, name="score_threshold"),
            tf.TensorSpec([], tf.float32, name="nms_iou"),
        )
        def serving_thresholds(images, score_threshold=own_score, nms_iou=own_iou):
            checks = [
                requests.check_fraction(score_threshold, "score_threshold"),
                requests.check_fraction(nms_iou, "nms_iou"),
            ]
            with tf.control_dependencies(checks):
                images = tf.identity(images)
            return self._of_encoded(images, "images", (score_threshold, nms_iou))

        @signature(pixels(dtype=tf.uint8))
        def predict_images(images):
            return self._of_pixels(images)

        @signature(pixels(dtype=tf.float32))
        def predict_float_images(images):
            return self._of_pixels(images)

        @signature(strings(name="examples"))
        def tf_example(examples):
            return self._of_encoded(examples, "examples", in_examples=True)

        functions = (
            serving_default,
            serving_thresholds,
            predict_images,
            predict_float_images,
            tf_example,
        )
        return {function.__name__: function for function in functions}

    def _of_encoded(self, encoded, name, thresholds=None, in_examples=False):
        limit, max_pixels = self._settings.max_batch, self._settings.max_pixels

        def picture(position):
            content = encoded[position]
            if in_examples:
                content = requests.encoded_in_example(content, position, name, limit)
            return requests.decode(content, position, name, limit, max_pixels)

        return self._detections(encoded, name, picture, thresholds)

    def _of_pixels(self, images):
        def picture(position):
            image, where = images[position], requests.at("images", position)
            sides = tf.shape(image)[:2]
            checks = [requests.check_size(sides, where, self._settings.max_pixels)]
            if image.dtype.is_floating:
                finite = tf.reduce_all(tf.math.is_finite(image))
                checks.append(requests.check(finite, where, " has pixels that are no numbers"))
            with tf.control_dependencies(checks):
                return tf.identity(image)

        return self._detections(images, "images", picture)

    def _detections(self, request, name, picture, thresholds=None) -> dict[str, tf.Tensor]:
        """The answer to a request.

        Args:
            request: [B, ...], the input.
            name: what the signature calls it.
            picture: function from a position in it to the picture there, [H, W, 3].
            thresholds: score and IoU in place of those that are fixed.
        """
        size = self._settings.image_size

        def framed(position):
            image = picture(position)
            example = {"image": image, "boxes": tf.zeros([0, 4])}
            return transforms.letterbox(example, size)["image"], tf.shape(image)[:2]

        with tf.control_dependencies(
            [requests.check_count(request, name, self._settings.max_batch)]
        ):
            positions = tf.range(tf.shape(request)[0])
        images, source_sizes = tf.map_fn(
            framed,
            positions,
            fn_output_signature=(
                tf.TensorSpec([size, size, 3], tf.float32),
                tf.TensorSpec([2], tf.int32),
            ),
        )
        found = self._detect(images, source_sizes, *(thresholds or self._thresholds))
        names = tf.constant([*self._class_names, ""])  # the last for the class -1
        named = tf.where(found["classes"] < 0, len(self._class_names), found["classes"])
        return {**found, "class_names": tf.gather(names, named)}


def _detection_function(model: JointDetector, image_size: int) -> Callable:
    """The network, its decoder and the way back to source pixels, once for all signatures."""

    @functools.partial(
        traced,
        input_signature=[
            tf.TensorSpec([None, image_size, image_size, 3], tf.float32),
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([], tf.float32),
        ],
    )
    def detections_in_source_pixels(images, source_sizes, score_threshold, iou_threshold):
        decoder = functools.partial(
            model.prediction_decoder, score_threshold=score_threshold, iou_threshold=iou_threshold
        )
        found = model.decode_predictions(model(images, training=False), images, decoder)
        boxes = box_ops.convert(
            found["boxes"], model.bounding_box_format, "xyxy", image_size, image_size
        )
        height, width = tf.unstack(source_sizes[:, None, :], axis=-1)
        boxes = transforms.unletterbox_boxes(boxes, height, width, image_size)
        boxes = box_ops.clip(boxes, height, width)
        real = (found["classes"] >= 0) & (box_ops.area(boxes) > 0.0)  # not in the padding alone
        order = tf.argsort(tf.cast(real, tf.int32), direction="DESCENDING", stable=True)
        real, boxes, scores, classes = (
            tf.gather(column, order, batch_dims=1)
            for column in (real, boxes, found["confidence"], found["classes"])
        )
        return {
            "boxes": tf.where(real[..., None], boxes, 0.0),
            "scores": tf.where(real, scores, 0.0),
            "classes": tf.where(real, classes, -1),
            "num_detections": tf.reduce_sum(tf.cast(real, tf.int32), axis=-1),
        }

    return detections_in_source_pixels

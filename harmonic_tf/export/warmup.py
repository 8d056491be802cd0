"""Requests that TensorFlow Serving replays when it loads a model, so that no user's is the first.

Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import os

from harmonic_tf.backend import tf
from harmonic_tf.data.images import decoding
from harmonic_tf.data.pipeline import transforms

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
"""Where TensorFlow Serving looks for them, in the folder of a version."""


def sample_requests(
    image_size: int, score_threshold: float, nms_iou: float
) -> dict[str, dict[str, tf.Tensor]]:
    """A request of one grey picture for each signature of `ServingModule`.

    Args:
        image_size: side of the picture, pixels.
        score_threshold: for the signature that takes one, in [0, 1].
        nms_iou: likewise.

    Returns:
        Inputs by name, by signature.
    """
    image = tf.fill([image_size, image_size, 3], tf.constant(transforms.PADDING_GREY, tf.uint8))
    encoded = tf.io.encode_jpeg(image).numpy()
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    example = tf.train.Example(
        features=tf.train.Features(feature={decoding.ENCODED_FIELD: feature})
    )
    images = {"images": tf.constant([encoded])}
    thresholds = {
        "score_threshold": tf.constant(score_threshold, tf.float32),
        "nms_iou": tf.constant(nms_iou, tf.float32),
    }
    return {
        "serving_default": images,
        "serving_thresholds": {**images, **thresholds},
        "predict_images": {"images": image[None]},
        "predict_float_images": {"images": tf.cast(image[None], tf.float32)},
        "tf_example": {"examples": tf.constant([example.SerializeToString()])},
    }


def write_warmup(folder: str, model_name: str, requests: dict[str, dict[str, tf.Tensor]]) -> None:
    """Writes requests as TensorFlow Serving's log of predictions.

    Args:
        folder: of the SavedModel.
        model_name: under which the model is served.
        requests: as `sample_requests` gives them.
    """
    # Imports TensorFlow, which `harmonic_tf.backend` has to do first, quietly.
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = os.path.join(folder, WARMUP_FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())

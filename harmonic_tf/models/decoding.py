"""From dense predictions to the few boxes a detector reports."""

from __future__ import annotations

from typing import Any

from harmonic_tf.backend import keras, tf


@keras.saving.register_keras_serializable(package="harmonic_tf")
class DetectionDecoder(keras.layers.Layer):
    """Class-wise non-maximum suppression with a fixed number of detections per picture.

    Args:
        score_threshold: detections below it are dropped, in [0, 1].
        iou_threshold: of two detections of a class that overlap more, the lower-scored one is
            dropped, in [0, 1].
        max_detections: how many are kept per picture.
        name: name of the layer.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        name: str = "detection_decoder",
        **kwargs: Any,
    ):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections

    def call(self, boxes: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        """Keeps the best detections.

        Args:
            boxes: float32 [B, A, 4], xyxy, pixels.
            scores: float32 [B, A, C], in [0, 1].

        Returns:
            `boxes` float32 [B, D, 4] xyxy, `confidence` float32 [B, D], `classes` int32 [B, D],
            highest score first, padded with -1; `num_detections` int32 [B].
        """
        # The kernel takes corners in any order as long as it is the same for all boxes.
        kept_boxes, kept_scores, kept_classes, count = tf.image.combined_non_max_suppression(
            boxes[:, :, None, :],
            scores,
            max_output_size_per_class=self.max_detections,
            max_total_size=self.max_detections,
            iou_threshold=self.iou_threshold,
            score_threshold=self.score_threshold,
            clip_boxes=False,
        )
        real = tf.sequence_mask(count, self.max_detections)
        return {
            "boxes": tf.where(real[..., None], kept_boxes, -1.0),
            "confidence": tf.where(real, kept_scores, -1.0),
            "classes": tf.where(real, tf.cast(kept_classes, tf.int32), -1),
            "num_detections": count,
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
        }

"""From dense predictions to the few boxes a detector reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harmonic_tf.backend import keras, tf
from harmonic_tf.models.calibration import calibrated, checked_table
from harmonic_tf.models.voting import vote

NMS_CHOICES = ("hard", "vote", "soft", "none")

# By how much Soft-NMS lowers the score of an overlapping box: exp(-IoU^2 / sigma); the paper's.
SOFT_SIGMA = 0.5
# So many boxes of a picture vote, those with the highest scores.
VOTERS = 1000


@keras.saving.register_keras_serializable(package="harmonic_tf")
class DetectionDecoder(keras.layers.Layer):
    """Non-maximum suppression with a fixed number of detections per picture.

    Args:
        score_threshold: detections at or below it are dropped, in [0, 1].
        iou_threshold: of two detections that overlap more, hard suppression drops the
            lower-scored one, in [0, 1]. Soft suppression has no such threshold.
        max_detections: how many are kept per picture.
        nms: `"hard"` drops overlapping detections, `"vote"` does so and then lets the 1,000 boxes
            with the highest scores vote on what is left, see `voting.vote`; `"soft"` lowers the
            scores of overlapping detections by `exp(-IoU^2 / 0.5)`, one after the other. Both drop
            what falls to `score_threshold`. `"none"` suppresses nothing: what is left are the
            candidates that each starts from.
        class_agnostic: whether boxes of different classes suppress each other too; then every
            box counts with its highest-scored class alone.
        calibration: table of what scores are to be read as, [C, K + 1]: that of each class at raw
            scores 0, 1 / K, ..., 1, in [0, 1] and strictly rising; between them lie straight lines.
            It is looked up after suppression, which chooses by raw scores, as `score_threshold`
            does. None leaves scores as they are.
        name: name of the layer.

    Raises:
        ValueError: for an unknown choice of `nms`, or something else than such a table.

    Source: Bodla et al., "Soft-NMS", arXiv 1704.04503, equation 3.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        nms: str = "hard",
        class_agnostic: bool = False,
        calibration: Sequence[Sequence[float]] | None = None,
        name: str = "detection_decoder",
        **kwargs: Any,
    ):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        if nms not in NMS_CHOICES:
            raise ValueError(f"DetectionDecoder: nms = {nms!r} must be one of {NMS_CHOICES}.")
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections
        self.nms = nms
        self.class_agnostic = class_agnostic
        self.calibration = None if calibration is None else checked_table(calibration)

    @property
    def lowest_score(self) -> float:
        """What `score_threshold` of a call is where none is given: it drops nothing else."""
        return self.score_threshold if self.calibration is None else 0.0

    def calibrated_by(self, calibration: Sequence[Sequence[float]] | None) -> DetectionDecoder:
        """The same decoder with another calibration, see the constructor's argument."""
        return type(self)(**{**self.get_config(), "calibration": calibration})

    def call(
        self,
        boxes: tf.Tensor,
        scores: tf.Tensor,
        score_threshold: tf.Tensor | float | None = None,
        iou_threshold: tf.Tensor | float | None = None,
    ) -> dict[str, tf.Tensor]:
        """Keeps the best detections.

        Args:
            boxes: float32 [B, A, 4], xyxy, pixels.
            scores: float32 [B, A, C], in [0, 1].
            score_threshold: scalar in place of the constructor's; None takes that. With a
                calibration the constructor's holds in any case, and this is one of calibrated
                scores: what is at or below it is dropped too.
            iou_threshold: scalar in place of the constructor's; None takes that.

        Returns:
            `boxes` float32 [B, D, 4] xyxy, `confidence` float32 [B, D], `classes` int32 [B, D],
            highest score first, padded with -1; `num_detections` int32 [B].

        Raises:
            ValueError: the calibration is of another number of classes.
        """
        if score_threshold is None:
            score_threshold = self.lowest_score
        if iou_threshold is None:
            iou_threshold = self.iou_threshold
        boxes, scores = tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)
        if self.calibration is None:
            return self._suppress(boxes, scores, score_threshold, iou_threshold)
        self._check_classes(scores)
        found = self._suppress(boxes, scores, self.score_threshold, iou_threshold)
        return self._calibrated(found, score_threshold)

    def calibrate_dense(self, scores: tf.Tensor) -> tf.Tensor:
        """Calibrated scores of every box and class, as they are where there is no calibration.

        Args:
            scores: float32 [B, A, C], in [0, 1].

        Returns:
            float32 [B, A, C].

        Raises:
            ValueError: the calibration is of another number of classes.
        """
        if self.calibration is None:
            return scores
        self._check_classes(scores)
        return calibrated(scores, tf.range(scores.shape[-1]), self.calibration)

    def _check_classes(self, scores: tf.Tensor) -> None:
        rows, classes = len(self.calibration), scores.shape[-1]
        if rows != classes:
            raise ValueError(
                f"DetectionDecoder: calibration has {rows} rows, but the scores are of {classes} "
                "classes. Give the table that was fitted to this detector."
            )

    def _suppress(
        self, boxes: tf.Tensor, scores: tf.Tensor, score_threshold, iou_threshold
    ) -> dict[str, tf.Tensor]:
        """What is returned but for the calibration."""
        by_class = self.nms in ("hard", "vote") and not self.class_agnostic
        suppress = self._hard_by_class if by_class else self._by_group
        found = suppress(boxes, scores, score_threshold, iou_threshold)
        return self._voted(found, boxes, scores, score_threshold) if self.nms == "vote" else found

    def _voted(
        self, found: dict[str, tf.Tensor], boxes: tf.Tensor, scores: tf.Tensor, score_threshold
    ) -> dict[str, tf.Tensor]:
        """The same detections after a vote of all boxes, highest score first."""
        count = tf.minimum(VOTERS, tf.shape(scores)[1])
        best = tf.math.top_k(tf.reduce_max(scores, axis=-1), count).indices
        voters, weights = (tf.gather(values, best, batch_dims=1) for values in (boxes, scores))
        if self.class_agnostic:
            weights = tf.reduce_max(weights, axis=-1)[:, None]
        else:
            classes = tf.maximum(found["classes"], 0)
            weights = tf.gather(tf.linalg.matrix_transpose(weights), classes, batch_dims=1)
        confidence = tf.maximum(found["confidence"], 0.0)  # padding is -1
        moved, confidence = vote(found["boxes"], confidence, voters, weights)
        return self._in_order({**found, "boxes": moved}, confidence, score_threshold)

    def _calibrated(self, found: dict[str, tf.Tensor], score_threshold) -> dict[str, tf.Tensor]:
        """The same detections with calibrated scores, highest first; of equal ones as before."""
        classes = tf.maximum(found["classes"], 0)
        scores = calibrated(tf.maximum(found["confidence"], 0.0), classes, self.calibration)
        return self._in_order(found, scores, score_threshold)

    def _in_order(
        self, found: dict[str, tf.Tensor], scores: tf.Tensor, score_threshold
    ) -> dict[str, tf.Tensor]:
        """Detections with other scores, [B, D], highest first; those above the threshold."""
        kept = (found["classes"] >= 0) & (scores > score_threshold)
        confidence, order = tf.math.top_k(tf.where(kept, scores, -1.0), self.max_detections)
        boxes, classes = (
            tf.gather(found[name], order, batch_dims=1) for name in ("boxes", "classes")
        )
        return self._padded(boxes, confidence, classes, confidence >= 0.0)

    def _by_group(
        self, boxes: tf.Tensor, scores: tf.Tensor, score_threshold, iou_threshold
    ) -> dict[str, tf.Tensor]:
        """Any choice: boxes compete within each class, or all of them as one group."""
        best_class = tf.argmax(scores, axis=-1, output_type=tf.int32)
        if self.class_agnostic:
            scores = tf.reduce_max(scores, axis=-1, keepdims=True)
        keep = self._best if self.nms == "none" else self._suppressed
        index, confidence, group = keep(boxes, scores, score_threshold, iou_threshold)
        classes = tf.gather(best_class, index, batch_dims=1) if self.class_agnostic else group
        real = confidence > 0.0
        return self._padded(tf.gather(boxes, index, batch_dims=1), confidence, classes, real)

    def _hard_by_class(
        self, boxes: tf.Tensor, scores: tf.Tensor, score_threshold, iou_threshold
    ) -> dict[str, tf.Tensor]:
        """The common case, for which TensorFlow has one kernel."""
        # The kernel takes corners in any order as long as it is the same for all boxes.
        kept_boxes, confidence, classes, count = tf.image.combined_non_max_suppression(
            boxes[:, :, None, :],
            scores,
            max_output_size_per_class=self.max_detections,
            max_total_size=self.max_detections,
            iou_threshold=iou_threshold,
            score_threshold=score_threshold,
            clip_boxes=False,
        )
        real = tf.sequence_mask(count, self.max_detections)
        return self._padded(kept_boxes, confidence, tf.cast(classes, tf.int32), real)

    def _suppressed(
        self, boxes: tf.Tensor, scores: tf.Tensor, score_threshold, iou_threshold
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Suppression in groups, each with its own scores for the same boxes.

        Args:
            boxes: float32 [B, A, 4], xyxy, pixels.
            scores: float32 [B, A, G], of every box in every group.
            score_threshold: float scalar.
            iou_threshold: float scalar.

        Returns:
            Index of the box int32, score float32, 0 after the last, and group int32, of the best
            of all groups together; [B, D] each.
        """
        groups = scores.shape[2]

        def one(position):
            own_boxes, own_scores = boxes[position // groups], scores[position // groups]
            index, confidence, count = tf.raw_ops.NonMaxSuppressionV5(
                boxes=own_boxes,
                scores=own_scores[:, position % groups],
                max_output_size=self.max_detections,
                iou_threshold=1.0 if self.nms == "soft" else iou_threshold,
                score_threshold=score_threshold,
                # TensorFlow's kernel has exp(-IoU^2 / (2 sigma)).
                soft_nms_sigma=SOFT_SIGMA / 2.0 if self.nms == "soft" else 0.0,
                pad_to_max_output_size=True,
            )
            real = tf.sequence_mask(count, self.max_detections)
            return index, tf.where(real, confidence, 0.0)

        index, confidence = self._for_each(one, boxes, groups)
        shape = [tf.shape(boxes)[0], groups * self.max_detections]
        confidence, place = tf.math.top_k(tf.reshape(confidence, shape), self.max_detections)
        index = tf.gather(tf.reshape(index, shape), place, batch_dims=1)
        return index, confidence, place // self.max_detections

    def _for_each(self, one, boxes: tf.Tensor, groups: int) -> tuple[tf.Tensor, tf.Tensor]:
        """What `one` gives for every position in the batch and, there, for every group."""
        return tf.map_fn(
            one,
            tf.range(tf.shape(boxes)[0] * groups),
            fn_output_signature=(
                tf.TensorSpec([self.max_detections], tf.int32),
                tf.TensorSpec([self.max_detections], tf.float32),
            ),
        )

    def _best(
        self, boxes: tf.Tensor, scores: tf.Tensor, score_threshold, iou_threshold
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `_suppressed`, of all pairs of box and group, with no regard to where boxes are."""
        groups = tf.shape(scores)[2]
        pairs = tf.reshape(scores, [tf.shape(scores)[0], tf.shape(scores)[1] * groups])
        pairs = tf.where(pairs > score_threshold, pairs, 0.0)
        count = tf.minimum(self.max_detections, tf.shape(pairs)[1])
        missing = [[0, 0], [0, self.max_detections - count]]
        best = tf.math.top_k(pairs, count)
        confidence, place = tf.pad(best.values, missing), tf.pad(best.indices, missing)
        return place // groups, confidence, place % groups

    def _padded(
        self, boxes: tf.Tensor, confidence: tf.Tensor, classes: tf.Tensor, real: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return {
            "boxes": tf.where(real[..., None], boxes, -1.0),
            "confidence": tf.where(real, confidence, -1.0),
            "classes": tf.where(real, classes, -1),
            "num_detections": tf.reduce_sum(tf.cast(real, tf.int32), axis=-1),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        inherited = super().get_config()
        del inherited["dtype"]  # float32 always; Keras 2 and 3 do not read each other's
        return {
            **inherited,
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
            "nms": self.nms,
            "class_agnostic": self.class_agnostic,
            "calibration": None if self.calibration is None else self.calibration.tolist(),
        }


class PortableDecoder(DetectionDecoder):
    """The same detections from operations that TensorFlow Lite has, for a batch of known size.

    It has no kernel for class-wise suppression, and its quantizer does not get along with loops:
    here each class of each picture has its own operation.
    """

    def _hard_by_class(
        self, boxes: tf.Tensor, scores: tf.Tensor, score_threshold, iou_threshold
    ) -> dict[str, tf.Tensor]:
        return self._by_group(boxes, scores, score_threshold, iou_threshold)

    def _for_each(self, one, boxes: tf.Tensor, groups: int) -> tuple[tf.Tensor, tf.Tensor]:
        index, confidence = zip(*map(one, range(boxes.shape[0] * groups)))
        return tf.stack(index), tf.stack(confidence)

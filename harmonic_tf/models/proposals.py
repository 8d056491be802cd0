"""The first stage of a two-stage detector: where in a picture there is an object of any class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.backend import keras, tf

# What offsets from anchors are divided by: they are learned in sides of the anchor.
ANCHOR_VARIANCE = (1.0, 1.0, 1.0, 1.0)

_LOWEST = -1e30  # below any logit


def anchor_levels(
    grid: AnchorGrid, height: int | tf.Tensor, width: int | tf.Tensor
) -> list[tf.Tensor]:
    """The anchors of every level, for pictures whose size may be known only when they are there.

    Args:
        grid: the anchors.
        height: picture height, pixels.
        width: picture width, pixels.

    Returns:
        Float32 [A, 4] for each stride: together, `grid.boxes`.
    """
    levels = []
    for stride, size in zip(grid.strides, grid.sizes):
        y, x = (
            (tf.cast(tf.range(-(-side // stride)), tf.float32) + 0.5) * stride
            for side in (height, width)
        )
        centers = tf.stack(tf.meshgrid(x, y), axis=-1)[:, :, None]
        half = tf.constant(grid.shapes(size) / 2.0, tf.float32)
        corners = tf.concat([centers - half, centers + half], axis=-1)
        levels.append(tf.reshape(corners, [-1, 4]))
    return levels


@keras.saving.register_keras_serializable(package="harmonic_tf")
class ProposalHead(keras.layers.Layer):
    """Says of every anchor of a level whether there is an object, and where.

    Args:
        per_cell: anchors per cell.
        channels: width of the hidden layer.

    Source: Ren et al., "Faster R-CNN", arXiv 1506.01497, section 3.1: 3 x 3, then two 1 x 1, all
    from N(0, 0.01).
    """

    def __init__(self, per_cell: int, channels: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_cell = per_cell
        self.channels = channels

        def convolution(filters: int, size: int, name: str, **options: Any) -> keras.layers.Layer:
            initial = keras.initializers.RandomNormal(stddev=0.01)
            options = {"padding": "same", "kernel_initializer": initial, **options}
            return keras.layers.Conv2D(filters, size, name=name, **options)

        self.hidden = convolution(channels, 3, "hidden", activation="relu")
        self.logits = convolution(per_cell, 1, "logits")
        self.offsets = convolution(4 * per_cell, 1, "offsets")

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits [B, h, w, per_cell] and offsets [B, h, w, 4 * per_cell] of one level."""
        hidden = self.hidden(features)
        return self.logits(hidden), self.offsets(hidden)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "per_cell": self.per_cell, "channels": self.channels}


@keras.saving.register_keras_serializable(package="harmonic_tf")
class Proposals(keras.layers.Layer):
    """The boxes that most likely hold an object, always as many.

    Of every level the best candidates are taken, decoded, clipped to the picture and suppressed
    among themselves, and of all levels together the best are kept. Places that suppression leaves
    empty take the best candidates once more. No gradient flows through them.

    Args:
        anchors: config of the `AnchorGrid`.
        candidates: how many of each level are looked at, at most.
        count: how many boxes are kept.
        iou_threshold: of two that overlap more, the lower-scored one goes, in [0, 1].

    Source: arXiv 1506.01497, section 3.3; level by level as in Lin et al., arXiv 1612.03144.
    """

    def __init__(
        self,
        anchors: Mapping[str, Any],
        candidates: int = 1000,
        count: int = 1000,
        iou_threshold: float = 0.7,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.anchors = dict(anchors)
        self.candidates = candidates
        self.count = count
        self.iou_threshold = iou_threshold

    def call(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Chooses the boxes.

        Args:
            inputs: `images` [B, H, W, 3], of which the size counts; `logits` [B, A, 1] and
                `offsets` [B, A, 4], lists of one for each level.

        Returns:
            Float32 [B, count, 4], xyxy, pixels, inside of the picture, best first but for those
            taken once more.
        """
        images = tf.convert_to_tensor(inputs["images"])
        height, width = (images.shape[i] or tf.shape(images)[i] for i in (1, 2))
        boxes, scores, level_of = [], [], []
        levels = anchor_levels(AnchorGrid(**self.anchors), height, width)
        for level, (anchors, logits, offsets) in enumerate(
            zip(levels, inputs["logits"], inputs["offsets"])
        ):
            all_of_level = anchors.shape[0]
            if all_of_level is None:
                count = tf.minimum(self.candidates, tf.shape(anchors)[0])
            else:
                count = min(self.candidates, all_of_level)
            best = tf.math.top_k(tf.cast(logits[..., 0], tf.float32), count)
            chosen = tf.gather(tf.cast(offsets, tf.float32), best.indices, batch_dims=1)
            own = tf.gather(anchors, best.indices)
            boxes.append(box_ops.clip(box_ops.decode(chosen, own, ANCHOR_VARIANCE), height, width))
            scores.append(best.values)
            level_of.append(tf.fill([count], float(level)))
        boxes, scores = tf.concat(boxes, axis=1), tf.concat(scores, axis=1)
        # Levels side by side, so that boxes of different ones do not overlap.
        span = tf.cast(tf.maximum(height, width) + 1, tf.float32)
        apart = boxes + (tf.concat(level_of, axis=0) * span)[:, None]
        index = self._kept(tf.stop_gradient(apart), tf.stop_gradient(scores))
        return tf.stop_gradient(tf.gather(boxes, index, batch_dims=1))

    def _kept(self, boxes: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        """Which candidates are kept, int32 [B, count]."""

        def of_picture(picture: Sequence[tf.Tensor]) -> tf.Tensor:
            own_boxes, own_scores = picture
            index, kept = tf.raw_ops.NonMaxSuppressionV4(
                boxes=own_boxes,
                scores=own_scores,
                max_output_size=most,
                iou_threshold=self.iou_threshold,
                score_threshold=_LOWEST,
                pad_to_max_output_size=True,
            )
            total = tf.shape(own_scores)[0]
            again = tf.gather(tf.argsort(own_scores, direction="DESCENDING"), place % total)
            return tf.where(place < kept, tf.pad(index, [[0, self.count - most]]), again)

        place = tf.range(self.count)
        most = min(self.count, boxes.shape[1] or self.count)  # XLA's is not for more than there are
        if boxes.shape[0] == 1:
            return of_picture([boxes[0], scores[0]])[None]
        spec = tf.TensorSpec([self.count], tf.int32)
        return tf.map_fn(of_picture, [boxes, scores], fn_output_signature=spec)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "anchors": self.anchors,
            "candidates": self.candidates,
            "count": self.count,
            "iou_threshold": self.iou_threshold,
        }

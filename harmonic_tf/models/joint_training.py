"""The train, test and predict step shared by all detectors of this package.

A detector says how its targets and its dense predictions come about; here they meet in one loss.
The loss is summed over samples on every replica and divided once, by the positives of the whole
global batch, so that an update does not depend on how the batch is spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.losses import HarmonicLoss

LOSS_TERMS = ("classification", "localization", "task_contrasting")
JIT_CHOICES = ("auto", True, False)


def unpack_batch(data: Any) -> tuple[tf.Tensor, Mapping[str, tf.Tensor] | None]:
    """Images and labels of a batch in any of the forms that keras-cv detectors take.

    Args:
        data: images; `(images, labels)`; or `{"images": ..., "bounding_boxes": labels}`.

    Returns:
        Images and labels; labels are None when there are none.

    Raises:
        ValueError: when the batch carries sample weights.
    """
    if isinstance(data, Mapping):
        return data["images"], data.get("bounding_boxes")
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError(
            "Sample weights are not supported by joint training. Give the data set as "
            "(images, labels) pairs."
        )
    return images, labels


def _dense_labels(labels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Labels as `boxes` float32 [B, M, 4] and `classes` int32 [B, M], padded with -1."""
    labels = keras_cv.bounding_box.to_dense(dict(labels))
    boxes = tf.cast(labels["boxes"], tf.float32)
    classes = tf.cast(labels["classes"], tf.int32)
    if classes.shape.rank == 3:
        classes = tf.squeeze(classes, axis=-1)
    return {"boxes": boxes, "classes": classes}


class JointDetector(keras.Model):
    """A detector whose classification and localization branch are trained by one loss.

    Subclasses define `targets`, `dense_predictions` and `decode_predictions`.
    """

    @property
    def image_size(self) -> int | None:
        """Side of the square pictures that the network was built for, pixels; None if open."""
        return self.backbone.input_shape[1]

    def targets(self, labels: Mapping[str, tf.Tensor], height: int, width: int):
        """What the loss compares with: see `HarmonicLoss.terms`, `y_true`.

        Args:
            labels: `boxes` float32 [B, M, 4] in the model's format, `classes` int32 [B, M].
            height: picture height, pixels.
            width: picture width, pixels.
        """
        raise NotImplementedError

    def dense_predictions(self, outputs: Mapping[str, tf.Tensor], height: int, width: int):
        """What the loss looks at: see `HarmonicLoss.terms`, `y_pred`.

        Args:
            outputs: what the network returns.
            height: picture height, pixels.
            width: picture width, pixels.
        """
        raise NotImplementedError

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: HarmonicLoss | None = None,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Prepares training.

        Args:
            optimizer: a Keras optimizer or its name.
            loss: the joint loss; `HarmonicLoss()` when None.
            jit_compile: True compiles forward, targets, loss and backward with XLA; False nothing;
                `"auto"` everything on a GPU and the loss alone on a CPU, where XLA's convolutions
                are slower than TensorFlow's own.
            **kwargs: further arguments of `keras.Model.compile`, such as `run_eagerly` or
                `steps_per_execution`.

        Raises:
            ValueError: for a loss of another kind or metrics, which detectors have none of here.
        """
        loss = HarmonicLoss() if loss is None else loss
        if not isinstance(loss, HarmonicLoss):
            raise ValueError(
                f"{type(self).__name__}.compile: loss = {loss!r} must be a "
                "harmonic_tf.losses.HarmonicLoss; its switches also give the baselines."
            )
        if jit_compile not in JIT_CHOICES:
            raise ValueError(
                f"{type(self).__name__}.compile: jit_compile = {jit_compile!r} must be one of "
                f"{JIT_CHOICES}."
            )
        if kwargs.get("metrics") or kwargs.get("weighted_metrics"):
            raise ValueError(
                f"{type(self).__name__}.compile takes no metrics: fit logs every term of the loss, "
                "and harmonic_tf.evaluation measures detections."
            )
        # Past the classes of keras-cv, whose compile asks for one loss per branch.
        keras.Model.compile(self, optimizer=optimizer, loss=loss, jit_compile=False, **kwargs)
        self._jit_choice = jit_compile
        accelerated = bool(tf.config.list_logical_devices("GPU"))
        whole_step = jit_compile is True or (jit_compile == "auto" and accelerated)
        loss_alone = jit_compile == "auto" and not accelerated
        # Set past Keras's attribute tracking, which would try to save them with the model.
        object.__setattr__(
            self,
            "_sum_terms",
            tf.function(self._summed_terms, jit_compile=True) if loss_alone else self._summed_terms,
        )
        object.__setattr__(
            self,
            "_differentiate",
            tf.function(self._gradients, jit_compile=True) if whole_step else self._gradients,
        )
        self._step_metrics = {
            name: keras.metrics.Mean(name=name)
            for name in (
                "loss",
                *(f"{term}_loss" for term in LOSS_TERMS),
                "b_r",
                "b_c",
                "mean_iou",
                "positives_per_image",
            )
        }

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was called with, for saving."""
        return {**super().get_compile_config(), "jit_compile": self._jit_choice}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was when saved, optimizer state included."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What `fit` and `evaluate` show, reset every epoch."""
        return list(getattr(self, "_step_metrics", {}).values())

    def _summed_terms(self, y_true, outputs, height: int, width: int) -> dict[str, tf.Tensor]:
        """Sums of every term over the samples of this replica, not normalized."""
        y_pred = self.dense_predictions(outputs, height, width)
        terms = self.loss.terms(y_true, y_pred)
        return {name: tf.reduce_sum(value) for name, value in terms.items()}

    def _gradients(self, images, labels):
        """Gradients of the summed loss and the sums of its terms, for this replica."""
        height, width = images.shape[1:3]
        y_true = self.targets(labels, height, width)
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            sums = self._sum_terms(y_true, outputs, height, width)
            total = tf.add_n([sums[term] for term in LOSS_TERMS])
        gradients = tape.gradient(
            total, self.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return gradients, sums

    def _regularization_gradients(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Adds each replica's share of the gradient of the layers' own regularization."""
        with tf.GradientTape() as tape:
            penalties = self.losses
            if not penalties:
                return gradients
            share = tf.add_n(penalties) / self.distribute_strategy.num_replicas_in_sync
        extra = tape.gradient(
            share, self.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return [a + b for a, b in zip(gradients, extra)]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update from one batch: see `unpack_batch` for its forms."""
        images, labels = self._unpack_labelled(data)
        gradients, sums = self._differentiate(images, labels)
        normalizer = self._global_positives(sums)
        gradients = [gradient / normalizer for gradient in gradients]
        gradients = self._regularization_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return self._update_metrics(sums, normalizer, images)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The loss of one batch, without an update."""
        images, labels = self._unpack_labelled(data)
        height, width = images.shape[1:3]
        y_true = self.targets(labels, height, width)
        sums = self._sum_terms(y_true, self(images, training=False), height, width)
        return self._update_metrics(sums, self._global_positives(sums), images)

    def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Detections of one batch of images, or of (images, labels), whose labels are not used."""
        images, _ = unpack_batch(data)
        return self.decode_predictions(self(images, training=False), images)

    def _unpack_labelled(self, data: Any):
        images, labels = unpack_batch(data)
        if labels is None:
            raise ValueError("Training needs labels: give batches as (images, labels).")
        return images, _dense_labels(labels)

    def _global_positives(self, sums: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Positives of the whole global batch, at least 1."""
        replica = tf.distribute.get_replica_context()
        return tf.maximum(replica.all_reduce(tf.distribute.ReduceOp.SUM, sums["positives"]), 1.0)

    def _update_metrics(self, sums, normalizer: tf.Tensor, images) -> dict[str, tf.Tensor]:
        """Adds a step to the running means; Keras averages the replicas' values."""
        metrics = self._step_metrics
        replicas = float(self.distribute_strategy.num_replicas_in_sync)
        for term in LOSS_TERMS:
            metrics[f"{term}_loss"].update_state(replicas * sums[term] / normalizer)
        total = tf.add_n([sums[term] for term in LOSS_TERMS])
        metrics["loss"].update_state(replicas * total / normalizer)
        positives = sums["positives"]
        for name, key in (("b_r", "b_r"), ("b_c", "b_c"), ("mean_iou", "iou")):
            mean = sums[key] / tf.maximum(positives, 1.0)
            metrics[name].update_state(mean, sample_weight=positives)
        count = tf.cast(tf.shape(images)[0], positives.dtype)
        metrics["positives_per_image"].update_state(positives / count)
        return {name: metric.result() for name, metric in metrics.items()}

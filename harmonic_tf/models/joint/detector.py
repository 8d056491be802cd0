"""A detector whose two branches are trained by one loss: its contract, and the steps of Keras.

A detector says how its targets and its dense predictions come about; here they meet in one loss.
On every replica the loss is summed over samples and differentiated (`gradients`), by XLA if asked
to, in one pass or in several micro-batches. What follows is done once for the whole global batch:
sums and gradients are added up over replicas, divided by the weight of the positives, checked,
clipped and applied (`weight_update`). So an update does not depend on how the batch is spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harmonic_tf import boxes as box_ops
from harmonic_tf.backend import (
    SteppedModel,
    fuse_batch_norms,
    keras,
    layers_in,
    mean_over_replicas,
    plain,
    tf,
    value_of,
)
from harmonic_tf.losses import CLASSIFICATION_LOSSES, HarmonicLoss
from harmonic_tf.models.activations import choose_swish
from harmonic_tf.models.decoding import DetectionDecoder
from harmonic_tf.models.joint.gradients import JIT_CHOICES, LossGradients, sum_over_replicas
from harmonic_tf.models.joint.groups import MAIN, GroupedLoss, Samples
from harmonic_tf.models.joint.labels import unpack_batch, unpack_labelled
from harmonic_tf.models.joint.metrics import UPDATE_METRICS, StepMetrics
from harmonic_tf.models.joint.weight_update import WeightUpdate


class JointDetector(SteppedModel):
    """A detector whose classification and localization branch are trained by one loss.

    Subclasses are functional models of one input, the images, that define `targets` and
    `dense_predictions` and set `num_classes`: docs/own-detector.md has one in full. Both methods
    are traced without AutoGraph: they are written in TensorFlow's operations, without Python's `if`
    and `len` on tensors. Those that also define `head_layers` and `last_layers` can be frozen up to
    these, those that set `backbone`, a `keras.Model` inside of them, up to that, see `freeze`;
    those that define `class_layers` keep the classes that they know, see `training.fine_tuning`.

    Attributes:
        num_classes: number of classes C, > 0; has no default.
        bounding_box_format: format of labels and detections, as in keras-cv.
        loss_defaults: arguments of the `HarmonicLoss` that suits the detector best.
        further_losses: losses of further groups of samples, by name; see `sample_groups`.
        classification_losses: those that its logits and its targets are made for.
        predicts_distributions: whether its `dense_predictions` have `bins`.
        labels_regressed_boxes: whether its `targets` have `regressed_classes`.
        quantizable: whether its network may be computed in integers: no arithmetic of boxes in it.
    """

    bounding_box_format = "xyxy"
    loss_defaults: Mapping[str, Any] = {}
    further_losses: Mapping[str, HarmonicLoss] = {}
    classification_losses: tuple[str, ...] = tuple(
        name for name, loss in CLASSIFICATION_LOSSES.items() if not loss.softmax
    )
    predicts_distributions = False
    labels_regressed_boxes = False
    quantizable = True

    @classmethod
    def default_loss(cls) -> HarmonicLoss:
        """What `compile` takes when no loss is given."""
        return HarmonicLoss(**cls.loss_defaults)

    @classmethod
    def check_loss(cls, loss: HarmonicLoss) -> None:
        """Makes sure that the detector can be trained by a loss.

        Args:
            loss: the joint loss.

        Raises:
            ValueError: it cannot, or the loss is of another kind.
        """
        if not isinstance(loss, HarmonicLoss):
            raise ValueError(
                f"{cls.__name__}: loss = {loss!r} must be a harmonic_tf.losses.HarmonicLoss; its "
                "switches also give the baselines."
            )
        if loss.classification not in cls.classification_losses:
            raise ValueError(
                f"{cls.__name__}: classification = {loss.classification!r} does not fit the "
                f"detector's scores or their targets. Choose "
                f"{' or '.join(map(repr, cls.classification_losses))}."
            )
        if loss.dfl_weight and not cls.predicts_distributions:
            raise ValueError(
                f"{cls.__name__}: dfl_weight = {loss.dfl_weight} needs distributions of distances, "
                "which this detector does not predict. Choose 0, or a YOLOv8."
            )
        if loss.regressed_labels and not cls.labels_regressed_boxes:
            raise ValueError(
                f"{cls.__name__}: regressed_labels needs targets with regressed_classes, which "
                "this detector's have not. Leave it out, or choose a RetinaNet."
            )

    @property
    def image_size(self) -> int | None:
        """Side of the square pictures that the network was built for, pixels; None if open."""
        return self.inputs[0].shape[1]

    def head_layers(self) -> Sequence[keras.layers.Layer]:
        """The layers that predict from features; none where a detector does not say."""
        return []

    def last_layers(self) -> Sequence[keras.layers.Layer]:
        """Those of the heads that give their outputs; none where a detector does not say."""
        return []

    def class_layers(self) -> Sequence[keras.layers.Layer]:
        """The convolutions that give the class logits; none where a detector does not say.

        The last axis of their kernels and biases is predictions per cell times classes, classes
        fastest.
        """
        return []

    def targets(
        self,
        labels: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        height: int,
        width: int,
    ):
        """What the loss compares with: see `HarmonicLoss.terms`, `y_true`.

        Args:
            labels: `boxes` float32 [B, M, 4] in the model's format, `classes` int32 [B, M].
            predictions: the `dense_predictions` of the same pictures, for detectors that assign
                by what they predict; no gradient flows back through them.
            height: picture height, pixels.
            width: picture width, pixels.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define targets.")

    def dense_predictions(self, outputs: Mapping[str, tf.Tensor], height: int, width: int):
        """What the loss looks at: see `HarmonicLoss.terms`, `y_pred`.

        Args:
            outputs: what the network returns.
            height: picture height, pixels.
            width: picture width, pixels.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define dense_predictions.")

    def labelled_outputs(
        self, images: tf.Tensor, labels: Mapping[str, tf.Tensor], training: bool
    ) -> Mapping[str, tf.Tensor]:
        """What the network returns for pictures to learn from, or to measure the loss on.

        For detectors whose later stages look at what labels have chosen.

        Args:
            images: float [B, H, W, 3].
            labels: as `targets` takes them.
            training: whether layers are in training.
        """
        return self(images, training=training)

    def sample_groups(
        self,
        labels: Mapping[str, tf.Tensor],
        outputs: Mapping[str, tf.Tensor],
        height: int,
        width: int,
    ) -> Samples:
        """The groups of samples that are learned, each by a loss of its own.

        `MAIN`, by the loss of `compile`, are the `dense_predictions` with their `targets`. A
        detector that learns more adds a group for each of its `further_losses`.

        Args:
            labels: as `targets` takes them.
            outputs: what `labelled_outputs` returns.
            height: picture height, pixels.
            width: picture width, pixels.

        Returns:
            `y_true` and `y_pred` of `HarmonicLoss.terms`, by group.
        """
        y_pred = self.dense_predictions(outputs, height, width)
        fixed = {name: tf.stop_gradient(value) for name, value in y_pred.items()}
        return {MAIN: (self.targets(labels, fixed, height, width), y_pred)}

    def sample_counts(
        self, labels: Mapping[str, tf.Tensor], height: int, width: int
    ) -> Mapping[str, tf.Tensor]:
        """How many samples of each group there are: what its summed loss is divided by.

        A detector with several groups has to know them from labels alone, as they weigh the groups
        against each other before the batch is through. One with a single group may leave it at
        none: its loss is divided by the weight of the positives.

        Args:
            labels: as `targets` takes them.
            height: picture height, pixels.
            width: picture width, pixels.

        Returns:
            Float32 scalars, by group, of the pictures that these labels are of.
        """
        return {}

    def class_scores(self, logits: tf.Tensor) -> tf.Tensor:
        """Scores of the classes from the logits of `dense_predictions`.

        Args:
            logits: float32 [B, A, C], or with what else the detector's scores are made of.

        Returns:
            Float32 [B, A, C] in [0, 1].
        """
        return tf.sigmoid(logits)

    @property
    def prediction_decoder(self) -> keras.layers.Layer:
        """The layer that keeps the best detections; set another to change thresholds.

        A `DetectionDecoder` with its defaults where none was set.
        """
        if not hasattr(self, "_prediction_decoder"):
            self._prediction_decoder = DetectionDecoder()
        return self._prediction_decoder

    @prediction_decoder.setter
    def prediction_decoder(self, decoder: keras.layers.Layer) -> None:
        self._prediction_decoder = decoder
        self.predict_function = None

    def decode_predictions(
        self,
        predictions: Mapping[str, tf.Tensor],
        images: tf.Tensor,
        decoder: keras.layers.Layer | None = None,
    ) -> dict[str, tf.Tensor]:
        """Detections from the network's outputs.

        Args:
            predictions: what the model returns.
            images: the pictures, [B, H, W, 3]; their shape is what counts.
            decoder: decides which detections to keep; `prediction_decoder` when None.

        Returns:
            As `DetectionDecoder`, boxes in `bounding_box_format`.
        """
        height, width = images.shape[1:3]
        dense = self.dense_predictions(predictions, height, width)
        boxes = box_ops.clip(dense["boxes"], height, width)
        decoder = decoder or self.prediction_decoder
        detections = decoder(boxes, self.class_scores(dense["logits"]))
        converted = box_ops.convert(
            detections["boxes"], "xyxy", self.bounding_box_format, height, width
        )
        padding = detections["classes"][..., None] < 0
        return {**detections, "boxes": tf.where(padding, -1.0, converted)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> JointDetector:
        """Rebuilds the model from `get_config`."""
        config = dict(config)
        for key in ("backbone", "prediction_decoder"):
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: HarmonicLoss | None = None,
        jit_compile: bool | str = "auto",
        accumulation_steps: int = 1,
        average_decay: float | None = None,
        backbone_learning_rate_factor: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Prepares training.

        Args:
            optimizer: a Keras optimizer or its name.
            loss: the joint loss; `default_loss()` when None.
            jit_compile: True compiles forward, targets, loss and backward of each replica as one
                XLA program; False nothing; `"auto"` all of it on a GPU or TPU, targets and loss
                alone on a CPU, where XLA's convolutions are slower than TensorFlow's own.
            accumulation_steps: micro-batches that each replica's part of a batch is cut into, one
                after the other, to save memory. The update is that of the uncut batch, up to the
                statistics of batch normalization.
            average_decay: makes moving averages of the weights, see `averaged_weights`: weight of
                the old average in the new one, in [0, 1). None does not average.
            backbone_learning_rate_factor: how far the backbone's weights move of what the optimizer
                moves them, its decay included, in (0, 1].
            **kwargs: further arguments of `keras.Model.compile`, such as `run_eagerly` or
                `steps_per_execution`.

        Raises:
            ValueError: for a loss of another kind, a number out of its range, metrics, which
                detectors have none of here, or a detector that lacks what training asks for.
        """
        loss = self.default_loss() if loss is None else loss
        self._check_compile(
            loss,
            jit_compile,
            accumulation_steps,
            average_decay,
            backbone_learning_rate_factor,
            kwargs,
        )
        # Past the classes of keras-cv, whose compile asks for one loss per branch.
        keras.Model.compile(self, optimizer=optimizer, loss=loss, jit_compile=False, **kwargs)
        grouped_loss = GroupedLoss({MAIN: loss, **self.further_losses})
        training = {
            "grouped_loss": grouped_loss,
            "loss_gradients": LossGradients(self, jit_compile, accumulation_steps),
            "step_metrics": StepMetrics(grouped_loss.term_names),
            "weight_update": WeightUpdate(
                self.optimizer,
                self.trainable_variables,
                len(checked_names(grouped_loss)),
                average_decay,
                self._step_factors(backbone_learning_rate_factor),
            ),
            "backbone_learning_rate_factor": backbone_learning_rate_factor,
        }
        for name, value in training.items():
            # Past Keras's attribute tracking, which would take them for weights of the model.
            object.__setattr__(self, name, value)
        fuse_batch_norms(self)
        choose_swish(self, fused=self.loss_gradients.compiles_loss_alone)

    def _step_factors(self, of_backbone: float) -> list[float] | None:
        """How far each trainable variable moves of what the optimizer moves it."""
        if of_backbone == 1.0:
            return None
        backbone = {id(weight) for weight in backbone_of(self).weights}
        return [of_backbone if id(v) in backbone else 1.0 for v in self.trainable_variables]

    def _check_compile(
        self, loss, jit_compile, accumulation_steps, average_decay, backbone_factor, kwargs
    ) -> None:
        where = f"{type(self).__name__}.compile"
        if missing := self._missing():
            raise ValueError(
                f"{where}: the detector has no {', '.join(missing)}; see docs/own-detector.md."
            )
        self.check_loss(loss)
        if jit_compile not in JIT_CHOICES:
            raise ValueError(
                f"{where}: jit_compile = {jit_compile!r} must be one of {JIT_CHOICES}."
            )
        if accumulation_steps < 1:
            raise ValueError(
                f"{where}: accumulation_steps = {accumulation_steps} must be at least 1."
            )
        if average_decay is not None and not 0.0 <= average_decay < 1.0:
            raise ValueError(f"{where}: average_decay = {average_decay} must be in [0, 1).")
        if not 0.0 < backbone_factor <= 1.0:
            raise ValueError(
                f"{where}: backbone_learning_rate_factor = {backbone_factor} must be in (0, 1]. To "
                "keep the backbone as it is, freeze it."
            )
        if kwargs.get("metrics") or kwargs.get("weighted_metrics"):
            raise ValueError(
                f"{where} takes no metrics: fit logs every term of the loss, and "
                "harmonic_tf.evaluation measures detections."
            )

    def _missing(self) -> list[str]:
        """What a subclass has to provide, and has not."""
        own = type(self)
        methods, attributes = ("targets", "dense_predictions"), ("num_classes", "inputs")
        return [
            *(name for name in methods if getattr(own, name) is getattr(JointDetector, name)),
            *(name for name in attributes if not getattr(self, name, None)),
        ]

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` was called with, for saving; None before it was."""
        if not hasattr(self, "loss_gradients"):
            return None
        return {
            **super().get_compile_config(),
            "jit_compile": self.loss_gradients.jit_compile,
            "accumulation_steps": self.loss_gradients.accumulation_steps,
            "average_decay": self.weight_update.average_decay,
            "backbone_learning_rate_factor": self.backbone_learning_rate_factor,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was when saved, optimizer state included."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What `fit` and `evaluate` show, reset every epoch."""
        return self.step_metrics.all if hasattr(self, "step_metrics") else []

    def _running_statistics(self) -> list[tf.Variable]:
        """What the forward pass of a training step changes."""
        return [
            value_of(variable)
            for layer in layers_in(self)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

    @plain
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update from one batch: see `unpack_batch` for its forms."""
        images, labels = unpack_labelled(data)
        statistics = self._running_statistics()
        statistics_before = [tf.identity(variable) for variable in statistics]
        loss_scale = tf.identity(self.weight_update.loss_scale)
        counts = self.loss_gradients.counts(labels, *images.shape[1:3])
        gradients, sums = self.loss_gradients(images, labels, loss_scale, counts)
        gradients, sums = sum_over_replicas((gradients, sums))
        normalizers = self.grouped_loss.normalizers(sums, counts)

        # In units of the summed and scaled loss to the end, which saves passes over the gradients.
        scale = loss_scale * normalizers[MAIN]
        penalties = self.loss_gradients.of_penalties()
        if penalties is not None:
            gradients = [a + scale * b for a, b in zip(gradients, penalties)]
        norm = tf.linalg.global_norm(gradients) / scale
        checks = tf.math.is_finite([norm, *(sums[term] for term in self.grouped_loss.term_names)])
        self.weight_update.apply([gradient * (1.0 / scale) for gradient in gradients], checks)
        finite = tf.reduce_all(checks)
        written = mean_over_replicas(statistics)
        for variable, after, before in zip(statistics, written, statistics_before):
            variable.assign(tf.where(finite, after, before))
        means = self.grouped_loss.means(sums, normalizers)
        return self.step_metrics.update(sums, means, images, norm, finite)

    @plain
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The loss of one batch, without an update."""
        images, labels = unpack_labelled(data)
        height, width = images.shape[1:3]
        outputs = self.labelled_outputs(images, labels, training=False)
        counts = self.loss_gradients.counts(labels, height, width)
        sums = sum_over_replicas(self.loss_gradients.sums(labels, outputs, height, width))
        normalizers = self.grouped_loss.normalizers(sums, counts)
        logs = self.step_metrics.update(sums, self.grouped_loss.means(sums, normalizers), images)
        return {name: value for name, value in logs.items() if name not in UPDATE_METRICS}

    @plain
    def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Detections of one batch of images, or of (images, labels), whose labels are not used."""
        images, _ = unpack_batch(data)
        return self.decode_predictions(self(images, training=False), images)

    def terms_not_finite(self) -> list[str]:
        """What was not finite in the last step, the most telling: losses before the gradient."""
        passed = self.weight_update.checks.numpy()
        names = checked_names(getattr(self, "grouped_loss", self.loss))
        failed = [name for name, good in zip(names, passed) if not good]
        return [name for name in failed if name != "gradient"] or failed

    def averaged_weights(self) -> list[tf.Tensor]:
        """The weights to detect with, in the order of `weights`.

        Returns:
            Moving averages in place of trained weights where `compile` asked for them; the other
            weights, such as the running statistics of batch normalization, as they are.
        """
        averages = self.weight_update.averages_by_variable()
        return [averages.get(id(weight), weight).numpy() for weight in self.weights]


def backbone_of(detector: JointDetector) -> keras.Model:
    """The backbone that a detector names.

    Raises:
        ValueError: it names none.
    """
    backbone = getattr(detector, "backbone", None)
    if backbone is None:
        raise ValueError(
            f"{type(detector).__name__}: what is asked of its backbone needs the attribute "
            "backbone, a keras.Model whose layers are part of the detector."
        )
    return backbone


def checked_names(loss: GroupedLoss | HarmonicLoss) -> tuple[str, ...]:
    """What of a step has to be finite, in the order of `WeightUpdate.checks`."""
    return ("gradient", *(f"{term} loss" for term in loss.term_names))

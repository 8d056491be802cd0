"""Forward, targets, loss and backward of one replica, in one pass or in several micro-batches.

Losses are summed, never normalized: what to divide by is known when all replicas are added up.
Where there are several groups of samples, how they weigh against each other has to be known before:
their numbers follow from labels alone (`JointDetector.sample_counts`) and are added up first.
A loss over the whole batch (`HarmonicLoss.batch_sums`) has to know sums over all replicas before
that. They are added up between forward and loss, where XLA's program is cut for them: there are no
collectives inside of it. With accumulation they are those of a micro-batch of every replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harmonic_tf.backend import tf, traced, value_of
from harmonic_tf.models.joint.groups import MAIN

if TYPE_CHECKING:
    from harmonic_tf.models.joint.detector import JointDetector

JIT_CHOICES = ("auto", True, False)

# Not every variable has a gradient: the last layers of some backbones are not used.
_ZERO = tf.UnconnectedGradients.ZERO

Labels = Mapping[str, tf.Tensor]
Outputs = Mapping[str, tf.Tensor]
Sums = dict[str, tf.Tensor]


class LossGradients:
    """What a replica's part of a batch has to say about the weights.

    Args:
        detector: the network, with its targets and its loss.
        jit_compile: one of `JIT_CHOICES`, see `JointDetector.compile`.
        accumulation_steps: micro-batches that the part is cut into, >= 1.
    """

    def __init__(
        self, detector: JointDetector, jit_compile: bool | str, accumulation_steps: int
    ) -> None:
        self.jit_compile = jit_compile
        self.accumulation_steps = accumulation_steps
        self._detector = detector
        self._variables = [value_of(weight) for weight in detector.trainable_variables]
        accelerated = any(
            device.device_type != "CPU" for device in tf.config.list_logical_devices()
        )
        whole_step = jit_compile is True or (jit_compile == "auto" and accelerated)
        self.compiles_loss_alone = jit_compile == "auto" and not accelerated
        self._looks_at_batch = detector.loss.batch_loss is not None
        # The parts of a step that are compiled one by one where it cannot be compiled as one.
        parts = whole_step and self._looks_at_batch
        compiles_loss = self.compiles_loss_alone or parts
        self._forward = _compiled(self._labelled_outputs, parts)
        self._own_counts = _compiled(self._counts_here, self.compiles_loss_alone or whole_step)
        self._own_batch_sums = _compiled(self._batch_sums_here, compiles_loss)
        self._sums_given = _compiled(self._sums, compiles_loss)
        self._by_outputs = _compiled(self._gradients_by_outputs, compiles_loss)
        self.of_part = _compiled(self._of_part, whole_step and not parts)

    def __call__(
        self, images: tf.Tensor, labels: Labels, loss_scale: tf.Tensor, counts: Sums
    ) -> tuple[list[tf.Tensor], Sums]:
        """Gradients of the summed and scaled loss, and the sums of its terms.

        Args:
            images: float [B, H, W, 3].
            labels: as `JointDetector.targets` takes them.
            loss_scale: float32 scalar, what the loss is multiplied by.
            counts: what `counts` gives.

        Returns:
            A gradient for each trainable variable, and a scalar for each of
            `GroupedLoss.sum_names`.

        Raises:
            ValueError: the images cannot be cut into as many micro-batches.
        """
        steps = self.accumulation_steps
        if steps == 1:
            return self.of_part(images, labels, loss_scale, counts)
        batch = images.shape[0]
        if batch is None or batch % steps:
            raise ValueError(
                f"{type(self._detector).__name__}: each replica's part of a batch, {batch} "
                f"pictures, must be known beforehand and a multiple of accumulation_steps = "
                f"{steps}. Batch with drop_remainder=True and a fitting size."
            )
        parts = tf.nest.map_structure(
            lambda tensor: tf.reshape(tensor, [steps, batch // steps, *tensor.shape[1:]]),
            (images, labels),
        )

        def add_part(index, total):
            part = tf.nest.map_structure(lambda tensor: tensor[index], parts)
            of_part = self.of_part(*part, loss_scale, counts)
            return index + 1, tf.nest.map_structure(tf.add, total, of_part)

        nothing = (
            [tf.zeros_like(variable) for variable in self._variables],
            {name: tf.constant(0.0) for name in self._detector.grouped_loss.sum_names},
        )
        if self._looks_at_batch:
            # Replicas meet in every part, which they cannot do inside of a loop of TensorFlow's.
            total = nothing
            for index in range(steps):
                with tf.control_dependencies(tf.nest.flatten(total)):
                    _, total = add_part(index, total)
            return total
        return tf.while_loop(
            lambda index, _: index < steps,
            add_part,
            (tf.constant(0), nothing),
            parallel_iterations=1,
        )[1]

    def of_penalties(self) -> list[tf.Tensor] | None:
        """Gradients of the layers' own regularization, None where there is none."""
        detector = self._detector
        with tf.GradientTape() as tape:
            if not detector.losses:
                return None
            penalty = tf.add_n(detector.losses)
        return tape.gradient(penalty, self._variables, unconnected_gradients=_ZERO)

    def counts(self, labels: Labels, height: int, width: int) -> Sums:
        """`JointDetector.sample_counts` of all replicas. In a replica context.

        Args:
            labels: as `JointDetector.targets` takes them.
            height: picture height, pixels.
            width: picture width, pixels.
        """
        own = self._own_counts(labels, height, width)
        return sum_over_replicas(own) if own else own

    def sums(self, labels: Labels, outputs: Outputs, height: int, width: int) -> Sums:
        """Sums of every term over the samples of this replica. In a replica context.

        Args:
            labels: as `JointDetector.targets` takes them.
            outputs: what the network returns.
            height: picture height, pixels.
            width: picture width, pixels.
        """
        batch_sums = self._batch_sums(labels, outputs, height, width)
        return self._sums_given(labels, outputs, height, width, batch_sums)

    def _batch_sums(self, labels: Labels, outputs: Outputs, height: int, width: int) -> Sums:
        """`HarmonicLoss.batch_sums` of all replicas; none where the loss does not look at them."""
        if not self._looks_at_batch:
            return {}
        return sum_over_replicas(self._own_batch_sums(labels, outputs, height, width))

    def _labelled_outputs(self, images: tf.Tensor, labels: Labels) -> Outputs:
        return self._detector.labelled_outputs(images, labels, training=True)

    def _counts_here(self, labels: Labels, height: int, width: int) -> Sums:
        return self._detector.sample_counts(labels, height, width)

    def _batch_sums_here(self, labels: Labels, outputs: Outputs, height: int, width: int) -> Sums:
        samples = self._detector.sample_groups(labels, outputs, height, width)
        return self._detector.loss.batch_sums(*samples[MAIN])

    def _sums(
        self, labels: Labels, outputs: Outputs, height: int, width: int, batch_sums: Sums
    ) -> Sums:
        samples = self._detector.sample_groups(labels, outputs, height, width)
        return self._detector.grouped_loss.sums(samples, batch_sums)

    def _gradients_by_outputs(
        self,
        labels: Labels,
        outputs: Outputs,
        height: int,
        width: int,
        batch_sums: Sums,
        loss_scale: tf.Tensor,
        counts: Sums,
    ) -> tuple[Outputs, Sums]:
        """Gradients by the network's outputs, and the sums of the terms.

        Apart from the network's own gradients, so that XLA sees the loss's both ways at once.
        """
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            sums = self._sums(labels, outputs, height, width, batch_sums)
            total = loss_scale * self._detector.grouped_loss.total(sums, counts)
        return tape.gradient(total, outputs, unconnected_gradients=_ZERO), sums

    def _of_part(
        self, images: tf.Tensor, labels: Labels, loss_scale: tf.Tensor, counts: Sums
    ) -> tuple[list[tf.Tensor], Sums]:
        """Gradients by the weights of one micro-batch, and the sums of the terms."""
        height, width = images.shape[1:3]
        with tf.GradientTape() as tape:
            outputs = self._forward(images, labels)
        batch_sums = self._batch_sums(labels, outputs, height, width)
        by_outputs, sums = self._by_outputs(
            labels, outputs, height, width, batch_sums, loss_scale, counts
        )
        gradients = tape.gradient(outputs, self._variables, by_outputs, unconnected_gradients=_ZERO)
        return gradients, sums


def sum_over_replicas(values: Any) -> Any:
    """Adds up tensors over all replicas. In a replica context.

    Args:
        values: any structure of tensors.
    """
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _compiled(function: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
    return traced(function, jit_compile=True) if jit_compile else function

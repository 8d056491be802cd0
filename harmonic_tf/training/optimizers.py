"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harmonic_tf.backend import OnePassStep, keras, lamb, tf
from harmonic_tf.training.settings import OptimizerSettings

OPTIMIZERS = ("sgd", "sgdw", "adamw", "lamb")
SCHEDULES = ("cosine", "step", "constant")

# SGD's momentum and the step schedule's drop, as in arXiv 1708.02002, section 4.1.
MOMENTUM = 0.9
STEP_FACTOR = 0.1

# Decay pulls weights towards 0; for shifts and scales that is no simplification. Under a strategy
# of several replicas the name of a variable ends on the number of its replica.
NOT_DECAYED = [r"(bias|gamma|beta)(/replica_\d+)?:\d+$"]


@keras.saving.register_keras_serializable(package="harmonic_tf")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a straight line, then follows a schedule.

    Args:
        learning_rate: rate at the end of the warm-up, > 0.
        total_steps: length of the training, steps.
        warmup_steps: length of the rise, steps, >= 0.
        schedule: `"cosine"` falls to 0, `"step"` drops tenfold at each of `boundaries`,
            `"constant"` stays.
        boundaries: steps at which `"step"` drops.
        steps_done: steps of the training before the first that is asked for, >= 0.

    Source: Loshchilov and Hutter, arXiv 1608.03983 (cosine); Goyal et al., arXiv 1706.02677
    (warm-up).
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        schedule: str = "cosine",
        boundaries: Sequence[int] = (),
        steps_done: int = 0,
    ):
        if schedule not in SCHEDULES:
            raise ValueError(
                f"Schedule {schedule!r} is unknown. Choose one of {', '.join(SCHEDULES)}."
            )
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.boundaries = tuple(boundaries)
        self.steps_done = steps_done

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Rate of a step.

        Args:
            step: integer or float scalar, >= 0, counted after `steps_done`.

        Returns:
            Float32 scalar.
        """
        step = tf.cast(step, tf.float32) + self.steps_done
        factor = tf.constant(1.0)
        if self.schedule == "cosine":
            length = max(self.total_steps - self.warmup_steps, 1)
            progress = tf.clip_by_value((step - self.warmup_steps) / length, 0.0, 1.0)
            factor = 0.5 * (1.0 + tf.cos(math.pi * progress))
        elif self.schedule == "step":
            passed = tf.add_n(
                [tf.cast(step >= b, tf.float32) for b in (math.inf, *self.boundaries)]
            )
            factor = tf.pow(STEP_FACTOR, passed)
        rise = tf.minimum((step + 1.0) / max(self.warmup_steps, 1), 1.0)
        return self.learning_rate * rise * factor

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "schedule": self.schedule,
            "boundaries": list(self.boundaries),
            "steps_done": self.steps_done,
        }


@keras.saving.register_keras_serializable(package="harmonic_tf")
class AdamW(OnePassStep, keras.optimizers.AdamW):
    """Keras's AdamW in one pass over memory; shifts and scales are not decayed.

    Keras writes Adam's update as eight operations that each visit every weight; TensorFlow has a
    kernel that visits them once. The optimizers of tensorflow-addons call that kernel too, but
    under `MirroredStrategy` they do not decay anything when told of variables to leave out.

    Args:
        **kwargs: see `keras.optimizers.AdamW`.

    Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, decay times learning rate.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.exclude_from_weight_decay(var_names=NOT_DECAYED)

    def move(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Moves one variable, after its decay."""
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
            super().move(gradient, variable, learning_rate)
            return
        index = self.place_of(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=gradient,
        )


@keras.saving.register_keras_serializable(package="harmonic_tf")
class SGDW(OnePassStep, keras.optimizers.SGD):
    """Keras's SGD, decay decoupled, in one pass over memory; see `AdamW`.

    Args:
        **kwargs: see `keras.optimizers.SGD`.

    Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 1, decay times learning rate.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.exclude_from_weight_decay(var_names=NOT_DECAYED)

    def move(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Moves one variable, after its decay."""
        if isinstance(gradient, tf.IndexedSlices):
            super().move(gradient, variable, learning_rate)
            return
        index = self.place_of(variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[index].handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


@keras.saving.register_keras_serializable(package="harmonic_tf")
class SGD(SGDW):
    """SGD whose decay is part of the gradient, as in the papers of this field.

    Args:
        **kwargs: see `keras.optimizers.SGD`.

    Source: weight decay as in arXiv 1708.02002, section 4.1.
    """

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Does nothing here: `move` decays."""

    def move(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Moves one variable along its gradient and its decay."""
        if self.weight_decay and self._use_weight_decay(variable):
            gradient += self.weight_decay * variable
        super().move(gradient, variable, learning_rate)


def build_optimizer(
    settings: OptimizerSettings, epochs: int, steps_per_epoch: int, steps_done: int = 0
) -> keras.optimizers.Optimizer:
    """Builds an optimizer with its schedule, in the strategy scope of the weights it will move.

    Every step takes `rate * weight_decay` off the kernels, apart from the gradient (`sgd`: as a
    part of it, LAMB: scaled by its trust ratio); biases, gamma and beta are left alone.

    Args:
        settings: name, rate, schedule, decay and clipping.
        epochs: length of the training.
        steps_per_epoch: steps of one epoch.
        steps_done: steps of the training that another optimizer has made.

    Returns:
        An optimizer whose `apply_gradients` clips the global norm of the gradients it is given,
        whether it sums them over replicas or not.

    Raises:
        ValueError: for an unknown name.
    """
    if settings.name not in OPTIMIZERS:
        raise ValueError(
            f"Optimizer {settings.name!r} is unknown. Choose one of {', '.join(OPTIMIZERS)}."
        )
    schedule = WarmupSchedule(
        settings.learning_rate,
        total_steps=epochs * steps_per_epoch,
        warmup_steps=settings.warmup_steps,
        schedule=settings.schedule,
        boundaries=[epoch * steps_per_epoch for epoch in settings.step_epochs],
        steps_done=steps_done,
    )
    common = {
        "learning_rate": schedule,
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm or None,
    }
    if settings.name == "lamb":
        return lamb(not_decayed=NOT_DECAYED, **common)
    if settings.name == "adamw":
        return AdamW(**common)
    kind = SGD if settings.name == "sgd" else SGDW
    return kind(momentum=MOMENTUM, name=kind.__name__, **common)

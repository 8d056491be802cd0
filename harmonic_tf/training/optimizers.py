"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harmonic_tf.backend import keras, tf
from harmonic_tf.training.settings import OptimizerSettings

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "step", "constant")

# SGD's momentum and the step schedule's drop, as in arXiv 1708.02002, section 4.1.
MOMENTUM = 0.9
STEP_FACTOR = 0.1


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

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Rate of a step.

        Args:
            step: integer or float scalar, >= 0.

        Returns:
            Float32 scalar.
        """
        step = tf.cast(step, tf.float32)
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
        }


def build_optimizer(
    settings: OptimizerSettings, epochs: int, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Builds an optimizer with its schedule.

    Args:
        settings: name, rate, schedule, decay and clipping.
        epochs: length of the training.
        steps_per_epoch: steps of one epoch.

    Returns:
        A Keras optimizer that clips the global norm of gradients.

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
    )
    common = {
        "learning_rate": schedule,
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm or None,
    }
    if settings.name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=MOMENTUM, **common)
    else:
        optimizer = keras.optimizers.AdamW(**common)
    # Decay pulls weights towards 0; for shifts and scales that is no simplification.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer

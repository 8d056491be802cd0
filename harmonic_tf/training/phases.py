"""The phases of a training: what is trained from when on, and how one goes on from another."""

from __future__ import annotations

import dataclasses

from absl import logging

from harmonic_tf.models import JointDetector
from harmonic_tf.training.optimizers import build_optimizer
from harmonic_tf.training.settings import Experiment


@dataclasses.dataclass(frozen=True)
class Phase:
    """Epochs throughout which the same layers are trained.

    Args:
        freeze: what is not trained, one of `harmonic_tf.models.FREEZE_CHOICES`.
        begin: epochs before it.
        end: epochs up to and with it.
    """

    freeze: str
    begin: int
    end: int


def phases_left(experiment: Experiment, steps_per_epoch: int, step: int) -> list[Phase]:
    """What is left of a training. The last state of a phase is the one that the next begins from.

    Args:
        experiment: what is trained.
        steps_per_epoch: steps of one epoch.
        step: steps made so far.

    Returns:
        At least one phase.
    """
    border = experiment.unfreeze_after
    if border is None:
        return [Phase(experiment.freeze, 0, experiment.epochs)]
    unfrozen = Phase("none", border, experiment.epochs)
    if step > border * steps_per_epoch:
        return [unfrozen]
    return [Phase(experiment.freeze, 0, border), unfrozen]


def begin(model: JointDetector, phase: Phase, experiment: Experiment, steps_per_epoch: int) -> None:
    """Compiles a detector for a phase, in the strategy scope that it was built in.

    The optimizer is a new one, as it has other weights to move; the learning rate goes on where
    the phase begins. Counts of steps, loss scale and averages go on from the phase before, if the
    detector was compiled for one. The averages of weights that had been frozen begin with these,
    so that the averaged detector is the same before and after.

    Args:
        model: the detector, frozen as the phase wants it.
        phase: what begins.
        experiment: what is trained, and how.
        steps_per_epoch: steps of one epoch.
    """
    before = getattr(model, "weight_update", None)
    model.compile(
        optimizer=build_optimizer(
            experiment.optimizer,
            experiment.epochs,
            steps_per_epoch,
            steps_done=phase.begin * steps_per_epoch,
        ),
        loss=experiment.loss,
        jit_compile=experiment.jit_compile,
        accumulation_steps=experiment.accumulation_steps,
        average_decay=experiment.average_decay,
        backbone_learning_rate_factor=experiment.backbone_learning_rate_factor,
    )
    if before is not None:
        model.weight_update.go_on_from(before)
    if experiment.freeze != "none":
        trained = sum(variable.shape.num_elements() for variable in model.trainable_variables)
        logging.info(
            "From epoch %d on, %s numbers of %s are trained (--freeze=%s).",
            phase.begin + 1,
            f"{trained:,}",
            f"{model.count_params():,}",
            phase.freeze,
        )

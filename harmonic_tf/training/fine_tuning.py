"""Starts a detector from a trained one, also where it has other classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from harmonic_tf.backend import keras, name_of
from harmonic_tf.models import JointDetector
from harmonic_tf.training.settings import SettingsError


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What became of the weights of a trained detector.

    Args:
        path: the checkpoint.
        kept: how many weights were taken over.
        kept_parameters: how many numbers those hold.
        reinitialized: name, shape in the checkpoint and own shape of each weight that was not.
        reinitialized_parameters: how many numbers the detector's own of these hold.
    """

    path: str
    kept: int
    kept_parameters: int
    reinitialized: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]
    reinitialized_parameters: int

    def __str__(self) -> str:
        head = (
            f"Started from {self.path}: kept {self.kept} weights ({self.kept_parameters:,} numbers)"
        )
        if not self.reinitialized:
            return f"{head}, all there are; those of the classes too."
        names = "".join(
            f"\n  {name}: {old} in the checkpoint, {new} here"
            for name, old, new in self.reinitialized
        )
        return (
            f"{head}, initialized {len(self.reinitialized)} that depend on the number of classes "
            f"({self.reinitialized_parameters:,} numbers) anew:{names}"
        )


def start_from(model: JointDetector, path: str) -> Transfer:
    """Gives a detector the weights of a trained one.

    Where the number of classes differs, the weights whose shapes depend on it are left as they
    are: the last layer of the classification head, and in YOLOv8 its hidden ones where there are
    more classes than they have channels. To be called before `compile`, so that averages start
    from there too.

    Args:
        model: the detector to change.
        path: `.keras` checkpoint of a detector that differs in the number of classes at most.

    Returns:
        What was kept and what was not.

    Raises:
        SettingsError: when the file is no such checkpoint; then nothing was changed.
    """
    try:
        trained = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"--start_from={path} does not load as a detector: {error}. Name a .keras file that a "
            "training run left in its checkpoints folder."
        ) from error
    expected = _with_classes(trained, model.num_classes)
    if type(trained) is not type(model) or _shapes(expected) != _shapes(model):
        raise SettingsError(
            f"--start_from={path} holds another network ({_summary(trained)}) than is to be "
            f"trained ({_summary(model)}). Name the --model, --backbone and head of the "
            "checkpoint's run (its flags.cfg has them), or leave --start_from out."
        )
    pairs = list(zip(trained.weights, model.weights))
    differing = [(old, new) for old, new in pairs if old.shape != new.shape]
    kept = [(old, new) for old, new in pairs if old.shape == new.shape]
    for old, new in kept:
        new.assign(old.numpy())
    return Transfer(
        path,
        len(kept),
        _parameters(new for _, new in kept),
        [(name_of(new), tuple(old.shape), tuple(new.shape)) for old, new in differing],
        _parameters(new for _, new in differing),
    )


def _with_classes(model: JointDetector, num_classes: int) -> JointDetector:
    """The same network for another number of classes."""
    if model.num_classes == num_classes:
        return model
    return type(model).from_config({**model.get_config(), "num_classes": num_classes})


def _shapes(model: JointDetector) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in model.weights]


def _summary(model: JointDetector) -> str:
    numbers = _parameters(model.weights)
    return f"{type(model).__name__}, {len(model.weights)} weights, {numbers:,} numbers"


def _parameters(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)

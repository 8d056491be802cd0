"""Starts a detector from a trained one, also where it has other classes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from harmonic_tf.backend import name_of
from harmonic_tf.files import explained
from harmonic_tf.models import JointDetector, ModelFileError, load_detector
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import SettingsError


@dataclasses.dataclass(frozen=True)
class ClassMatch:
    """Which classes a trained detector and one that starts from it have in common, by name.

    Args:
        before: the trained detector's class names, by index.
        now: those of the other.
    """

    before: Sequence[str]
    now: Sequence[str]

    @property
    def kept(self) -> list[str]:
        """Classes that both know."""
        return [name for name in self.now if name in self.before]

    @property
    def new(self) -> list[str]:
        """Classes that the trained detector does not know."""
        return [name for name in self.now if name not in self.before]

    @property
    def left_out(self) -> list[str]:
        """Classes that the trained detector alone knows."""
        return [name for name in self.before if name not in self.now]

    def merged(self, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        """A weight of a last layer: the columns of kept classes as before, the others as now.

        Args:
            before: the trained detector's, [..., predictions per cell * classes], classes fastest.
            now: the other's, likewise.
        """
        by_class = now.reshape(*now.shape[:-1], -1, len(self.now)).copy()
        trained = before.reshape(*before.shape[:-1], -1, len(self.before))
        to = [self.now.index(name) for name in self.kept]
        by_class[..., to] = trained[..., [self.before.index(name) for name in self.kept]]
        return by_class.reshape(now.shape)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What became of the weights of a trained detector.

    Args:
        path: the checkpoint.
        kept: how many weights were taken over, all of them or the columns of kept classes.
        kept_parameters: how many numbers were.
        reinitialized: name, shape in the checkpoint and own shape of each weight that was not.
        reinitialized_parameters: how many numbers of the detector were not.
        classes: which classes were kept; None where the checkpoint's names are not known.
    """

    path: str
    kept: int
    kept_parameters: int
    reinitialized: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]
    reinitialized_parameters: int
    classes: ClassMatch | None

    def __str__(self) -> str:
        head = (
            f"Started from {self.path}: kept {self.kept} weights ({self.kept_parameters:,} numbers)"
        )
        if self.reinitialized_parameters:
            head += f", initialized {self.reinitialized_parameters:,} numbers of the classes anew."
        else:
            head += ", all there are; those of the classes too."
        weights = [
            f"{name}: {old} in the checkpoint, {new} here, initialized anew"
            for name, old, new in self.reinitialized
        ]
        return "\n  ".join([head, *weights, *self._lines_on_classes()])

    def _lines_on_classes(self) -> list[str]:
        """Which classes were kept, by name as far as names are known."""
        if self.classes is None:
            kept = "none is kept" if self.reinitialized else "each is kept as the one of its number"
            return [f"classes: the checkpoint has no classes.json that names them; {kept}"]
        lines = {
            "kept": self.classes.kept,
            "new": self.classes.new,
            "of the checkpoint, left out": self.classes.left_out,
        }
        return [f"classes {what}: {', '.join(names)}" for what, names in lines.items() if names]


def start_from(model: JointDetector, path: str, class_names: Sequence[str]) -> Transfer:
    """Gives a detector the weights of a trained one.

    Classes are told by their names, which a run keeps beside its checkpoints. Of those that both
    know, the columns of the last classification layers are taken over, wherever they stand; those
    of the others are left as they are. Of a checkpoint that stands alone, all classes are taken
    over in their order if they are as many, else none is.

    With more classes than YOLOv8's hidden classification layers have channels, the number of
    classes is their width: where it differs, these layers and all classes are left as they are.
    To be called before `compile`, so that averages start from there too.

    Args:
        model: the detector to change.
        path: `.keras` checkpoint of a detector that differs in its classes at most, or in whether
            its classifier compares cosines.
        class_names: of the detector, by index.

    Returns:
        What was kept and what was not.

    Raises:
        SettingsError: when the file is no such checkpoint; then nothing was changed.
    """
    try:
        trained = load_detector(path)
    except (OSError, ModelFileError) as error:
        raise SettingsError(
            f"--start_from={path} does not load as a detector. "
            f"{explained(error) if isinstance(error, OSError) else error}"
        ) from error
    expected = _with_classes(trained, model.num_classes)
    if type(trained) is not type(model) or _shapes(expected) != _shapes(model):
        raise SettingsError(
            f"--start_from={path} holds another network ({_summary(trained)}) than is to be "
            f"trained ({_summary(model)}). Name the --model, --backbone and head of the "
            "checkpoint's run (its flags.cfg has them), or leave --start_from out."
        )
    names = _class_names(path, trained.num_classes)
    columns = _weights_by_class(trained, model)
    classes = None
    if names is not None:
        # Of another width, the layers below give features that no column was learned from.
        classes = ClassMatch(names if columns else (), tuple(class_names))
    kept = kept_parameters = 0
    reinitialized = []
    for old, new in zip(trained.weights, model.weights):
        if classes is not None and id(new) in columns:
            new.assign(classes.merged(old.numpy(), new.numpy()))
            kept += bool(classes.kept)
            kept_parameters += _parameters([new]) * len(classes.kept) // len(classes.now)
        elif old.shape == new.shape:
            new.assign(old.numpy())
            kept += 1
            kept_parameters += _parameters([new])
        else:
            reinitialized.append((name_of(new), tuple(old.shape), tuple(new.shape)))
    anew = _parameters(model.weights) - kept_parameters
    return Transfer(path, kept, kept_parameters, reinitialized, anew, classes)


def _class_names(path: str, num_classes: int) -> tuple[str, ...] | None:
    """The class names of a run's checkpoint; None where there is no list of them.

    Raises:
        SettingsError: there is a list, and it is not this checkpoint's.
    """
    run = RunDirectory(os.path.dirname(os.path.dirname(os.path.abspath(path))))
    try:
        names = tuple(run.class_names())
    except FileNotFoundError:
        return None
    except SettingsError as error:
        raise SettingsError(
            f"{error} The checkpoint of --start_from may also stand in a folder without one."
        ) from error
    if len(names) != num_classes:
        raise SettingsError(
            f"{run.file('classes.json')} names {len(names)} classes, --start_from={path} has "
            f"{num_classes}. Name the checkpoint in its own run, or move it to a folder without a "
            "classes.json."
        )
    return names


def _weights_by_class(trained: JointDetector, model: JointDetector) -> set[int]:
    """The `id`s of the weights of `model` that have columns of classes for the same features."""
    return {
        id(weight)
        for before, now in zip(trained.class_layers(), model.class_layers())
        if before.kernel.shape[:-1] == now.kernel.shape[:-1]
        for weight in now.weights
    }


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

"""The state of a training run on disk: enough to go on after a kill as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

from absl import logging

from harmonic_tf.backend import keras, state_of, tf
from harmonic_tf.files import naming
from harmonic_tf.training.settings import SettingsError

_PREFIX = "step-"
_FILES = "state"
_UNFINISHED, _REMOVED = ".unfinished", ".removed"


class TrainingState:
    """Saves weights, optimizer, averages, loss scale and counters, and finds the newest again.

    Each state is a folder `step-N`, written under another name and moved into place when whole,
    and moved away before it is removed.
    On several hosts all have to save and restore together; the chief alone writes there, into a
    folder that all can read.

    Args:
        folder: where states are kept.
        model: a compiled detector of `harmonic_tf.models`.
        keep: how many states are kept, the newest.
        writes: whether this process writes into `folder`; False on all hosts but the chief.

    Attributes:
        best: float variable, the highest AP on the validation split so far; -1 before there is one.
        since_best: int64 variable, the measurements since then.
    """

    def __init__(self, folder: str, model: keras.Model, keep: int = 2, writes: bool = True):
        self.folder = folder
        self.keep = keep
        self.writes = writes
        self.best = tf.Variable(-1.0, trainable=False, name="best")
        self.since_best = tf.Variable(0, trainable=False, dtype=tf.int64, name="since_best")
        if writes:
            self._clear()
        self.follow(model)

    def follow(self, model: keras.Model) -> None:
        """Saves what a model is trained by from now on, after it was compiled anew.

        Args:
            model: the detector.
        """
        self._attempted = model.weight_update.attempted
        self._checkpoint = tf.train.Checkpoint(
            model=state_of(model),
            weight_update=model.weight_update,
            best=self.best,
            since_best=self.since_best,
        )

    @property
    def step(self) -> int:
        """Steps made so far, skipped ones included: the position in the data."""
        return int(self._attempted.numpy())

    def steps(self) -> list[int]:
        """The steps at which a state is on disk, oldest first."""
        return _steps(self.folder)

    def save(self) -> None:
        """Writes the state of now; then removes what is more than `keep`.

        Raises:
            OSError: the folder cannot be written to; older states are as they were.
        """
        if not self.writes:
            # Taking part is needed, as some variables are read from all replicas together.
            with tempfile.TemporaryDirectory() as unneeded:
                self._checkpoint.write(os.path.join(unneeded, _FILES))
            return
        step = self.step
        unfinished = os.path.join(self.folder, _UNFINISHED)
        try:
            with naming(self.folder, unfinished):
                os.makedirs(unfinished)
                self._checkpoint.write(os.path.join(unfinished, _FILES))
                self._move_away(step)  # of the same step: it was damaged
                os.rename(unfinished, self._path(step))
        except tf.errors.OpError as error:  # TensorFlow's word for an error of the file system
            cause = error.message.partition(" [Op:")[0].rpartition("; ")[2]
            raise OSError(
                f"{self.folder}: the state cannot be written ({cause}). Make room there, or move "
                "the run to another disk and go on with --resume."
            ) from error
        finally:
            self._clear()
        # Later ones were damaged, or training would have gone on from them.
        kept = [other for other in self.steps() if other <= step][-self.keep :]
        for other in set(self.steps()) - set(kept):
            self._move_away(other)
            self._clear()

    def restore(self, step: int | None = None) -> int:
        """Takes over a state.

        Args:
            step: that of a state which is whole; None looks for the newest such, and changes
                nothing where there is none.

        Returns:
            The step to go on from; 0 when there is no state.

        Raises:
            SettingsError: when a state does not fit the model: it is of another experiment.
        """
        step = newest_state(self.folder) if step is None else step
        if not step:
            return 0
        prefix = os.path.join(self._path(step), _FILES)
        try:
            self._checkpoint.read(prefix).assert_existing_objects_matched()
        except (AssertionError, ValueError) as error:
            raise SettingsError(
                f"{prefix}: the state does not fit this model, optimizer or averaging. Resume "
                f"with the flags of the run, or name another run_dir. ({error})"
            ) from error
        return step

    def _move_away(self, step: int) -> None:
        """Makes a state that may not be there no state any more, all at once."""
        with contextlib.suppress(OSError):
            os.rename(self._path(step), os.path.join(self.folder, _REMOVED))

    def _clear(self) -> None:
        """Removes what is no state, of a run that was killed too."""
        for name in (_UNFINISHED, _REMOVED):
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def _path(self, step: int) -> str:
        return _path(self.folder, step)


def newest_state(folder: str) -> int:
    """The step of the newest state that is whole; 0 when there is none.

    Args:
        folder: where a `TrainingState` keeps its states.
    """
    for step in reversed(_steps(folder)):
        prefix = os.path.join(_path(folder, step), _FILES)
        problem = damage(prefix)
        if problem is None:
            return step
        logging.warning("%s is damaged, an older state is tried: %s", prefix, problem)
    return 0


def damage(prefix: str) -> str | None:
    """What is wrong with a TensorFlow checkpoint, found by reading all of it.

    Args:
        prefix: the checkpoint's path without `.index`.

    Returns:
        The first problem; None when the checkpoint is whole.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return str(error)
    return None


def _steps(folder: str) -> list[int]:
    if not os.path.isdir(folder):
        return []
    return sorted(int(name[len(_PREFIX) :]) for name in os.listdir(folder) if _is_state(name))


def _path(folder: str, step: int) -> str:
    return os.path.join(folder, f"{_PREFIX}{step}")


def _is_state(name: str) -> bool:
    return name.startswith(_PREFIX) and name[len(_PREFIX) :].isdigit()

"""The folder that a training run leaves behind."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar

import harmonic_tf
from harmonic_tf.backend import keras
from harmonic_tf.data.checks import write_skipped
from harmonic_tf.data.example import Problem
from harmonic_tf.evaluation import Calibration, read_calibration, write_calibration
from harmonic_tf.files import make_writable, remove_left_behind, replacing, write_text
from harmonic_tf.shell import quoted
from harmonic_tf.training.settings import SettingsError

_Kind = TypeVar("_Kind")
_RUN_REMEDY = "Mend it, or name another run"


class RunDirectory:
    """Names and writes the files of a run; every write is atomic.

    Args:
        path: the folder.
    """

    def __init__(self, path: str):
        self.path = path

    def file(self, *names: str) -> str:
        """Path of a file in the run."""
        return os.path.join(self.path, *names)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return os.path.isfile(self._settings)

    @property
    def flags(self) -> str:
        """What the run was made with, readable by `--flagfile`."""
        return self.file("flags.cfg")

    @property
    def _settings(self) -> str:
        return self.file("experiment.json")

    @property
    def calibration_file(self) -> str:
        """What the scores of `best` are to be read as, where it is there."""
        return self.file("calibration.json")

    @property
    def step_times_file(self) -> str:
        """What the train steps of each epoch took, see `add_step_times`."""
        return self.file("step_times.json")

    @property
    def metrics_file(self) -> str:
        """What `best` comes to; its presence says that the run is finished."""
        return self.file("metrics.json")

    def evaluation(self, split: str) -> str:
        """Folder of what `best` comes to on a split beside the one that the run reports."""
        return self.file("evaluation", split)

    @property
    def logs(self) -> str:
        """TensorBoard's folder."""
        return self.file("logs")

    def checkpoint(self, name: str) -> str:
        """Path of the checkpoint `"last"` or `"best"`."""
        return self.file("checkpoints", f"{name}.keras")

    @property
    def states(self) -> str:
        """Folder of the states that training can be resumed from."""
        return self.file("checkpoints", "states")

    def create(self, overwrite: bool = False, resume: bool = False) -> None:
        """Makes the folder, or makes sure that it can be used.

        Args:
            overwrite: whether files of an earlier run there may be replaced.
            resume: whether the run there is to go on; then nothing of it is removed.

        Raises:
            FileExistsError: when it holds a run and `overwrite` is off.
            OSError: when it cannot be made or written to.
        """
        if self.exists and not overwrite and not resume:
            raise FileExistsError(
                f"{self.path}: run_dir already holds a run. Name another folder, or give "
                "--resume to go on with it or --overwrite to replace it."
            )
        for folder in (self.path, self.file("checkpoints")):
            make_writable(folder, "run_dir")
            remove_left_behind(folder)
        if not resume:
            # TensorBoard would draw both runs as one; the rest would be taken for the new run's.
            for folder in (self.logs, self.states):
                shutil.rmtree(folder, ignore_errors=True)
            self.write_calibration(None)
            for file in (self.step_times_file, self.metrics_file):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(file)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, whole or not at all."""
        write_text(self.file(name), text)

    def read_text(self, name: str) -> str:
        """Reads a text file."""
        with open(self.file(name), encoding="utf-8") as file:
            return file.read()

    def read_json(self, name: str, kind: type[_Kind]) -> _Kind:
        """Reads a file of JSON.

        Args:
            name: of the file.
            kind: `dict` or `list`, what it holds.

        Raises:
            OSError: it cannot be read.
            SettingsError: it is not JSON, or holds something else.
        """
        try:
            content = json.loads(self.read_text(name))
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"{self.file(name)} is not JSON ({error}). {_RUN_REMEDY}."
            ) from error
        if not isinstance(content, kind):
            problem = f"holds a {type(content).__name__}, not a {kind.__name__}"
            raise SettingsError(f"{self.file(name)}: {problem}. {_RUN_REMEDY}.")
        return content

    def write_version(self, precision: str) -> None:
        """Records what the run was made with.

        Args:
            precision: the precision policy in force.
        """
        versions = {
            "harmonic_tf": harmonic_tf.__version__,
            **{name: metadata.version(name) for name in ("tensorflow", "keras", "keras-cv")},
            "python": platform.python_version(),
            "machine": platform.machine(),
            "precision": precision,
        }
        self.write_text("version.json", json.dumps(versions, indent=2) + "\n")

    def write_settings(self, settings: Mapping[str, Any], flagfile: str) -> None:
        """Records what the run was made with: from now on the folder holds a run.

        Args:
            settings: texts, numbers, booleans and lists, by name of the flag.
            flagfile: the same as the text of a flag file, for people.
        """
        write_text(self.flags, flagfile)
        write_text(self._settings, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")

    def settings(self) -> dict[str, Any]:
        """What the run was made with, by name of the flag.

        Raises:
            FileNotFoundError: there is no run in this folder.
            SettingsError: its file is damaged.
        """
        if not self.exists:
            raise FileNotFoundError(
                f"{self._settings}: no such file, so {self.path} is no training run. Give the "
                "--run_dir of a run that `train` has made."
            )
        settings = self.read_json("experiment.json", dict)
        for name, value in settings.items():
            texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
            if not (texts or isinstance(value, (str, int, float))):
                problem = f"{name} = {value!r:.60} is no flag's value"
                raise SettingsError(f"{self._settings}: {problem}. {_RUN_REMEDY}.")
        return settings

    def write_class_names(self, class_names: Sequence[str]) -> None:
        """Records the class of each index."""
        self.write_text("classes.json", json.dumps(list(class_names), ensure_ascii=False) + "\n")

    def write_skipped(self, problems: Iterable[Problem]) -> None:
        """Lists what was left out of the data."""
        write_skipped(self.file("skipped.csv"), problems)

    def add_step_times(self, epoch: int, steps: int, seconds: float, cpu_seconds: float) -> None:
        """Records what train steps took.

        Args:
            epoch: of the steps, from 1.
            steps: how many of them were timed.
            seconds: what these took by the clock, all together.
            cpu_seconds: what they took of all processors.
        """
        times = self.step_times()
        times.append(
            {"epoch": epoch, "steps": steps, "seconds": seconds, "cpu_seconds": cpu_seconds}
        )
        write_text(self.step_times_file, json.dumps(times, indent=2) + "\n")

    def step_times(self) -> list[dict[str, float]]:
        """What `add_step_times` has recorded, an entry an epoch; none where nothing is known.

        Raises:
            SettingsError: the file is damaged.
        """
        if not os.path.isfile(self.step_times_file):
            return []
        times = self.read_json("step_times.json", list)
        fields = ("epoch", "steps", "seconds", "cpu_seconds")
        for entry in times:
            numbers = [entry.get(field) for field in fields] if isinstance(entry, dict) else [None]
            if not all(isinstance(n, (int, float)) and 0 <= n < math.inf for n in numbers):
                problem = f"{entry!r:.60} is not {', '.join(fields)}"
                raise SettingsError(f"{self.step_times_file}: {problem}. {_RUN_REMEDY}.")
        return times

    def class_names(self) -> list[str]:
        """The class of each index.

        Raises:
            OSError: the run has no list of them.
            SettingsError: the list is damaged.
        """
        names = self.read_json("classes.json", list)
        for name in names:
            if not isinstance(name, str):
                problem = f"{name!r:.60} is no name of a class"
                raise SettingsError(f"{self.file('classes.json')}: {problem}. {_RUN_REMEDY}.")
        return names

    def write_calibration(self, calibration: Calibration | None) -> None:
        """Records what the scores of `best` are to be read as; None removes what there is."""
        if calibration is not None:
            write_calibration(self.calibration_file, calibration)
            return
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.calibration_file)

    def calibration(self) -> Calibration | None:
        """What the scores of `best` are to be read as; None where they stay as they are.

        Raises:
            CalibrationError: the file is damaged, or of another detector.
        """
        if not os.path.isfile(self.calibration_file):
            return None
        return read_calibration(self.calibration_file, self.class_names())

    def save_model(self, model: keras.Model, name: str) -> None:
        """Saves a model as the checkpoint `name`."""
        with replacing(self.checkpoint(name)) as temporary:
            model.save(temporary)

    def copy_checkpoint(self, source: str, target: str) -> None:
        """Makes one checkpoint a copy of another."""
        with replacing(self.checkpoint(target)) as temporary:
            shutil.copyfile(self.checkpoint(source), temporary)

    def describe(self) -> Mapping[str, str]:
        """What lies where, for a person who looks at the run."""
        return {
            "report": self.file("report.md"),
            "pictures": self.file("detections.png"),
            "numbers": self.metrics_file,
            "skipped": self.file("skipped.csv"),
            "checkpoint": self.checkpoint("best"),
            "curves": f"tensorboard --logdir {quoted(self.logs)}",
        }

"""The data of an experiment: read and checked, images included, before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from absl import logging

from harmonic_tf.data import checks, sources
from harmonic_tf.data.example import DetectionData, Problem
from harmonic_tf.data.images.checking import check_pictures
from harmonic_tf.data.scenes import rendering
from harmonic_tf.data.shots import draw_shots
from harmonic_tf.data.splits import Parts, check_choice
from harmonic_tf.data.unused import check_something_to_learn, takes_no_part
from harmonic_tf.training.settings import DataSettings, SceneSettings


@dataclasses.dataclass(frozen=True)
class Splits:
    """The parts of a data set that a run needs; `val` is None where nothing is chosen by it."""

    train: DetectionData
    val: DetectionData | None
    test: DetectionData

    @property
    def skipped(self) -> list[Problem]:
        """What was left out of any of them."""
        splits = (split for split in (self.train, self.val, self.test) if split is not None)
        return [problem for split in splits for problem in split.skipped]


def render_scenes(dataset: str, settings: SceneSettings) -> None:
    """Renders the splits of a `scenes:PATH` data set that are not there yet.

    Args:
        dataset: as `sources.load` takes it; what is no `scenes:PATH` is left alone.
        settings: pictures per split, size and seed.

    Raises:
        DataError: when the folder holds scenes of other settings or cannot be written.
    """
    for part in sources.parts(dataset):
        kind, _, path = part.partition(":")
        if kind != "scenes":
            continue
        for offset, (split, count) in enumerate(settings.counts.items()):
            size = (settings.size, settings.size)
            rendering.render(f"{path}/{split}", count, settings.seed + offset, size)


class Loader:
    """Reads and checks parts of an experiment's data, pictures included.

    Args:
        settings: what to read.

    Raises:
        DataError: the kind of the data cannot be told, or splits contradict fractions.
    """

    def __init__(self, settings: DataSettings):
        self._settings = settings
        self._parts = Parts(settings.dataset, settings.on_bad_example, settings.cut)

    def load(self, split: str, class_names: Sequence[str] | None) -> DetectionData:
        """Reads and checks one part.

        Args:
            split: a split, or what is cut off.
            class_names: index by name; None takes the classes that the data names.

        Returns:
            The part, with what was skipped listed in it.

        Raises:
            DataError: for the first thing that is wrong, unless skipping is asked for; or for more
                that is wrong than may be skipped.
        """
        settings = self._settings
        data = self._parts.load(split, class_names)
        data = check_pictures(
            data, settings.on_bad_example, settings.max_pixels, settings.on_truncated
        )
        checks.check_bad_fraction(data, settings.max_bad_fraction)
        _log(data)
        _log_skipped(data)
        return data


def _log(data: DetectionData) -> None:
    """Says what there is."""
    objects = sum(len(annotation.boxes) for annotation in data.annotations)
    logging.info(
        "%s: %d pictures, %d objects, %d classes, %d bad examples skipped.",
        data.name,
        len(data.annotations),
        objects,
        len(data.class_names),
        len(data.skipped),
    )
    for note, count in (*data.notes.items(), *takes_no_part(data).items()):
        logging.info("%s: %d x %s.", data.name, count, note)


def _log_skipped(data: DetectionData) -> None:
    """Says what was left out because it was bad."""
    for cause, count in checks.count_by_cause(data.skipped).items():
        first = next(problem for problem in data.skipped if problem.problem == cause)
        logging.warning("Skipped %d: %s. The first: %s", count, cause, first)


def load_split(
    settings: DataSettings, split: str, class_names: Sequence[str] | None
) -> DetectionData:
    """Reads and checks one part; see `Loader`."""
    return Loader(settings).load(split, class_names)


def load_splits(settings: DataSettings) -> Splits:
    """Reads and checks everything a run needs, before anything is trained.

    Args:
        settings: what to read.

    Returns:
        The splits; all have the classes of the first.

    Raises:
        DataError: for the first thing that is wrong, unless skipping is asked for; or there is
            nothing to learn from.
    """
    render_scenes(settings.dataset, settings.scenes)
    loader = Loader(settings)
    check_choice(
        settings.dataset,
        settings.train_split,
        settings.val_split,
        settings.test_split,
        settings.cut,
    )
    train = loader.load(settings.train_split, settings.class_names)
    check_something_to_learn(train)
    names = train.class_names
    if settings.shots is not None:
        train = draw_shots(train, settings.shots, settings.shots_seed)
        _log(train)
    val = loader.load(settings.val_part, names) if settings.val_part else None
    return Splits(train, val, loader.load(settings.test_split, names))

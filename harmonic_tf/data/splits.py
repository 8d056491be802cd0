"""Which splits a data set has, and its parts: its own splits, or what one of them is cut into."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from absl import logging

from harmonic_tf.data import checks, sources
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.partition import TRAIN, Cut, divide
from harmonic_tf.data.recognition import found_kinds

_USUAL_ORDER = ("train", "trainval", "val", "valid", "validation", "test")
_COMPOSED = re.compile(r"[+\[\]]")  # `2007_train+2007_val`, `train[:10%]`: for the reader to say
_NO_CUT = Cut()
_VAL_SHARE, _TEST_SHARE = 0.1, 0.2
"""Of a training split, for what the data set lacks."""


def find_splits(spec: str, cut: Cut = _NO_CUT) -> list[str]:
    """Names the splits of a data set, as `Parts` reads them.

    Args:
        spec: as `sources.load` takes it; of several that are joined, the splits that all have.
        cut: how one of them is cut, if it is: its parts are named in its place.

    Returns:
        At least one name, `train`, `val` and `test` first. They may share pictures: VOC's
        `trainval` is `train` and `val`.

    Raises:
        DataError: the spec cannot be read, or no split is found.
    """
    parts = sources.parts(spec)
    per_source = [sources.splits_of(part) for part in parts]
    common = {n for n in per_source[0] if all(_has(n, names) for names in per_source)}
    if cut.fractions:
        whole = {name for _, name in sources.with_splits(spec, whole_split(spec, cut.train_split))}
        common = {TRAIN, *cut.fractions} | (common - whole)
    if not common:
        found = "; ".join(", ".join(names) or "none" for names in per_source)
        remedy = "Check the path, name a split"
        for part, names in zip(parts, per_source):
            path = part.partition(":")[2]
            kinds = "" if names else " and ".join(found_kinds(path))
            remedy += f"; {path} is read as {kinds}" if kinds else ""
        checks.refuse(spec, "splits", found, "no split is found", remedy)
    return _in_order(common)


def described(spec: str) -> list[str]:
    """A line on each data set whose kind is not named but found: what it is, and its splits.

    Args:
        spec: as `sources.load` takes it.

    Raises:
        DataError: the kind of a path cannot be told.
    """
    lines = []
    for part in sources.parts(spec):
        if not sources.is_named(part):
            kind = sources.identified(part).partition(":")[0]
            names = ", ".join(_in_order(sources.splits_of(part)))
            lines.append(f"{part}: read as {kind}, splits {names}")
    return lines


def whole_split(spec: str, train_split: str) -> str:
    """Names the split that a cut divides: that to train on, or all of a data set without splits.

    Args:
        spec: as `sources.load` takes it.
        train_split: as `sources.load` takes one.
    """
    names = []
    for part, name in sources.with_splits(spec, train_split):
        own = sources.splits_of(part)
        whole = own == [sources.ALL] or sources.takes_any_split(part)
        names.append(own[0] if whole and own else name)
    return ",".join(names)


def check_choice(
    spec: str, train_split: str, val_split: str | None, test_split: str, cut: Cut
) -> None:
    """Makes sure that a run's splits are there, or cut.

    Args:
        spec: as `sources.load` takes it.
        train_split: to train on.
        val_split: to choose by, or None.
        test_split: to measure on.
        cut: how the first is cut, if it is.

    Raises:
        DataError: one is missing; says which flags to give.
    """
    roles = {"train_split": train_split, "val_split": val_split, "test_split": test_split}
    for role, split in roles.items():
        if not split or (role == "test_split" and cut.test_fraction):
            continue
        for part, name in sources.with_splits(spec, split):
            own = sources.splits_of(part)
            same = sources.takes_any_split(part) and split == train_split
            whole = role == "train_split" and own == [sources.ALL] and cut.fractions
            if own and not (_has(name, own) or same or whole or _COMPOSED.search(name)):
                _refuse_missing(part, role, name, own)


def with_missing_cut(spec: str, val_split: str | None, cut: Cut) -> Cut:
    """Has what a data set lacks of its splits cut off the one to train on, and says so.

    Args:
        spec: as `sources.load` takes it.
        val_split: split to choose by, or None.
        cut: names the other splits; fractions that it has stay.

    Returns:
        The cut, with fractions for what is not there.

    Raises:
        DataError: the kind of a path cannot be told.
    """
    missing = {}
    if val_split and not _is_there(spec, val_split):
        missing["val_fraction"] = _VAL_SHARE
    if not cut.test_fraction and not _is_there(spec, cut.test_split):
        missing["test_fraction"] = _TEST_SHARE
    for name, share in missing.items():
        logging.info("%s has no such split: --%s=%g.", spec, name, share)
    return dataclasses.replace(cut, **missing)


def _is_there(spec: str, split: str) -> bool:
    """Whether every source has a split of that name, as far as it says which it has."""
    for part, name in sources.with_splits(spec, split):
        own = sources.splits_of(part)
        if own and (not _has(name, own) or sources.takes_any_split(part)):
            return False
    return True


def _refuse_missing(part: str, role: str, name: str, own: Sequence[str]) -> None:
    """Says what to do where a split is not there."""
    cut = {
        "train_split": "--val_fraction=0.1 --test_fraction=0.2",
        "val_split": "--val_split= --val_fraction=0.1",
        "test_split": "--test_fraction=0.2",
    }[role]
    if own == [sources.ALL] or sources.takes_any_split(part):
        problem, remedy = "the data set has no splits", "Let it be cut"
        cut = "--val_fraction=0.1 --test_fraction=0.2"
    else:
        problem = f"no such split; there are {', '.join(_in_order(own))}"
        remedy = f"Name one with --{role}, or let a part of the training split be cut off"
    more = "; --split_by=REGEX keeps frames of one video together"
    checks.refuse(part, role, name, problem, f"{remedy}: {cut}{more}")


def _check_not_there(spec: str, test_split: str) -> None:
    """Makes sure that what is to be cut off has not the name of a split."""
    for part, name in sources.with_splits(spec, test_split):
        if _has(name, sources.splits_of(part)) and not sources.takes_any_split(part):
            remedy = "Leave out --test_fraction, or name another --test_split"
            checks.refuse(part, "test_split", name, "is there, and is to be cut off too", remedy)


def _has(split: str, splits: Sequence[str]) -> bool:
    return sources.own_name(split, splits) in splits


def _in_order(splits: Sequence[str]) -> list[str]:
    return sorted(set(splits), key=_usual_place)


def _usual_place(split: str) -> tuple[str, int, str]:
    year, _, name = split.rpartition("_")  # 2007_train
    place = _USUAL_ORDER.index(name) if name in _USUAL_ORDER else len(_USUAL_ORDER)
    return year, place, split


class Parts:
    """Reads the parts of a data set; a split that is cut is read once.

    Args:
        spec: as `sources.load` takes it; what is found of a path without a kind is logged.
        on_bad_example: see `sources.load`.
        cut: how one of its splits is cut, if it is.

    Raises:
        DataError: the kind of a path cannot be told, or `test` is to be cut though it is there.
    """

    def __init__(self, spec: str, on_bad_example: str = "error", cut: Cut = _NO_CUT):
        for line in described(spec):
            logging.info("%s.", line)
        self._spec = sources.identified(spec)
        self._on_bad_example = on_bad_example
        self._cut = cut
        if cut.test_fraction:
            _check_not_there(self._spec, cut.test_split)
        self._divided: dict[tuple[str, ...] | None, Mapping[str, DetectionData]] = {}

    def load(self, split: str, class_names: Sequence[str] | None = None) -> DetectionData:
        """Reads one part.

        Args:
            split: `train`, `val` or `test` where that is cut, else as `sources.load` takes it.
            class_names: see `sources.load`.

        Raises:
            DataError: see `sources.load` and `divide`.
        """
        part = self._cut.part(split)
        if part is None:
            return sources.load(self._spec, split, class_names, self._on_bad_example)
        names = None if class_names is None else tuple(class_names)
        if names not in self._divided:
            whole = whole_split(self._spec, self._cut.train_split)
            data = sources.load(self._spec, whole, class_names, self._on_bad_example)
            parts = divide(data, self._cut)
            self._divided[names] = self._divided[tuple(data.class_names)] = parts
        return self._divided[names][part]

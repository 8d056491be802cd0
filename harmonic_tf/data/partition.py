"""Divides pictures that come without splits, at random; what belongs together stays together."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Hashable, Mapping, Sequence

from absl import logging

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.data.inspection.files import picture_digests

TRAIN, VAL, TEST = "train", "val", "test"
"""The parts that a split is cut into."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a split is cut into parts, where it is.

    Args:
        train_split: the split; `train` names what is left of it, too.
        val_fraction: share of its pictures that `val` gets, in [0, 1).
        test_fraction: share that `test` gets, in [0, 1).
        test_split: another name for `test`.
        by: a regular expression. Pictures in whose names its first group, or else all of it,
            finds the same stay together. None takes every picture for itself.
        seed: of the draw.
    """

    train_split: str = TRAIN
    val_fraction: float = 0.0
    test_fraction: float = 0.0
    test_split: str = TEST
    by: str | None = None
    seed: int = 0

    @property
    def fractions(self) -> dict[str, float]:
        """The share of each part but `train`; nothing where nothing is cut."""
        shares = {TEST: self.test_fraction, VAL: self.val_fraction}
        return {part: share for part, share in shares.items() if share}

    def part(self, split: str) -> str | None:
        """The part that a name stands for, None where it is that of a split of its own."""
        fractions = self.fractions
        names = {VAL: VAL, TEST: TEST, self.test_split: TEST}
        if fractions and split in (TRAIN, self.train_split):
            return TRAIN
        return names[split] if names.get(split) in fractions else None


def divide(data: DetectionData, cut: Cut) -> dict[str, DetectionData]:
    """Divides a split.

    Pictures of equal bytes, and those that `by` puts together, are a group, and no group is cut.
    The groups are drawn in an order that hangs on the seed and their pictures' bytes alone, not on
    names of folders or the order of files; each goes to `test`, else to `val`, if that part comes
    closer to its share by it, else to `train`. (Were the largest dealt out first, they would all
    be trained on; were each group's part a matter of its hash, small data would miss the shares by
    far.) So a part misses its share by half of the largest group at most.

    Args:
        data: the split; pictures that cannot be read are groups of their own.
        cut: how.

    Returns:
        `train` and the parts of the cut, pictures in their order. `train` has the problems and
        notes of the reading.

    Raises:
        DataError: `by` is no regular expression or fits no picture's name, or the groups are too
            few for all parts.
    """
    names = picture_names(data.annotations)
    found = _found_by(cut.by, names, data.name) if cut.by else [None] * len(names)
    keys = picture_keys(names, picture_digests(data.annotations))
    groups = join([keys, found])
    parts = assign(groups, keys, cut.fractions, cut.seed)
    taken = collections.Counter(parts)
    for part in (TRAIN, *cut.fractions):
        if not taken[part]:
            value = f"{len(parts)} pictures in {len(set(groups))} groups"
            problem = f"leaves no picture for {part}"
            remedy = "Change val_fraction and test_fraction, or split_by, or add pictures"
            checks.refuse(data.name, "cut", value, problem, remedy)
    sizes = ", ".join(f"{part} {taken[part]}" for part in (TRAIN, VAL, TEST) if taken[part])
    logging.info("%s: cut into %s (%d groups).", data.name, sizes, len(set(groups)))
    alone = found.count(None) if cut.by else 0
    note = {f"the name of a picture does not fit split_by={cut.by}: it stands alone": alone}
    return {
        part: dataclasses.replace(
            data,
            name=f"{data.name}/{part}",
            annotations=[a for a, its_part in zip(data.annotations, parts) if its_part == part],
            skipped=data.skipped if part == TRAIN else (),
            notes={**data.notes, **(note if alone else {})} if part == TRAIN else {},
        )
        for part in (TRAIN, *cut.fractions)
    }


def picture_names(annotations: Sequence[Annotation]) -> list[str]:
    """What to call pictures: their paths below the folder of all; in a record, their ids."""
    folders = [os.path.dirname(os.path.abspath(a.image_path)) for a in annotations]
    folder = os.path.commonpath(folders) if folders else ""
    return [
        os.path.relpath(a.image_path, folder).replace(os.sep, "/")
        if a.record_offset is None
        else str(a.image_id)
        for a in annotations
    ]


def picture_keys(names: Sequence[str], digests: Sequence[bytes | None]) -> list[bytes]:
    """What tells pictures apart: their bytes, or their names where those cannot be read."""
    return [
        hashlib.sha256(name.encode()).digest() if digest is None else digest
        for name, digest in zip(names, digests)
    ]


def _found_by(by: str, names: Sequence[str], file: str) -> list[str | None]:
    """What the expression finds in each name, None where it does not fit."""
    try:
        pattern = re.compile(by)
    except re.error as error:
        remedy = "Write one, such as (.+)_[0-9]+"
        checks.refuse(file, "split_by", by, f"is no regular expression ({error})", remedy)
    matches = [pattern.search(name) for name in names]
    if not any(matches):
        problem = f"fits no picture's name, such as {', '.join(names[:3])}"
        checks.refuse(file, "split_by", by, problem, "Correct the expression")
    return [match and (match[1] if pattern.groups else match[0]) for match in matches]


def join(columns: Sequence[Sequence[Hashable]]) -> list[int]:
    """Groups what is alike in any column, or by way of others: a number of its group for each.

    Args:
        columns: of equal length; None is alike to nothing.
    """
    parent = list(range(len(columns[0])))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for column in columns:
        first: dict[Hashable, int] = {}
        for index, value in enumerate(column):
            if value is not None:
                parent[root(index)] = root(first.setdefault(value, index))
    return [root(index) for index in range(len(parent))]


def assign(
    groups: Sequence[int], keys: Sequence[bytes], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """The part of each picture; see `divide`.

    Args:
        groups: the number of each picture's group.
        keys: what tells pictures apart.
        fractions: share of the pictures by part, their sum below 1.
        seed: of the draw.
    """
    sizes = collections.Counter(groups)
    names: dict[int, bytes] = {}
    for group, key in zip(groups, keys):
        names[group] = min(key, names.get(group, key))
    drawn = sorted(names, key=lambda g: hashlib.sha256(b"%d " % seed + names[g]).digest())
    missing = {part: share * len(groups) for part, share in fractions.items()}
    part_of = dict.fromkeys(names, TRAIN)
    for part in fractions:
        for group in drawn:
            if part_of[group] == TRAIN and sizes[group] < 2 * missing[part]:
                part_of[group] = part
                missing[part] -= sizes[group]
    return [part_of[group] for group in groups]

"""Finds data sets by kind and path, and joins them."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.data.kinds import KINDS, Kind
from harmonic_tf.data.recognition import recognize

_KIND = "[a-z_]{2,}"  # a single letter is a drive of Windows
_NEXT_PART = re.compile(f",(?={_KIND}:)")
ALL = "all"
"""The split of a data set that has no splits of its own."""

_VALIDATION = ("val", "valid", "validation")  # one split, as different tools call it


def load(
    spec: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
) -> DetectionData:
    """Reads the annotations of one split of a data set, or of several together, and checks them.

    Args:
        spec: `KIND:PATH`, see `KINDS` and the reader of each; or a path alone, whose kind is found
            out. Several are joined by commas: `coco:A,voc:B`, see `parts`. If two of their pictures
            have the same id, all ids get the number of their part, from 1 on: `"1/7"`.
        split: which part of the data set; for joined ones, one for all of them, or one for each,
            separated by commas. `val`, `valid` and `validation` are one name where only one of
            them is there.
        class_names: index by name; by default the classes that the data names, those of joined
            ones by name in the order in which they first appear.
        on_bad_example: "error" raises the first problem; "skip" leaves out the smallest bad part,
            a box or a picture, and lists it in `skipped`.

    Returns:
        The split. Whether its pictures decode is for `check_pictures` to find out.

    Raises:
        DataError: something is wrong with the spec or the data; see `Problem`.
    """
    return _joined(
        [
            _load_one(one, its_split, class_names, on_bad_example)
            for one, its_split in with_splits(spec, split)
        ]
    )


def with_splits(spec: str, split: str) -> list[tuple[str, str]]:
    """Each of the joined data sets with its split; see `load`.

    Raises:
        DataError: there are neither one split nor one for each.
    """
    specs = parts(spec)
    splits = split.split(",") if len(specs) > 1 else [split]
    if len(splits) == 1:
        splits *= len(specs)
    if len(splits) != len(specs):
        problem, remedy = "is not one split for each data set", f"Name 1 or {len(specs)} splits"
        checks.refuse(spec, "split", split, problem, remedy)
    return list(zip(specs, splits))


def absolute(spec: str) -> str:
    """The same data set, named so that it is found from any folder.

    Args:
        spec: as `load` takes it.
    """
    whole = []
    for part in parts(spec):
        name, path = _divided(part)
        if not name or (name in KINDS and KINDS[name].is_path):
            path = os.path.abspath(os.path.expanduser(path))
        whole.append(f"{name}:{path}" if name else path)
    return ",".join(whole)


def identified(spec: str) -> str:
    """The same data set, with the kind of every part named.

    Args:
        spec: as `load` takes it.

    Raises:
        DataError: a path is of no kind or of several; see `recognize`.
    """
    found = (_kind_and_path(part) for part in parts(spec))
    return ",".join(f"{name}:{path}" for name, _, path in found)


def parts(spec: str) -> list[str]:
    """The data sets, each a path or `KIND:PATH`, that a spec joins.

    A comma joins where a kind stands behind it. Otherwise it may be part of a path: it joins where
    what stands before it exists, and would not with it and what follows.
    """
    return [part for group in _NEXT_PART.split(spec) for part in _paths(group)]


def _paths(group: str) -> Iterator[str]:
    """The parts of what stands before the next kind."""
    name, path = _divided(group)
    if name and not (name in KINDS and KINDS[name].is_path):
        yield group
        return
    prefix, pieces = f"{name}:" if name else "", path.split(",")
    while pieces:
        joined = (",".join(pieces[:end]) for end in range(len(pieces), 0, -1))
        first = next((p for p in joined if _exists(p)), ",".join(pieces))
        yield prefix + first
        prefix, pieces = "", pieces[first.count(",") + 1 :]


def is_named(part: str) -> bool:
    """Whether one of the data sets that a spec joins names its kind."""
    return bool(_divided(part)[0])


def _divided(part: str) -> tuple[str, str]:
    """Kind and path; no kind where the path stands alone."""
    name, colon, path = part.partition(":")
    if not colon or not re.fullmatch(_KIND, name) or (name not in KINDS and _exists(part)):
        return "", part
    return name, path


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))


def _load_one(
    spec: str, split: str, class_names: Sequence[str] | None, on_bad_example: str
) -> DetectionData:
    """Reads one data set."""
    name, kind, path = _kind_and_path(spec)
    if kind.on_disk and not os.path.exists(path):
        checks.refuse(path, "PATH", spec, "is missing", "Check the path")
    label = os.path.basename(os.path.abspath(path)) if kind.is_path else path
    if split in _VALIDATION:
        own = own_name(split, kind.splits(path))
        if own != split:
            logging.info("%s: the split %s is called %s there.", path, split, own)
        split = own
    return kind.read(path, split, class_names, on_bad_example, f"{name}:{label}/{split}")


def own_name(split: str, splits: Sequence[str]) -> str:
    """What a data set calls a split: `val`, `valid` and `validation` are one where one is there.

    Args:
        split: as it is asked for.
        splits: those of the data set.
    """
    others = set(_VALIDATION).intersection(splits)
    return others.pop() if split in _VALIDATION and len(others) == 1 else split


def splits_of(spec: str) -> list[str]:
    """The splits of one data set, in no order; none where none is found.

    Raises:
        DataError: the spec cannot be read.
    """
    _, kind, path = _kind_and_path(spec)
    return kind.splits(path)


def takes_any_split(spec: str) -> bool:
    """Whether one data set is read whole whatever its split is called: a COCO file, a pattern."""
    name, kind, path = _kind_and_path(spec)
    return (name == "coco" and os.path.isfile(path)) or (
        name == "tfrecord" and not os.path.isdir(path) and kind.splits(path) == [ALL]
    )


def _kind_and_path(part: str) -> tuple[str, Kind, str]:
    """The kind of one data set by name, and its path as the readers take it."""
    name, path = _divided(part)
    if not name and path and (path not in KINDS or _exists(path)):
        name = recognize(os.path.expanduser(path))
    if name not in KINDS or not path:
        remedy = f"Write a path, or KIND:PATH, where KIND is one of {', '.join(KINDS)}"
        checks.refuse("data set", "KIND:PATH", part, "no such kind", remedy)
    kind = KINDS[name]
    return name, kind, os.path.expanduser(path) if kind.is_path else path


def _joined(data: Sequence[DetectionData]) -> DetectionData:
    """Several data sets as one, classes by name."""
    if len(data) == 1:
        return data[0]
    class_names = tuple(dict.fromkeys(name for part in data for name in part.class_names))
    ids = collections.Counter(a.image_id for part in data for a in part.annotations)
    clash = max(ids.values()) > 1

    def annotations() -> Iterator[Annotation]:
        for number, part in enumerate(data, start=1):
            indices = np.array([class_names.index(name) for name in part.class_names], np.int32)
            for a in part.annotations:
                image_id = f"{number}/{a.image_id}" if clash else a.image_id
                yield dataclasses.replace(a, image_id=image_id, classes=indices[a.classes])

    return DetectionData(
        name=",".join(part.name for part in data),
        class_names=class_names,
        annotations=list(annotations()),
        skipped=[problem for part in data for problem in part.skipped],
        notes=sum((collections.Counter(part.notes) for part in data), collections.Counter()),
    )

"""Finds data sets by kind and path, and joins them."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.data.readers.coco import load_coco, splits_by_folder, splits_of_coco
from harmonic_tf.data.readers.scenes import read_scenes
from harmonic_tf.data.readers.tfds import read_tfds, splits_of_tfds
from harmonic_tf.data.readers.tfrecord import read_tfrecord, splits_of_tfrecord
from harmonic_tf.data.readers.voc import read_voc, splits_of_voc
from harmonic_tf.data.readers.yolo import read_yolo, splits_of_yolo

_NEXT_PART = re.compile(r",(?=[a-z]+:)")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A format that data sets come in.

    Args:
        read: from path, split, class names, `on_bad_example` and a name to the data.
        splits: from the path to the names of the splits, in any order.
        help: what stands behind the colon, for people.
        on_disk: whether that has to exist.
        is_path: whether it is a path.
    """

    read: Callable[[str, str, Sequence[str] | None, str, str], DetectionData]
    splits: Callable[[str], list[str]]
    help: str
    on_disk: bool = True
    is_path: bool = True


KINDS = {
    "coco": Kind(load_coco, splits_of_coco, "a folder of COCO JSON files and images"),
    "voc": Kind(read_voc, splits_of_voc, "a Pascal VOC folder or a VOCdevkit"),
    "yolo": Kind(read_yolo, splits_of_yolo, "a folder with a data.yaml, or such a file"),
    "tfrecord": Kind(
        read_tfrecord, splits_of_tfrecord, "a folder of TFRecord files or a glob", on_disk=False
    ),
    "tfds": Kind(
        read_tfds, splits_of_tfds, "a name in tensorflow-datasets", on_disk=False, is_path=False
    ),
    "scenes": Kind(
        read_scenes, splits_by_folder, "a folder of rendered scenes, made if missing", on_disk=False
    ),
}


def load(
    spec: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
) -> DetectionData:
    """Reads the annotations of one split of a data set, or of several together, and checks them.

    Args:
        spec: `KIND:PATH`, see `KINDS` and the reader of each. Several are joined by commas:
            `coco:A,voc:B`. If two of their pictures have the same id, all ids get the number of
            their part, from 1 on: `"1/7"`.
        split: which part of the data set; for joined ones, one for all of them, or one for each,
            separated by commas.
        class_names: index by name; by default the classes that the data names, those of joined
            ones by name in the order in which they first appear.
        on_bad_example: "error" raises the first problem; "skip" leaves out the smallest bad part,
            a box or a picture, and lists it in `skipped`.

    Returns:
        The split. Whether its pictures decode is for `check_pictures` to find out.

    Raises:
        DataError: something is wrong with the spec or the data; see `Problem`.
    """
    specs = parts(spec)
    splits = split.split(",") if len(specs) > 1 else [split]
    if len(splits) == 1:
        splits *= len(specs)
    if len(splits) != len(specs):
        problem, remedy = "is not one split for each data set", f"Name 1 or {len(specs)} splits"
        checks.refuse(spec, "split", split, problem, remedy)
    return _joined(
        [
            _load_one(one, its_split, class_names, on_bad_example)
            for one, its_split in zip(specs, splits)
        ]
    )


def absolute(spec: str) -> str:
    """The same data set, named so that it is found from any folder.

    Args:
        spec: as `load` takes it.
    """
    whole = []
    for part in parts(spec):
        name, colon, path = part.partition(":")
        if colon and name in KINDS and KINDS[name].is_path:
            path = os.path.abspath(os.path.expanduser(path))
        whole.append(f"{name}{colon}{path}")
    return ",".join(whole)


def parts(spec: str) -> list[str]:
    """The data sets, each as `KIND:PATH`, that a spec joins."""
    return _NEXT_PART.split(spec)


def _load_one(
    spec: str, split: str, class_names: Sequence[str] | None, on_bad_example: str
) -> DetectionData:
    """Reads one `KIND:PATH`."""
    name, kind, path = _kind_and_path(spec)
    if kind.on_disk and not os.path.exists(path):
        checks.refuse(path, "PATH", spec, "is missing", "Check the path")
    label = os.path.basename(os.path.abspath(path)) if kind.is_path else path
    return kind.read(path, split, class_names, on_bad_example, f"{name}:{label}/{split}")


def splits_of(spec: str) -> list[str]:
    """The splits of one `KIND:PATH`, in no order; none where none is found.

    Raises:
        DataError: the spec cannot be read.
    """
    _, kind, path = _kind_and_path(spec)
    return kind.splits(path)


def _kind_and_path(spec: str) -> tuple[str, Kind, str]:
    name, _, path = spec.partition(":")
    if name not in KINDS or not path:
        remedy = f"KIND is one of {', '.join(KINDS)}"
        checks.refuse("data set", "KIND:PATH", spec, "no such kind", remedy)
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

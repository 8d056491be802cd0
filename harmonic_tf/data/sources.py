"""Finds data sets by kind and path, and joins them."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData
from harmonic_tf.data.readers.coco import read_coco
from harmonic_tf.data.readers.tfds import read_tfds
from harmonic_tf.data.readers.tfrecord import read_tfrecord
from harmonic_tf.data.readers.voc import read_voc
from harmonic_tf.data.readers.yolo import read_yolo
from harmonic_tf.data.scenes import rendering

_NEXT_PART = re.compile(r",(?=[a-z]+:)")


def load(
    spec: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
) -> DetectionData:
    """Reads the annotations of one split of a data set, or of several together, and checks them.

    Args:
        spec: kind and path, one of

            - `coco:PATH`: PATH is an instances JSON with its pictures in `images/` beside it, or,
              without such a folder, right beside it (the split is then only a name); or a folder
              with `annotations/instances_SPLIT.json` and `SPLIT/`; or a folder with
              `SPLIT/annotations.json` and `SPLIT/images/`.
            - `voc:PATH`: PATH is a VOC folder, with splits like `trainval`, or a VOCdevkit, with
              splits like `2007_trainval` or `2007_trainval+2012_trainval`; see `read_voc`.
            - `yolo:PATH`: PATH is a folder with a `data.yaml`, or such a file; see `read_yolo`.
            - `tfrecord:PATH`: PATH is a folder of TFRecord files or a glob; see `read_tfrecord`.
            - `tfds:NAME`: a data set of tensorflow-datasets, like `voc/2007`; see `read_tfds`.
            - `scenes:PATH`: PATH is a folder with a rendering for each split; see `render`.

            Several are joined by commas: `coco:A,voc:B`. If two of their pictures have the same id,
            all ids get the number of their part, from 1 on: `"1/7"`.
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
        kind, colon, path = part.partition(":")
        if colon and kind in _READERS and kind != "tfds":
            path = os.path.abspath(os.path.expanduser(path))
        whole.append(f"{kind}{colon}{path}")
    return ",".join(whole)


def parts(spec: str) -> list[str]:
    """The data sets, each as `KIND:PATH`, that a spec joins."""
    return _NEXT_PART.split(spec)


def _load_one(
    spec: str, split: str, class_names: Sequence[str] | None, on_bad_example: str
) -> DetectionData:
    """Reads one `KIND:PATH`."""
    kind, _, path = spec.partition(":")
    if kind not in _READERS or not path:
        checks.refuse(
            "data set", "KIND:PATH", spec, "no such kind", f"KIND is one of {', '.join(_READERS)}"
        )
    path = os.path.expanduser(path)
    if kind in _ON_DISK and not os.path.exists(path):
        checks.refuse(path, "PATH", spec, "is missing", "Check the path")
    label = path if kind == "tfds" else os.path.basename(os.path.abspath(path))
    return _READERS[kind](path, split, class_names, on_bad_example, f"{kind}:{label}/{split}")


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
    )


def _load_coco(
    path: str, split: str, class_names: Sequence[str] | None, on_bad_example: str, name: str
) -> DetectionData:
    if os.path.isfile(path):
        beside = os.path.dirname(path)
        images = os.path.join(beside, "images")
        layouts = [(path, images if os.path.isdir(images) else beside)]
    else:
        layouts = [
            (
                os.path.join(path, "annotations", f"instances_{split}.json"),
                os.path.join(path, split),
            ),
            (
                os.path.join(path, split, "annotations.json"),
                os.path.join(path, split, "images"),
            ),
        ]
    for annotation_file, image_folder in layouts:
        if os.path.isfile(annotation_file):
            return read_coco(annotation_file, image_folder, class_names, on_bad_example, name)
    files = " nor ".join(os.path.relpath(file, path) for file, _ in layouts)
    checks.refuse(path, "split", split, f"holds neither {files}", "Check the path and the split")


def _load_scenes(
    path: str, split: str, class_names: Sequence[str] | None, on_bad_example: str, name: str
) -> DetectionData:
    folder = os.path.join(path, split)
    annotation_file = os.path.join(folder, rendering.ANNOTATION_FILE)
    if not os.path.isfile(annotation_file):
        module = "harmonic_tf.data.scenes.rendering"
        code = f"from {module} import render; render({folder!r}, count=1000, seed=1)"
        remedy = f'Render it, with a seed of its own: python -c "{code}"'
        checks.refuse(folder, "split", split, "is not rendered yet", remedy)
    images = os.path.join(folder, rendering.IMAGE_FOLDER)
    return read_coco(annotation_file, images, class_names, on_bad_example, name)


_READERS = {
    "coco": _load_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "tfrecord": read_tfrecord,
    "tfds": read_tfds,
    "scenes": _load_scenes,
}
_ON_DISK = ("coco", "voc", "yolo")

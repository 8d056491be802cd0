"""Finds a data set by its kind and path, and makes sure that its pictures can be used."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence

from tqdm import tqdm

from harmonic_tf.backend import tf
from harmonic_tf.data import checks, scenes
from harmonic_tf.data.coco import read_coco
from harmonic_tf.data.example import Annotation, DetectionData, Problem
from harmonic_tf.data.voc import read_voc


def load(
    spec: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
) -> DetectionData:
    """Reads the annotations of one split of a data set, and checks them.

    Args:
        spec: kind and path, one of

            - `coco:PATH`: PATH is an instances JSON with its pictures in `images/` beside it, or,
              without such a folder, right beside it (the split is then only a name); or a folder
              with `annotations/instances_SPLIT.json` and `SPLIT/`; or a folder with
              `SPLIT/annotations.json` and `SPLIT/images/`.
            - `voc:PATH`: PATH is a VOC folder, with splits like `trainval`, or a VOCdevkit, with
              splits like `2007_trainval` or `2007_trainval+2012_trainval`; see `read_voc`.
            - `scenes:PATH`: PATH is a folder with a rendering for each split; see `scenes.render`.
        split: which part of the data set.
        class_names: index by name; by default the classes that the data names.
        on_bad_example: "error" raises the first problem; "skip" leaves out the smallest bad part,
            a box or a picture, and lists it in `skipped`.

    Returns:
        The split. Whether its pictures decode is for `check_pictures` to find out.

    Raises:
        DataError: something is wrong with the spec or the data; see `Problem`.
    """
    kind, _, path = spec.partition(":")
    path = os.path.expanduser(path)
    if kind not in _READERS or not path:
        checks.refuse(
            "data set", "KIND:PATH", spec, "no such kind", f"KIND is one of {', '.join(_READERS)}"
        )
    if not os.path.exists(path) and kind != "scenes":
        checks.refuse(path, "PATH", spec, "is missing", "Check the path")
    name = f"{kind}:{os.path.basename(os.path.abspath(path))}/{split}"
    return _READERS[kind](path, split, class_names, on_bad_example, name)


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
    annotation_file = os.path.join(folder, scenes.ANNOTATION_FILE)
    if not os.path.isfile(annotation_file):
        code = f"from harmonic_tf.data.scenes import render; render({folder!r}, count=1000, seed=1)"
        remedy = f'Render it, with a seed of its own: python -c "{code}"'
        checks.refuse(folder, "split", split, "is not rendered yet", remedy)
    images = os.path.join(folder, scenes.IMAGE_FOLDER)
    return read_coco(annotation_file, images, class_names, on_bad_example, name)


_READERS = {"coco": _load_coco, "scenes": _load_scenes, "voc": read_voc}

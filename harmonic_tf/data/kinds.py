"""The formats that data sets come in, a row each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.readers.coco import load_coco, splits_by_folder, splits_of_coco
from harmonic_tf.data.readers.scenes import read_scenes
from harmonic_tf.data.readers.tfds import read_tfds, splits_of_tfds
from harmonic_tf.data.readers.tfrecord import read_tfrecord, splits_of_tfrecord
from harmonic_tf.data.readers.voc import read_voc, splits_of_voc
from harmonic_tf.data.readers.yolo import read_yolo, splits_of_yolo


@dataclasses.dataclass(frozen=True)
class Kind:
    """A format that data sets come in.

    Args:
        read: from path, split, class names, `on_bad_example` and a name to the data.
        splits: from the path to the names of the splits, in any order; `["all"]` where there are
            none, no names where nothing of this kind is there.
        help: what stands behind the colon, for people.
        layouts: what is looked for in a path that comes without a kind, for people; empty where
            such a path is never taken for this kind.
        on_disk: whether that has to exist.
        is_path: whether it is a path.
    """

    read: Callable[[str, str, Sequence[str] | None, str, str], DetectionData]
    splits: Callable[[str], list[str]]
    help: str
    layouts: str = ""
    on_disk: bool = True
    is_path: bool = True


KINDS = {
    "coco": Kind(
        load_coco,
        splits_of_coco,
        "a folder of COCO JSON files and images",
        "annotations/instances_SPLIT.json, or one JSON file beside the pictures of a split",
    ),
    "voc": Kind(
        read_voc,
        splits_of_voc,
        "a Pascal VOC folder or a VOCdevkit",
        "XML files beside the pictures, or in Annotations/ with the pictures in JPEGImages/",
    ),
    "yolo": Kind(
        read_yolo,
        splits_of_yolo,
        "a folder with a data.yaml, or such a file",
        "data.yaml, or classes.txt, with text files of labels",
    ),
    "tfrecord": Kind(
        read_tfrecord,
        splits_of_tfrecord,
        "a folder of TFRecord files or a glob",
        "SPLIT-*.tfrecord",
        on_disk=False,
    ),
    "tfds": Kind(
        read_tfds, splits_of_tfds, "a name in tensorflow-datasets", on_disk=False, is_path=False
    ),
    # Never guessed: it would be completed by rendering, in somebody's folder. Scenes that are
    # there are COCO data.
    "scenes": Kind(
        read_scenes, splits_by_folder, "a folder of rendered scenes, made if missing", on_disk=False
    ),
}

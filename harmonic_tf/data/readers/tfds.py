"""Reads detection data sets of tensorflow-datasets."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tqdm import tqdm

from harmonic_tf.backend import tf
from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, Problem
from harmonic_tf.data.images.decoding import TFDS_ENCODED_FIELD
from harmonic_tf.data.images.headers import read_header
from harmonic_tf.data.records.reading import read_records, record_offsets

_BOXES = "objects/bbox"  # ymin, xmin, ymax, xmax as fractions of the picture's sides
_LABELS = "objects/label"
_DIFFICULT = "objects/is_difficult"
_CROWD = "objects/is_crowd"
_FORMAT = "tfrecord"


def read_tfds(
    dataset: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "tfds",
) -> DetectionData:
    """Reads a split of a data set of tensorflow-datasets; prepares it first where it is not yet.

    It has to have the features `image` and `objects` with `bbox` and `label`, as `voc` and `coco`
    have; `is_difficult` and `is_crowd` are read where there. Pictures are taken as stored. It lies
    in the folder that the environment variable TFDS_DATA_DIR names, or in ~/tensorflow_datasets.

    Args:
        dataset: its name, with configuration and version if need be: `"voc/2007"`.
        split: `"train"`, `"validation"`, ...; also a part of one, `"train[:10%]"`.
        class_names: index by name; by default those of the data set.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, or the
            picture with all its boxes, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The split, pictures in the order of its files; ids name the file and the byte there.

    Raises:
        DataError: the data set is not known, cannot be prepared or is of another kind; nothing is
            left; or there is a problem and `on_bad_example` is "error".

    Source: https://www.tensorflow.org/datasets/api_docs/python/tfds/core/DatasetBuilder.
    """
    builder = _prepared(dataset)
    label_names = _label_names(builder, dataset)
    if class_names is None:
        class_names = label_names
    indices = checks.class_indices(class_names, dataset, "class names")
    try:
        parts = builder.info.splits[split].file_instructions
    except (KeyError, ValueError):
        remedy = f"Use one of {', '.join(builder.info.splits)}"
        checks.refuse(dataset, "split", split, "no such split", remedy)

    problems: list[Problem] = []
    annotations: list[Annotation] = []
    for part in tqdm(parts, desc=f"Reading {name}", unit="shard", delay=1):
        offsets, broken = record_offsets(part.filename)
        offsets = offsets[part.skip : part.skip + part.take]
        for index, content in enumerate(read_records(part.filename, offsets)):
            with checks.collecting(problems, checks.PICTURE):
                annotations.append(
                    _annotation(
                        content, part.filename, offsets[index], label_names, indices, problems
                    )
                )
        problems += broken
    data = DetectionData(name, tuple(class_names), annotations)
    return checks.finish(data, dataset, problems, on_bad_example)


def _prepared(dataset: str) -> Any:
    """The data set's builder, its files on disk."""
    import tensorflow_datasets as tfds

    step, remedy = "is not known", "Check its name with tfds.list_builders()"
    try:
        builder = tfds.builder(dataset)
        step = "cannot be prepared"
        remedy = (
            "Prepare it where the network can be reached and put it into the folder that the "
            "environment variable TFDS_DATA_DIR names"
        )
        builder.download_and_prepare()
    except Exception as error:  # what a builder raises is for its author to choose
        first_line = str(error).strip().partition("\n")[0]
        value = f"{type(error).__name__}: {first_line}"
        checks.refuse(f"tfds:{dataset}", "data set", value, step, remedy)
    return builder


def _label_names(builder: Any, dataset: str) -> list[str]:
    """The name of each label; refuses what is no detection data in TFRecord files."""
    file_format = builder.info.file_format.value
    if file_format != _FORMAT:
        problem, remedy = "files of that format cannot be read", f"Prepare it as {_FORMAT}"
        checks.refuse(f"tfds:{dataset}", "file format", file_format, problem, remedy)
    try:
        features = builder.info.features
        names = features["objects"]["label"].names
        present = bool(features[TFDS_ENCODED_FIELD] and features["objects"]["bbox"])
    except (KeyError, TypeError, AttributeError):
        present = False
    if not present or not names:
        problem = "has not the features image, objects/bbox and objects/label"
        checks.refuse(f"tfds:{dataset}", "features", ", ".join(features), problem, "Use another")
    return names


def _annotation(
    content: bytes | None,
    file: str,
    offset: int,
    label_names: Sequence[str],
    indices: Mapping[str, int],
    problems: list[Problem],
) -> Annotation:
    """One record; bad objects go to the problems, a bad record raises DataError."""
    field = f"record at byte {offset}"
    remedy = "Prepare the data set again"
    if content is None:
        checks.refuse(file, field, "its checksum", "does not fit its bytes", remedy)
    try:
        features = tf.train.Example.FromString(content).features.feature
    except DecodeError:
        value = f"{len(content)} bytes"
        checks.refuse(file, field, value, "is not a tf.Example", remedy)
    picture = b"".join(features[TFDS_ENCODED_FIELD].bytes_list.value)
    header = read_header(io.BytesIO(picture), file, field)
    size = header.width, header.height
    labels = features[_LABELS].int64_list.value
    corners = _numbers(features, _BOXES, 4 * len(labels), file, field)
    corners = np.reshape(corners, [-1, 4])[:, [1, 0, 3, 2]]
    flags = {
        key: [
            checks.flag(value, file, f"{field}/{key}")
            for value in _numbers(features, key, len(labels), file, field)
        ]
        for key in (_DIFFICULT, _CROWD)
    }
    kept, boxes, classes = [], [], []
    for index, (corner, label) in enumerate(zip(corners, labels)):
        with checks.collecting(problems):
            place = f"{field}, object[{index}]"
            class_name = label_names[label] if 0 <= label < len(label_names) else None
            if class_name not in indices:
                problem, remedy = "class is not in the list", f"Use one of {', '.join(indices)}"
                value = f"{label} ({class_name})"
                checks.refuse(file, f"{place}/label", value, problem, remedy)
            xyxy = corner * (*size, *size)
            value = " ".join(f"{number:g}" for number in xyxy)
            for number in xyxy:
                checks.number(number, file, f"{place}/bbox")
            checks.check_area(*(xyxy[2:] - xyxy[:2]), file, f"{place}/bbox", value)
            boxes.append(checks.clipped_box(xyxy, *size, file, f"{place}/bbox", value))
            classes.append(indices[class_name])
            kept.append(index)
    return Annotation(
        image_path=file,
        image_id=f"{os.path.basename(file)}:{offset}",
        width=header.width,
        height=header.height,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        difficult=np.array(flags[_DIFFICULT], bool)[kept],
        crowd=np.array(flags[_CROWD], bool)[kept],
        record_offset=offset,
    )


def _numbers(
    features: Mapping[str, tf.train.Feature], key: str, count: int, file: str, field: str
) -> Sequence[float]:
    """A feature's values, which must be as many as the objects need; zeros where it has none."""
    values = features[key].float_list.value or features[key].int64_list.value or [0] * count
    if len(values) != count:
        value, problem = f"{len(values)} values", "is not as many numbers as the labels need"
        checks.refuse(file, f"{field}/{key}", value, problem, "Prepare the data set again")
    return values


def splits_of_tfds(path: str) -> list[str]:
    """The splits that `read_tfds` takes."""
    import tensorflow_datasets as tfds  # takes a second, and few use it

    try:
        return list(tfds.builder(path).info.splits)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        checks.refuse(f"tfds:{path}", "name", path, str(error), "Check the name and its version")

"""Reads TFRecord files with the keys of the TensorFlow Object Detection API."""

from __future__ import annotations

import collections
import concurrent.futures
import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, ImageId, Problem
from harmonic_tf.data.records import manifest
from harmonic_tf.data.records.codec import Record, decode
from harmonic_tf.data.records.reading import read_records, record_offsets
from harmonic_tf.files import replacing

LABEL_MAP_FILE = "label_map.pbtxt"
SPLIT_PLACE = "{split}"
"""What stands for the split's name in a pattern."""

_FOLDER_PATTERN = f"{SPLIT_PLACE}-*.tfrecord"
_LABEL_MAP_ITEM = re.compile(r"\bitem\s*\{")
_LABEL_MAP_ID = re.compile(r"\bid\s*:\s*(\d+)")
_LABEL_MAP_NAME = re.compile(r"""\bname\s*:\s*(['"])((?:\\.|(?!\1).)*)\1""")


class _Picture(NamedTuple):
    """A record and where it starts."""

    file: str
    offset: int
    record: Record


def read_tfrecord(
    pattern: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "tfrecord",
) -> DetectionData:
    """Reads a split of TFRecord files and checks it; pictures are not decoded.

    Every record's checksum is checked. Where a manifest stands beside the files (see
    `harmonic_tf.data.records.conversion`), files and counts must be what it says. A picture's id
    is its `image/source_id`, else its `image/filename`, else file and byte of its record.

    Args:
        pattern: a folder with files `SPLIT-*.tfrecord`; or a glob in which `{split}` stands for
            the split's name. A glob without it names the same files whatever the split.
        split: which part of the data set.
        class_names: index by name; by default those of the manifest, else of a `label_map.pbtxt`
            beside the files, else the names in the records, sorted, else the labels up to the
            largest. A record's label is read by the label map, else it counts from 1 on in the
            class names.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, the picture,
            or what lies behind a broken length, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The split, pictures in the order of the files' names and of their records.

    Raises:
        DataError: there are no files, they are compressed or not those of the manifest; nothing
            is left; or there is a problem and `on_bad_example` is "error".
    """
    files = find_shards(pattern, split)
    folder = os.path.dirname(files[0])
    described = manifest.read_manifest(folder)
    splits = manifest.check_files(described, files) if described else []
    shards = {shard.file: shard for part in splits for shard in part.shards}
    labels = _read_label_map(os.path.join(folder, LABEL_MAP_FILE))

    problems: list[Problem] = []
    pictures: dict[ImageId, _Picture] = {}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for file in tqdm(files, desc=f"Reading {name}", unit="shard", delay=1):
            found: list[Problem] = []
            shard = shards.get(os.path.basename(file))
            same = pool.submit(manifest.check_shard, shard, file) if shard else None
            _read_shard(file, pictures, found)
            if same and not found:
                same.result()
            problems += found

    if class_names is None:
        class_names = (
            described.class_names if described else _class_names(labels, pictures.values())
        )
    # No class means no object: `finish` says so.
    indices = checks.class_indices(class_names, pattern, "class names") if class_names else {}
    labels = labels or dict(enumerate(class_names, start=1))
    annotations = [
        _annotation(image_id, picture, indices, labels, problems)
        for image_id, picture in pictures.items()
    ]
    if described and not problems:
        counts = collections.Counter(
            class_names[index] for annotation in annotations for index in annotation.classes
        )
        manifest.check_counts(splits, folder, len(annotations), counts)
    data = DetectionData(name, tuple(class_names), annotations)
    return checks.finish(data, pattern, problems, on_bad_example)


def find_shards(pattern: str, split: str) -> list[str]:
    """The TFRecord files of a split, sorted; see `read_tfrecord`.

    Raises:
        DataError: there are none.
    """
    if os.path.isdir(pattern):
        pattern = os.path.join(glob.escape(pattern), _FOLDER_PATTERN)
    found = sorted(glob.glob(pattern.replace(SPLIT_PLACE, glob.escape(split))))
    files = [file for file in found if os.path.isfile(file)]
    if not files:
        remedy = f"Check path and split; {SPLIT_PLACE} in a path stands for the split"
        checks.refuse(pattern, "split", split, "matches no files", remedy)
    return files


def _read_shard(file: str, pictures: dict[ImageId, _Picture], problems: list[Problem]) -> None:
    """Adds the pictures of one file, and what is wrong with it."""
    offsets, broken = record_offsets(file)
    for offset, content in zip(offsets, read_records(file, offsets)):
        field = f"byte {offset}"
        with checks.collecting(problems, checks.PICTURE):
            if content is None:
                problem, remedy = "the record does not fit its checksum", "Restore the shard"
                checks.refuse(file, field, "the record there", problem, remedy)
            record = decode(content, file, field, problems)
            image_id = record.image_id
            if image_id is None:
                image_id = f"{os.path.basename(file)}:{offset}"
            if image_id in pictures:
                other = pictures[image_id]
                remedy = f"Give each its own id: byte {other.offset} of {other.file} has it too"
                checks.refuse(file, field, repr(image_id), "id is not unique", remedy)
            pictures[image_id] = _Picture(file, offset, record)
    problems += broken


def _read_label_map(file: str) -> dict[int, str]:
    """Name by label, as the file gives them; nothing if there is no such file."""
    try:
        with open(file, encoding="utf-8") as opened:
            items = _LABEL_MAP_ITEM.split(opened.read())[1:]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        checks.refuse(file, "file", error, "cannot be read", "Restore or remove the label map")
    labels: dict[int, str] = {}
    for index, item in enumerate(items):
        label, name = _LABEL_MAP_ID.search(item), _LABEL_MAP_NAME.search(item)
        if not label or not name or int(label[1]) in labels:
            problem, remedy = "is not an id of its own with a name", "Write id: 1 name: 'dog'"
            checks.refuse(file, f"item[{index}]", item.strip(), problem, remedy)
        labels[int(label[1])] = re.sub(r"\\(.)", r"\1", name[2])
    return labels


def write_label_map(file: str, class_names: Sequence[str]) -> None:
    """Writes names and the labels of records, which count from 1, as TensorFlow models read them.

    Args:
        file: to write, atomically.
        class_names: name by class index.
    """
    with (
        replacing(file) as path,
        open(path, "w", encoding="utf-8", newline="\n") as opened,
    ):
        for label, name in enumerate(class_names, start=1):
            escaped = re.sub(r"([\\'])", r"\\\1", name)
            opened.write(f"item {{\n  id: {label}\n  name: '{escaped}'\n}}\n")


def _class_names(labels: Mapping[int, str], pictures: Iterable[_Picture]) -> list[str]:
    """The classes of data that come without a list of them."""
    if labels:
        return [labels[label] for label in sorted(labels)]
    classes = {item for picture in pictures for item in picture.record.classes}
    texts = sorted(item for item in classes if isinstance(item, str))
    return texts or [str(label) for label in range(1, max(classes, default=0) + 1)]


def _annotation(
    image_id: ImageId,
    picture: _Picture,
    indices: Mapping[str, int],
    labels: Mapping[int, str],
    problems: list[Problem],
) -> Annotation:
    """One picture and those of its objects whose class is known."""
    record = picture.record
    classes, kept = [], []
    for index, item in enumerate(record.classes):
        with checks.collecting(problems):
            name = item if isinstance(item, str) else labels.get(item)
            if name not in indices:
                field = f"byte {picture.offset}, object[{index}]/class"
                problem, remedy = "class is not in the list", f"Use one of {', '.join(indices)}"
                checks.refuse(picture.file, field, item, problem, remedy)
            classes.append(indices[name])
            kept.append(index)
    return Annotation(
        image_path=picture.file,
        image_id=image_id,
        width=record.width,
        height=record.height,
        boxes=record.boxes[kept],
        classes=np.array(classes, np.int32),
        difficult=record.difficult[kept],
        crowd=record.crowd[kept],
        extras={name: values[kept] for name, values in record.extras.items()},
        record_offset=picture.offset,
    )


def splits_of_tfrecord(path: str) -> list[str]:
    """The splits that `read_tfrecord` takes."""
    pattern = os.path.join(glob.escape(path), _FOLDER_PATTERN) if os.path.isdir(path) else path
    if SPLIT_PLACE not in pattern:  # the same files whatever the split
        return ["all"] if glob.glob(pattern) else []
    shard = re.compile(fnmatch.translate(pattern).replace(re.escape(SPLIT_PLACE), "(?P<split>.+?)"))
    files = glob.glob(pattern.replace(SPLIT_PLACE, "*"))
    return [match["split"] for match in map(shard.fullmatch, files) if match]

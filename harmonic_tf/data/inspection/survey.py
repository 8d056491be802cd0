"""What a data set holds, in numbers: all splits together, problems included."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from harmonic_tf.anchors import iou
from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DataError, DetectionData, Problem
from harmonic_tf.data.images.checking import check_pictures, notes_of
from harmonic_tf.data.partition import Cut, picture_names
from harmonic_tf.data.pipeline.transforms import unletterbox_boxes
from harmonic_tf.data.splits import Parts

SIZE_LIMITS = {"small": 0.0, "medium": 32.0, "large": 96.0}
"""From which side of a square, pixels, a box counts as what. Source: COCO's areas,
https://cocodataset.org/#detection-eval."""

RARE = 10
"""A class in so many pictures or fewer is rare. Source: Gupta et al., "LVIS", arXiv 1908.03195."""

DUPLICATE_IOU = 0.9
"""Two boxes of a class that overlap more are likely one object, annotated twice."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """Splits of a data set, read as one.

    Args:
        name: of the data set.
        class_names: one per class index, of all splits.
        annotations: the pictures that can be used, each once.
        splits: int [P] by the split's name, which of the annotations it holds.
        problems: all that is wrong; the boxes and pictures at fault are left out.
        notes: by the split's name, what was read otherwise than it is written; see `DetectionData`.
    """

    name: str
    class_names: Sequence[str]
    annotations: Sequence[Annotation]
    splits: Mapping[str, np.ndarray]
    problems: Sequence[Problem]
    notes: Mapping[str, Mapping[str, int]]

    def part(self, split: str) -> DetectionData:
        """One of the splits, with the classes of all."""
        annotations = [self.annotations[row] for row in self.splits[split]]
        return DetectionData(f"{self.name}/{split}", self.class_names, annotations)

    def picture_name(self, row: int) -> str:
        """What to call a picture: its path below the folder of all, or its id in a record."""
        return self._picture_names[row]

    @functools.cached_property
    def _picture_names(self) -> list[str]:
        return picture_names(self.annotations)


class Objects(NamedTuple):
    """All objects but crowd regions, one per row.

    Args:
        picture: int [N], row in the survey's annotations.
        classes: int [N].
        boxes: float32 [N, 4], xyxy, pixels of the picture.
        seen: float32 [N, 4], xyxy, pixels of the letterboxed picture, which the model sees.
    """

    picture: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    seen: np.ndarray


class NearDuplicate(NamedTuple):
    """Two boxes of one picture, by their indices there, that are likely one object."""

    picture: int
    first: int
    second: int
    class_index: int
    iou: float


def survey(
    spec: str,
    splits: Sequence[str],
    class_names: Sequence[str] | None = None,
    cut: Cut | None = None,
    on_truncated: str = "error",
) -> Survey:
    """Reads splits, checks them to the end, and decodes every picture once.

    Args:
        spec: see `sources.load`.
        splits: at least one; they may share pictures.
        class_names: index by name; by default all that any of the splits names.
        cut: how one of the splits is cut, if it is.
        on_truncated: what to do about JPEGs that are cut off; see `check_pictures`.

    Raises:
        DataError: nothing usable is left.
    """
    problems: list[Problem] = []
    parts: dict[str, DetectionData] = {}
    source = Parts(spec, "skip", cut or Cut())
    for split in splits:
        with checks.collecting(problems):
            parts[split] = source.load(split, class_names)
    if not parts:
        raise DataError(problems[0])
    names = tuple(dict.fromkeys(name for data in parts.values() for name in data.class_names))
    pictures: dict[tuple, Annotation] = {}
    for data in parts.values():
        indices = np.array([names.index(name) for name in data.class_names], np.int32)
        for annotation in data.annotations:
            renamed = dataclasses.replace(annotation, classes=indices[annotation.classes])
            pictures.setdefault(_key(annotation), renamed)
    together = DetectionData(spec, names, list(pictures.values()))
    usable = check_pictures(together, "skip", on_truncated=on_truncated)
    problems += [p for data in (*parts.values(), usable) for p in data.skipped]
    rows = {_key(annotation): row for row, annotation in enumerate(usable.annotations)}
    rows_of = {
        split: np.array([rows[k] for k in map(_key, data.annotations) if k in rows], int)
        for split, data in parts.items()
    }
    return Survey(
        name=spec,
        class_names=names,
        annotations=usable.annotations,
        splits=rows_of,
        problems=tuple(dict.fromkeys(problems)),  # splits that share a picture share its problems
        notes={
            split: {**data.notes, **notes_of([usable.annotations[row] for row in rows_of[split]])}
            for split, data in parts.items()
        },
    )


def _key(annotation: Annotation) -> tuple:
    return annotation.image_path, annotation.record_offset


def objects_of(annotations: Sequence[Annotation], image_size: int) -> Objects:
    """All objects but crowd regions.

    Args:
        annotations: of the pictures.
        image_size: side of the square that pictures are letterboxed to, pixels.
    """
    counts = [len(a.boxes) for a in annotations]
    picture = np.repeat(np.arange(len(annotations)), counts)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(a.boxes for a in annotations)])
    heights = np.repeat([a.height for a in annotations], counts)
    widths = np.repeat([a.width for a in annotations], counts)
    # The letterbox multiplies coordinates, so its inverse divides them: of ones, what by.
    divisors = unletterbox_boxes(np.ones_like(boxes), heights, widths, image_size).numpy()
    classes = np.concatenate([np.zeros(0, np.int32), *(a.classes for a in annotations)])
    crowd = np.concatenate([np.zeros(0, bool), *(a.crowd for a in annotations)])
    columns = (picture, classes, boxes, boxes / divisors)
    return Objects(*(column[~crowd] for column in columns))


def size_of(boxes: np.ndarray) -> np.ndarray:
    """Side of the square of a box's area, pixels: [N, 4] xyxy to [N]."""
    return np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def aspect_ratio(boxes: np.ndarray) -> np.ndarray:
    """Width / height: [N, 4] xyxy to [N]."""
    return (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])


def size_groups(boxes: np.ndarray) -> np.ndarray:
    """Which of `SIZE_LIMITS` each box, [N, 4] xyxy, is: int [N]."""
    return np.searchsorted(list(SIZE_LIMITS.values()), size_of(boxes), side="right") - 1


def near_duplicates(annotations: Sequence[Annotation]) -> Iterator[NearDuplicate]:
    """Finds pairs of boxes of one class, crowd regions aside, above `DUPLICATE_IOU`."""
    progress = tqdm(annotations, desc="Looking for near-duplicates", unit="picture", delay=1)
    for picture, annotation in enumerate(progress):
        overlaps = iou(annotation.boxes[:, None], annotation.boxes[None])
        alike = annotation.classes[:, None] == annotation.classes[None]
        single = ~annotation.crowd[:, None] & ~annotation.crowd[None]
        pairs = np.triu(alike & single & (overlaps > DUPLICATE_IOU), k=1)
        for first, second in np.argwhere(pairs).tolist():
            kind = int(annotation.classes[first])
            yield NearDuplicate(picture, first, second, kind, float(overlaps[first, second]))

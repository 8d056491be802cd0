"""So many objects of every class, drawn at random: what few-shot learning trains on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData


def draw_shots(data: DetectionData, shots: int, seed: int) -> DetectionData:
    """Draws so many objects of each class, with the pictures that they are in.

    The rarest class is served first. Pictures come in an order that hangs on the seed and their
    ids alone. One whose classes all have room for its objects is taken whole; only where those do
    not suffice are others taken, and their surplus objects, drawn likewise, left out: there they
    are background. Crowd regions, which are not trained on, stay in their pictures and do not
    count; objects that are marked difficult are trained on and count.

    Args:
        data: the split to draw from.
        shots: objects of each class, >= 1.
        seed: of the draw.

    Returns:
        Pictures in the order of the draw, none twice. They hold `shots` objects of each class, or
        all of a class that has fewer. `notes` are those of the draw: how many objects were left
        out, and which classes have fewer.

    Raises:
        DataError: `shots` is less than 1.

    Source: Wang et al., arXiv 2003.06957, section 3: a balanced set of K shots per class.
    """
    if shots < 1:
        checks.refuse(data.name, "shots", shots, "is less than 1", "Draw one object or more")
    pictures = sorted(data.annotations, key=lambda a: _lot(seed, a.image_id))
    class_count = len(data.class_names)
    counts = np.array([_objects_per_class(a, class_count) for a in pictures], int)
    counts = counts.reshape(-1, class_count)  # of no pictures, too
    available = counts.sum(axis=0)
    wanted = np.minimum(available, shots)
    drawn: dict[int, Annotation] = {}
    for class_index in np.argsort(available, kind="stable"):
        for whole in (True, False):
            for place in np.flatnonzero(counts[:, class_index]):
                if not wanted[class_index]:
                    break
                fits = (counts[place] <= wanted).all()
                if place not in drawn and (fits or not whole):
                    drawn[place] = _at_most(pictures[place], wanted, seed)
                    wanted -= np.minimum(counts[place], wanted)
    annotations = [drawn[place] for place in sorted(drawn)]
    return dataclasses.replace(
        data,
        name=f"{data.name}, {shots} shots",
        annotations=annotations,
        notes=dict(_notes(data, shots, available, int(counts[list(drawn)].sum()))),
    )


def _lot(seed: int, *of: object) -> bytes:
    """A random place in an order, the same wherever it is drawn."""
    return hashlib.sha256(" ".join(map(str, (seed, *of))).encode()).digest()


def _objects_per_class(annotation: Annotation, class_count: int) -> np.ndarray:
    """How many objects of each class a picture has, crowd regions aside."""
    return np.bincount(annotation.classes[~annotation.crowd], minlength=class_count)


def _at_most(annotation: Annotation, wanted: np.ndarray, seed: int) -> Annotation:
    """The picture with no more objects of each class than wanted, and its crowd regions."""
    kept = annotation.crowd.copy()
    left = wanted.copy()
    lots = {index: _lot(seed, annotation.image_id, index) for index in np.flatnonzero(~kept)}
    for index in sorted(lots, key=lots.get):
        class_index = annotation.classes[index]
        kept[index] = left[class_index] > 0
        left[class_index] -= kept[index]
    return dataclasses.replace(
        annotation,
        boxes=annotation.boxes[kept],
        classes=annotation.classes[kept],
        difficult=annotation.difficult[kept],
        crowd=annotation.crowd[kept],
        extras={name: values[kept] for name, values in annotation.extras.items()},
    )


def _notes(
    data: DetectionData, shots: int, available: np.ndarray, in_pictures: int
) -> Iterator[tuple[str, int]]:
    """What became of the draw beside the shots, as sentences with how often."""
    surplus = in_pictures - int(np.minimum(available, shots).sum())
    if surplus:
        yield f"object beyond the {shots} shots of its class: left out of its picture", surplus
    counted = zip(data.class_names, available)
    fewer = [f"{name} ({count})" for name, count in counted if 0 < count < shots]
    if fewer:
        yield f"class with fewer than {shots} objects: {', '.join(fewer)}", len(fewer)

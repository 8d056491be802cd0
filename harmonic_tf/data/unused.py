"""What of the data takes no part in training or evaluation, so that it can be said beforehand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harmonic_tf.data import checks
from harmonic_tf.data.example import DetectionData

_NAMED = 10  # classes that a sentence lists


def takes_no_part(data: DetectionData) -> Mapping[str, int]:
    """Counts what there is in the data that nothing is learned from, or that is not measured.

    Training leaves out crowd regions alone (`pipeline.batches`); evaluation ignores them and
    objects that are marked difficult.

    Args:
        data: a split.

    Returns:
        How often by a sentence that says what; nothing that does not occur.
    """
    crowd = sum(int(a.crowd.sum()) for a in data.annotations)
    difficult = sum(int((a.difficult & ~a.crowd).sum()) for a in data.annotations)
    background = sum(bool(a.crowd.all()) for a in data.annotations)  # of none, all are
    objects = _objects_per_class(data)
    missing = [name for name, count in zip(data.class_names, objects) if not count]
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    counts = {
        "crowd region: not trained on, ignored in evaluation": crowd,
        "object marked difficult: trained on, ignored in evaluation": difficult,
        "picture without objects: background alone": background,
        f"class without objects: {', '.join(missing[:_NAMED])}{more}": len(missing),
    }
    return {sentence: count for sentence, count in counts.items() if count}


def check_something_to_learn(data: DetectionData) -> None:
    """Makes sure that there is an object that can be trained on.

    Args:
        data: what is to be trained on.

    Raises:
        DataError: there is none.
    """
    if not _objects_per_class(data).any():
        crowd = sum(len(annotation.boxes) for annotation in data.annotations)
        value = f"{len(data.annotations)} pictures, {crowd} crowd regions, 0 other objects"
        problem = "nothing to learn from: crowd regions are not trained on"
        remedy = "Mark what is one object as such (COCO: iscrowd 0), or name another split"
        checks.refuse(data.name, "objects", value, problem, remedy)


def _objects_per_class(data: DetectionData) -> np.ndarray:
    """How many objects that are no crowd regions each class has."""
    counts = np.zeros(len(data.class_names), int)
    for annotation in data.annotations:
        counts += np.bincount(annotation.classes[~annotation.crowd], minlength=len(counts))
    return counts

"""The data types of the data layer: what one annotated picture is, and what can be wrong with it.

Everything that reads a file format produces `Annotation`s; everything that feeds a model starts
from a `DetectionData`. Boxes are xyxy in absolute pixels of the picture as it is seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np

from harmonic_tf.shell import shortened

ImageId = Union[int, str]

DECODERS = ("tensorflow", "recovering", "pillow")
"""What turns an encoded picture into pixels: TensorFlow; TensorFlow, as far as a JPEG that is cut
off goes; or Pillow, in Python, for formats that TensorFlow does not know."""

TENSORFLOW, RECOVERING, PILLOW = DECODERS


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the data, said so that a person can mend it.

    Args:
        file: the file at fault.
        field: where in that file, for example `"object[3]/bndbox"` or `"annotations[12].bbox"`.
        value: what stands there.
        problem: what is wrong with it.
        remedy: what to do about it.
        part: what is left out for it, `"object"` or `"picture"`.
    """

    file: str
    field: str
    value: str
    problem: str
    remedy: str
    part: str = "object"

    def __str__(self) -> str:
        file, field, value = map(shortened, (self.file, self.field, self.value))
        problem, remedy = map(_sentence, map(shortened, (self.problem, self.remedy)))
        return f"{file}: {field} = {value}: {problem} {remedy}"


def _sentence(text: str) -> str:
    """The text with one full stop at its end, also where it quotes a message that has one."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


class DataError(ValueError):
    """Bad data, with its `Problem` (file, field, value, remedy) at hand."""

    def __init__(self, problem: Problem):
        super().__init__(str(problem))
        self.problem = problem


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One picture and its objects, before the picture itself is decoded.

    Args:
        image_path: the picture's file, or the TFRecord file that holds it.
        image_id: unique in its data set; an int in COCO data, a str in VOC data.
        width: width of the picture as it is seen, pixels.
        height: height of the picture as it is seen, pixels.
        boxes: float32 [N, 4], xyxy in absolute pixels, inside the picture, area > 0.
        classes: int32 [N], index into the data set's class names.
        difficult: bool [N], objects that VOC evaluation neither asks for nor punishes.
        crowd: bool [N], COCO crowd regions: ignored in training and by COCO evaluation.
        extras: further float32 [N] values per object by name, for example `occlusion` and
            `irregularity`; NaN where the source does not say.
        record_offset: byte of a TFRecord file at which the picture's record starts; None where the
            picture has a file of its own.
        orientation: EXIF's number of how the stored picture is turned to be seen upright, 1 to 8;
            1 leaves it as stored.
        decoder: which of `DECODERS` the picture needs.
    """

    image_path: str
    image_id: ImageId
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    extras: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    record_offset: int | None = None
    orientation: int = 1
    decoder: str = TENSORFLOW


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """A whole split of a data set, in memory but for its pictures.

    Args:
        name: what to call it in reports, for example `"voc:bccd/test"`.
        class_names: one name per class index.
        annotations: one per picture, in a fixed order.
        skipped: what was left out because it was bad (empty unless skipping was asked for).
        category_ids: the number by which COCO results mean each class; None where the source has
            no such numbers.
        notes: what was read otherwise than it is written, without being wrong: a sentence that
            says what, such as `"width and height are read from the image"`, to how often.
    """

    name: str
    class_names: Sequence[str]
    annotations: Sequence[Annotation]
    skipped: Sequence[Problem] = ()
    category_ids: Sequence[int] | None = None
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)

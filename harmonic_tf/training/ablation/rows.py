"""The rows of the ablation: which parts of the loss each has, as flags of train.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from harmonic_tf.models import CATALOG


@dataclasses.dataclass(frozen=True)
class Row:
    """One loss to train with.

    Args:
        name: of its folder, and what `--rows` calls it.
        label: what tables call it.
        coupling: how the branches weigh each other, as in `HarmonicLoss`.
        task_contrasting: whether that term is in.
        iou_loss: overlap loss beside smooth L1; None takes the detector's own box loss, of which
            the baseline takes the weight too.
    """

    name: str
    label: str
    coupling: str | None
    task_contrasting: bool
    iou_loss: str | None

    def flags(self, model: str) -> list[str]:
        """The loss as flags of train.py.

        Args:
            model: value of `--model`, such as `"retinanet"` or `"yolov8_xs"`.
        """
        return [
            f"--coupling={_as_text(self.coupling)}",
            f"--{'' if self.task_contrasting else 'no'}task_contrasting",
            *(f"--{name}={_as_text(value)}" for name, value in self._box_loss(model).items()),
        ]

    def _box_loss(self, model: str) -> Mapping[str, float | str | None]:
        if self.iou_loss:
            return {"iou_loss": self.iou_loss}
        entry = CATALOG[model]
        return entry.box_loss if self.coupling else {**entry.box_loss, **entry.baseline}


def _as_text(value: float | str | None) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:g}"


# Wang and Zhang, ICCV 2021, https://arxiv.org/abs/2108.10809, ablation of Faster R-CNN on COCO;
# and `uncoupled`, which tells what the coupling brings from what its box loss brings.
BASELINE = Row("baseline", "baseline", None, False, None)
ROWS = {
    row.name: row
    for row in (
        BASELINE,
        Row("uncoupled", "HIoU alone", None, False, "hiou"),
        Row("harmonic", "+ Harmonic", "paper", False, None),
        Row("task_contrasting", "+ Harmonic + task-contrasting", "paper", True, None),
        Row("iou", "+ Harmonic + IoU", "paper", False, "iou"),
        Row("hiou", "+ Harmonic + HIoU", "paper", False, "hiou"),
        Row("full", "full", "paper", True, "hiou"),
    )
}

"""The rows of the ablation and the losses beside it, as flags of train.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from harmonic_tf.models import CATALOG

DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class Row:
    """One loss to train with.

    Args:
        name: of its folder, and what `--rows` calls it.
        label: what tables call it.
        coupling: how the branches weigh each other, as in `HarmonicLoss`; `DEFAULT` takes what the
            detector has by default.
        task_contrasting: whether that term is in.
        iou_loss: overlap loss beside smooth L1; None takes the detector's own box loss, of which
            the baseline takes the weight too. Beside the paper's coupling, weights are the paper's.
        classification: loss of the class scores; None takes what the run has.
        batch_loss: loss over the whole batch; None for none.
        regressed_labels: whether samples are classified by the labels of their regressed boxes too.
        calibrates: name of another row with this very loss, whose runs are measured once more with
            calibrated scores; None for a row that is trained.
    """

    name: str
    label: str
    coupling: str | None
    task_contrasting: bool
    iou_loss: str | None
    classification: str | None = None
    batch_loss: str | None = None
    regressed_labels: bool = False
    calibrates: str | None = None

    def flags(self, model: str) -> list[str]:
        """The loss as flags of train.py.

        Args:
            model: value of `--model`, such as `"retinanet"` or `"yolov8_xs"`.
        """
        coupling = self.coupling
        if coupling == DEFAULT:
            coupling = CATALOG[model].loss().coupling
        values = dict(self._box_loss(model))
        if self.classification:
            values["classification_loss"] = self.classification
        if self.batch_loss:
            values["batch_loss"] = self.batch_loss
        return [
            f"--coupling={_as_text(coupling)}",
            f"--{'' if self.task_contrasting else 'no'}task_contrasting",
            *(f"--{name}={_as_text(value)}" for name, value in values.items()),
            *(["--regressed_labels"] if self.regressed_labels else []),
        ]

    def _box_loss(self, model: str) -> Mapping[str, float | str | None]:
        entry = CATALOG[model]
        if self.iou_loss:
            return {"iou_loss": self.iou_loss, **(entry.paper if self.coupling == "paper" else {})}
        return entry.box_loss if self.coupling else {**entry.box_loss, **entry.baseline}


def _as_text(value: float | str | None) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:g}"


# Wang and Zhang, ICCV 2021, https://arxiv.org/abs/2108.10809, ablation of Faster R-CNN on COCO;
# and `uncoupled`, which tells what the coupling brings from what its box loss brings.
BASELINE = Row("baseline", "baseline", None, False, None)
ABLATION = (
    BASELINE,
    Row("uncoupled", "HIoU alone", None, False, "hiou"),
    Row("harmonic", "+ Harmonic", "paper", False, None),
    Row("task_contrasting", "+ Harmonic + task-contrasting", "paper", True, None),
    Row("iou", "+ Harmonic + IoU", "paper", False, "iou"),
    Row("hiou", "+ Harmonic + HIoU", "paper", False, "hiou"),
    Row("full", "full", DEFAULT, True, "hiou"),
)
# The forms of the coupling, and what others did for the same aim: a change to the baseline each.
UNIT = Row("unit", "full, coupled on one scale", "unit", True, "hiou")
OTHERS = (
    Row("paper", "full, coupled as in the paper", "paper", True, "hiou"),
    UNIT,
    dataclasses.replace(
        UNIT,
        name="unit_calibrated",
        label="full, coupled on one scale, calibrated",
        calibrates=UNIT.name,
    ),
    Row("qfl", "quality focal loss", None, False, None, classification="qfl"),
    Row("vfl", "varifocal loss", None, False, None, classification="vfl"),
    Row("correlation", "correlation loss", None, False, None, batch_loss="concordance"),
    Row("carl", "CARL", None, False, None, batch_loss="carl"),
    Row("iou_balanced", "IoU-balanced loss", None, False, None, batch_loss="iou_balanced"),
    Row("consistent", "consistent optimization", None, False, None, regressed_labels=True),
)
ROWS = {row.name: row for row in ABLATION + OTHERS}

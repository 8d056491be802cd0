"""Says what there is to know about a data set before training: a report and pictures.

harmonic-tf inspect PATH
harmonic-tf inspect coco:PATH --split=train2017,val2017 --image_size=320 --out_dir=inspection
"""

from __future__ import annotations

import os

from absl import flags

from harmonic_tf.data import sources
from harmonic_tf.data.inspection.findings import inspect
from harmonic_tf.data.inspection.report import headlines
from harmonic_tf.data.inspection.writing import REPORT, write
from harmonic_tf.data.splits import described, find_splits
from harmonic_tf.models import CATALOG

from .. import common, data, model
from ..running import Command


def main(*named: str) -> None:
    """Inspects, writes the report, prints its head."""
    values = flags.FLAGS
    source = data.dataset(*named)
    folder = common.OUT_DIR.value or "inspection"
    cut = data.cut(source)
    found = described(source)
    findings = inspect(
        sources.identified(source),
        common.SPLIT.value or find_splits(source, cut),
        values.classes,
        values.image_size,
        model.anchors() if CATALOG[values.model].has_anchors else None,
        values.positive_iou,
        cut,
        values.on_truncated,
    )
    write(findings, folder)
    print("\n".join([*found, *headlines(findings), f"Written: {os.path.join(folder, REPORT)}"]))


COMMAND = Command(
    main,
    [
        *("dataset", "split", *data.CUT, "classes", "on_truncated", "image_size"),
        *("model", *model.ANCHORS, "out_dir"),
    ],
    arguments="[PATH | KIND:PATH]",
)

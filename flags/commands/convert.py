"""Writes any data set as TFRecord files with the keys of the Object Detection API.

harmonic-tf convert PATH --out_dir=FOLDER

What is bad is skipped, counted and listed, unless --on_bad_example=error is given. A conversion
that was stopped goes on when it is started again.
"""

from __future__ import annotations

from absl import flags

from harmonic_tf.data.records.conversion import convert, summary

from .. import common, conversion, data
from ..running import Command, UsageError


def main(*named: str) -> None:
    """Converts, then says what was written."""
    values = flags.FLAGS
    folder = common.OUT_DIR.value
    if not folder:
        raise UsageError("--out_dir=FOLDER is needed: what is converted goes there.")
    result = convert(
        data.dataset(*named),
        folder,
        common.SPLIT.value,
        values.classes,
        conversion.SHARD_SIZE.value,
        common.PROCESSES.value,
        values.on_bad_example if values["on_bad_example"].present else "skip",
        values.max_pixels,
        values.max_bad_fraction,
        data.cut(data.dataset(*named)),
        values.on_truncated,
    )
    print(f"{summary(result)}\n\nRead it as tfrecord:{folder}")


COMMAND = Command(
    main,
    [
        *("dataset", "split", *data.CUT, "classes", "out_dir", "shard_mb", "processes"),
        *("on_bad_example", "max_pixels", "max_bad_fraction", "on_truncated"),
    ],
    arguments="[PATH | KIND:PATH]",
)

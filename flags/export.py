"""Flags on what a run hands on to those who use the detector."""

from __future__ import annotations

from absl import flags

flags.DEFINE_string(
    "export_dir",
    None,
    "Folder of a served model, such as models/NAME. When the run is done, its best checkpoint is "
    "written there as the next version for TensorFlow Serving; see docs/serving.md. "
    "`harmonic-tf export` does so later, with more choices.",
)

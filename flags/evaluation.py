"""Flags on what is measured."""

from __future__ import annotations

from absl import flags

DETECTIONS = flags.DEFINE_string(
    "detections",
    None,
    "Measure what any detector found: a file of COCO results, made on --split of --dataset.",
)
COMPARE = flags.DEFINE_bool(
    "compare",
    False,
    "Compare two runs by the detections that they left, on their test split or on --split: "
    "--compare RUN_A RUN_B. Each may be several that differ in their seed, joined by commas.",
)

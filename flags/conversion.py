"""Flags on TFRecord files to be written."""

from __future__ import annotations

from absl import flags

from harmonic_tf.data.records.conversion import SHARD_MB

SHARD_SIZE = flags.DEFINE_float(
    "shard_mb", SHARD_MB, "Size of the images in a file, MB (10^6 bytes).", 1e-6
)

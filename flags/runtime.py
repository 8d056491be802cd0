"""Flags on where a run leaves its files and how the machine is used."""

from __future__ import annotations

from absl import flags

from harmonic_tf.training.precision import PRECISIONS

flags.DEFINE_string(
    "run_dir", "runs/run", "Folder that takes checkpoints, logs, numbers, report and pictures."
)
flags.DEFINE_bool("overwrite", False, "Replace the run that --run_dir already holds.")
flags.DEFINE_enum(
    "precision",
    "auto",
    PRECISIONS,
    "Number format of the network: auto picks mixed_bfloat16 where the machine has it in hardware.",
)
flags.DEFINE_integer(
    "sheet_pictures", 12, "Pictures on the sheet of detections.", lower_bound=1, upper_bound=100
)

_JIT_CHOICES = {"auto": "auto", "true": True, "false": False}
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile",
    "auto",
    list(_JIT_CHOICES),
    "What XLA compiles: auto the whole step on a GPU and the loss alone on a CPU; true the whole "
    "step; false nothing.",
)


def jit_compile() -> bool | str:
    """What the parsed flags say about compilation, as the models' `compile` takes it."""
    return _JIT_CHOICES[_JIT_COMPILE.value]

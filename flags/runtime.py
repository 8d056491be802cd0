"""Flags on where a run leaves its files and how the machine is used."""

from __future__ import annotations

from absl import flags

from harmonic_tf.training.precision import PRECISIONS
from harmonic_tf.training.strategy import STRATEGIES

flags.DEFINE_string(
    "run_dir", "runs/run", "Folder that takes checkpoints, logs, numbers, report and pictures."
)
flags.DEFINE_bool("overwrite", False, "Replace the run that --run_dir already holds.")
flags.DEFINE_bool(
    "resume",
    False,
    "Go on with the run that --run_dir holds, from its last saved state and with its flags; start "
    "it if there is none.",
)
flags.DEFINE_integer(
    "save_every_steps",
    None,
    "Steps between saved states to resume from. One is saved after every epoch in any case.",
    lower_bound=1,
)
flags.DEFINE_integer("keep_states", 2, "How many states to resume from are kept.", lower_bound=1)
flags.DEFINE_enum(
    "strategy",
    "one_device",
    STRATEGIES,
    "Where to train: on one device, on all GPUs of this host (mirrored), or on all GPUs of the "
    "hosts that TF_CONFIG names (multi_worker_mirrored); see docs/distributed.md.",
)
flags.DEFINE_enum(
    "precision",
    "auto",
    PRECISIONS,
    "Number format of the network: auto times a few convolutions in each that the device can do, "
    "once a machine, and takes the fastest. A run is measured and goes on in its own.",
)
flags.DEFINE_bool(
    "deterministic_ops",
    False,
    "Use only operations that give the same bits every time; slower.",
)
flags.DEFINE_integer(
    "sheet_pictures", 12, "Pictures on the sheet of detections.", lower_bound=1, upper_bound=100
)

_JIT_CHOICES = {"auto": "auto", "true": True, "false": False}
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile",
    "auto",
    list(_JIT_CHOICES),
    "What XLA compiles: auto the whole step on a GPU, targets and loss on a CPU; true the whole "
    "step; false nothing.",
)


def jit_compile() -> bool | str:
    """What the parsed flags say about compilation, as the models' `compile` takes it."""
    return _JIT_CHOICES[_JIT_COMPILE.value]

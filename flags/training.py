"""Flags on how long and how fast weights move."""

from __future__ import annotations

from absl import flags

from harmonic_tf.models import FREEZE_CHOICES
from harmonic_tf.training.optimizers import OPTIMIZERS, SCHEDULES
from harmonic_tf.training.settings import AUTO, OptimizerSettings


class _CountOrAuto(flags.IntegerParser):
    """Parses a whole number of at least 1, or the word `auto`."""

    def __init__(self):
        super().__init__(lower_bound=1)

    def parse(self, argument: str | int) -> str | int:
        """The number, or the word."""
        return AUTO if argument == AUTO else super().parse(argument)

    def flag_type(self) -> str:
        """What the help says of its values."""
        return "int or auto"


def _define_count_or_auto(name: str, default: int, help_text: str) -> None:
    flags.DEFINE(_CountOrAuto(), name, default, help_text, serializer=flags.ArgumentSerializer())


_define_count_or_auto(
    "epochs",
    12,
    "Passes over the training split. auto goes by the number of its pictures: 96 for 100, 48 for "
    "400, 12 from 6,400 on.",
)
flags.DEFINE_enum(
    "freeze",
    "none",
    FREEZE_CHOICES,
    "What is not trained, batch normalization included: stem is the backbone up to its features of "
    "stride 4; all_but_last trains nothing but the last layer of each head. all_but_heads and "
    "all_but_last need --start_from.",
)
flags.DEFINE_integer(
    "unfreeze_after",
    None,
    "Epochs after which what --freeze names is trained too. By default it never is.",
    lower_bound=1,
)
flags.DEFINE_float(
    "backbone_learning_rate_factor",
    1.0,
    "The backbone's learning rate as a part of --learning_rate, at most 1; such as 0.1 for a "
    "backbone that comes with weights.",
    1e-12,
    1.0,
)
_define_count_or_auto(
    "batch_size",
    8,
    "Pictures per update, over all devices together. auto takes the most out of 1, 2, 4, 8 and 16 "
    "of which a step fits into memory, by an estimate, and at most a quarter of the training "
    "pictures; evaluate takes 8 for it.",
)
flags.DEFINE_integer(
    "accumulation_steps",
    1,
    "Micro-batches that each device's part of a batch is cut into, to save memory. The update is "
    "that of the whole batch.",
    lower_bound=1,
)
flags.DEFINE_float(
    "average_decay",
    None,
    "Detect with moving averages of the weights: weight of the old average in the new one, such as "
    "0.999. By default nothing is averaged.",
    0.0,
    0.999999,
)
flags.DEFINE_integer(
    "max_skipped_steps",
    20,
    "A step whose loss or gradient is not finite is skipped; after so many in a row training "
    "stops.",
    lower_bound=1,
)
_define_count_or_auto(
    "eval_every",
    1,
    "Epochs between measurements on the validation split. auto measures about ten times in all.",
)
flags.DEFINE_integer(
    "patience",
    None,
    "Stop after so many measurements in a row on the validation split without a better AP. By "
    "default all --epochs are trained.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed", 0, "Seed of initial weights, order, augmentation and shots.", lower_bound=0
)

_OPTIMIZER = flags.DEFINE_enum(
    "optimizer",
    "adamw",
    OPTIMIZERS,
    "Optimizer. sgd and sgdw have momentum 0.9; the weight decay of sgd is part of the gradient, "
    "that of the others is apart from it.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 5e-4, "Learning rate after the warm-up.", 1e-12
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    "cosine",
    SCHEDULES,
    "Learning rate after the warm-up: cosine down to 0, a tenfold step at each of --step_epochs, "
    "or constant.",
)
_WARMUP_STEPS = flags.DEFINE_integer(
    "warmup_steps", 100, "Steps over which the learning rate rises.", lower_bound=0
)
_STEP_EPOCHS = flags.DEFINE_list(
    "step_epochs", ["8", "11"], "Epochs after which --schedule=step drops the rate."
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay",
    1e-4,
    "Share of the kernels' weights that a step takes off, times the learning rate.",
    0.0,
)
_CLIP_NORM = flags.DEFINE_float(
    "clip_norm", 10.0, "Largest global norm of the gradient; 0 does not clip.", 0.0
)

flags.register_validator(
    "step_epochs",
    lambda epochs: all(epoch.isdigit() for epoch in epochs),
    "--step_epochs must be whole numbers, comma-separated.",
)
flags.register_multi_flags_validator(
    ["epochs", "schedule"],
    lambda values: values["epochs"] != AUTO or values["schedule"] != "step",
    "--schedule=step drops the rate at --step_epochs: give --epochs as a number, or take another "
    "--schedule.",
)


def optimizer() -> OptimizerSettings:
    """What the parsed flags say about the optimizer."""
    return OptimizerSettings(
        name=_OPTIMIZER.value,
        learning_rate=_LEARNING_RATE.value,
        schedule=_SCHEDULE.value,
        warmup_steps=_WARMUP_STEPS.value,
        step_epochs=[int(epoch) for epoch in _STEP_EPOCHS.value],
        weight_decay=_WEIGHT_DECAY.value,
        clip_norm=_CLIP_NORM.value,
    )

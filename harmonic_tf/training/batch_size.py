"""The largest batch that fits into memory, by an estimate of what a train step takes."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from absl import logging

from harmonic_tf.backend import keras, tf, traced
from harmonic_tf.data.example import DetectionData
from harmonic_tf.memory import free_memory
from harmonic_tf.training.building import build_model
from harmonic_tf.training.settings import AUTO, Experiment, SettingsError
from harmonic_tf.training.strategy import hosts_of, mean_of_hosts

LARGEST = 16
"""Larger batches make a step of small data sets no better, and there are fewer of them."""

# Fitted to what benchmarks/batch_memory.py measures: bytes of the program itself, and how many
# bytes a step takes for each that an operation of the forward pass gives. That covers what stands
# between these operations and the gradients on the way back, which are of the same sizes. Sigmoid
# is that of swish, whose gradient needs more than that of a ReLU; Relu6 that of hard swish.
_PROGRAM = 550 * 2**20
_TAKEN = {"Conv2D": 2.0, "DepthwiseConv2dNative": 2.0, "Sigmoid": 2.5, "Relu6": 2.5}
_SHARE = 0.8  # of the memory that is free: the estimate may be too low, and data needs some too

_SLOTS = {"sgd": 1, "sgdw": 1, "adamw": 2, "lamb": 2}
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What a replica takes to train, bytes, by estimate.

    Args:
        fixed: whatever the batch: weights and what is kept for each, and the program.
        per_picture: for each picture of a micro-batch.
    """

    fixed: float
    per_picture: float

    def of(self, pictures: int) -> float:
        """Bytes of a step of so many pictures."""
        return self.fixed + pictures * self.per_picture


def step_memory(
    model: keras.Model, image_size: int, optimizer: str, averaged: bool = False
) -> StepMemory:
    """Estimates what training a detector takes.

    Args:
        model: the detector.
        image_size: side of its square input, pixels.
        optimizer: one of `OPTIMIZERS`.
        averaged: whether moving averages of the weights are kept.
    """
    weights = 4 * sum(math.prod(weight.shape) for weight in model.weights)
    # The weights here and in the detector that is measured, their gradients, and what is kept.
    copies = 3 + _SLOTS[optimizer] + averaged
    return StepMemory(
        fixed=_PROGRAM + copies * weights,
        per_picture=picture_bytes(model, image_size),
    )


def picture_bytes(model: keras.Model, image_size: int) -> float:
    """Bytes that a picture of a batch takes on its way through a network and back.

    Args:
        model: the network, which takes float32 [B, S, S, 3].
        image_size: side S of its input, pixels.
    """
    images = tf.TensorSpec([None, image_size, image_size, 3], tf.float32)
    graph = traced(functools.partial(model, training=True)).get_concrete_function(images).graph
    outputs = [(_TAKEN[o.type], o.outputs[0]) for o in graph.get_operations() if o.type in _TAKEN]
    return sum(taken * math.prod(out.shape[1:]) * out.dtype.size for taken, out in outputs)


def candidates(pictures: int, parts: int) -> list[int]:
    """The batch sizes to choose from.

    Args:
        pictures: of the training split: a batch has at most a quarter of them.
        parts: micro-batches over all replicas, all of which need a picture.

    Returns:
        `parts` and its products with powers of two, up to `LARGEST`; the smallest in any case.
    """
    sizes = [parts]
    while 2 * sizes[-1] <= min(LARGEST, pictures // 4):
        sizes.append(2 * sizes[-1])
    return sizes


def largest_fitting(
    sizes: Sequence[int], parts: int, memory: StepMemory, free: float, strategy
) -> int:
    """The largest batch of which every replica of every host has room for a micro-batch.

    Args:
        sizes: to choose from, smallest first.
        parts: micro-batches that each is cut into.
        memory: what a replica takes.
        free: bytes that a replica of this host has.
        strategy: of the run.

    Raises:
        SettingsError: not even the smallest fits.
    """
    room = _SHARE * free
    fits = mean_of_hosts([memory.of(size // parts) <= room for size in sizes], strategy)
    fitting = [size for size, share in zip(sizes, fits) if share == 1.0]
    if not fitting:
        pictures = sizes[0] // parts
        raise SettingsError(
            f"batch_size = auto: a step of {pictures} picture takes about "
            f"{memory.of(pictures) / _GIB:.1f} GiB, and of the {free / _GIB:.1f} GiB that a "
            f"replica has here it may take {_SHARE:.0%}. Choose a smaller --image_size or a "
            "smaller --backbone, or give --batch_size as a number to try it nevertheless."
        )
    return fitting[-1]


def with_batch_size(
    experiment: Experiment, train: DetectionData, strategy: tf.distribute.Strategy
) -> Experiment:
    """The experiment with a batch size where it leaves that to the memory; says which.

    Args:
        experiment: what to train.
        train: what it is trained on.
        strategy: over which devices and hosts.

    Raises:
        SettingsError: there is not enough memory for a picture.
    """
    if experiment.batch_size != AUTO:
        return experiment
    image_size = max(experiment.data.train_sizes)
    model = build_model(experiment.model, len(train.class_names), image_size)
    averaged = experiment.average_decay is not None
    memory = step_memory(model, image_size, experiment.optimizer.name, averaged)
    parts = strategy.num_replicas_in_sync * experiment.accumulation_steps
    sizes = candidates(len(train.annotations), parts)
    free = replica_memory(strategy)
    chosen = largest_fitting(sizes, parts, memory, free, strategy)
    logging.info(
        "batch_size: %d; a step takes about %.1f of the %.1f GiB that a replica has here.",
        chosen,
        memory.of(chosen // parts) / _GIB,
        free / _GIB,
    )
    return dataclasses.replace(experiment, batch_size=chosen)


def replica_memory(strategy: tf.distribute.Strategy) -> float:
    """Bytes that each replica of this host has: of its GPU; or its share of what is free."""
    if tf.config.list_logical_devices("GPU"):
        with tf.compat.v1.Session(graph=tf.Graph()) as session:
            devices = session.list_devices()
        return min(d.memory_limit_bytes for d in devices if d.device_type == "GPU")
    return free_memory() / (strategy.num_replicas_in_sync // hosts_of(strategy))

"""Training on batches of several picture sizes: one static program for each size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from harmonic_tf.backend import keras, tf, traced


def sizes_vary(iterator: Iterator) -> bool:
    """Whether the sides of an iterator's pictures are known only batch by batch.

    Args:
        iterator: what `fit` draws batches from; pictures come first, or bear the name `images`.
    """
    spec = iterator.element_spec
    if isinstance(spec, dict):
        pictures = spec["images"]
    else:
        pictures = spec[0] if isinstance(spec, tuple) else spec
    # Of several replicas all have the same spec.
    shape = tf.nest.flatten(pictures, expand_composites=True)[0].shape
    return None in shape[1:3]


def train_function_by_size(model: keras.Model) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """A `train_function` that is traced anew for each shape of a batch, with that shape.

    Keras draws the batch inside of its compiled function, where all it knows of a size that varies
    is that it does. Here the batch is drawn first.

    Args:
        model: a compiled model, whose `train_step` returns the same on every replica.

    Returns:
        From an iterator to what the last step has to show; it makes as many steps as `compile` was
        told to make at once.
    """
    strategy = model.distribute_strategy

    def step(batch: Any) -> dict[str, tf.Tensor]:
        logs = strategy.run(model.train_step, args=(batch,))
        return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

    if not model.run_eagerly:
        step = traced(step)

    def train_function(iterator: Iterator) -> dict[str, tf.Tensor]:
        for _ in range(int(model._steps_per_execution.numpy())):
            logs = step(next(iterator))
            model._train_counter.assign_add(1)  # what TensorBoard counts by
        return logs

    return train_function

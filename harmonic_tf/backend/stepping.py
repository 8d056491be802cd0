"""Steps drawn from an iterator one by one: a static program for each size of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from harmonic_tf.backend.libraries import keras, tf, traced


def sizes_vary(iterator: Iterator) -> bool:
    """Whether the sides of an iterator's images are known only batch by batch.

    Args:
        iterator: what `fit` draws batches from; images come first, or bear the name `images`.
    """
    spec = iterator.element_spec
    if isinstance(spec, dict):
        images = spec["images"]
    else:
        images = spec[0] if isinstance(spec, tuple) else spec
    # Of several replicas all have the same spec.
    shape = tf.nest.flatten(images, expand_composites=True)[0].shape
    return None in shape[1:3]


def step_by_step(
    model: keras.Model, step: Callable[[Any], dict[str, tf.Tensor]], steps: int
) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """A function from an iterator to logs that is traced anew for each shape of a batch.

    Keras draws the batch inside of its compiled function, where all it knows of a size that varies
    is that it does. Here the batch is drawn first.

    Args:
        model: a compiled model.
        step: its `train_step` or `test_step`, which returns the same on every replica.
        steps: how many it makes at once.

    Returns:
        From an iterator to what the last step has to show.
    """
    strategy = model.distribute_strategy

    def of_replicas(batch: Any) -> dict[str, tf.Tensor]:
        logs = strategy.run(step, args=(batch,))
        return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

    if not model.run_eagerly:
        of_replicas = traced(of_replicas)

    def function(iterator: Iterator) -> dict[str, tf.Tensor]:
        for _ in range(steps):
            logs = of_replicas(next(iterator))
        return logs

    return function

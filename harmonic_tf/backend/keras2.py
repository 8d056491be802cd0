"""What is Keras 2.15's own way, and what tensorflow-addons adds to it.

`keras3` has the same names for Keras 3; everything else uses them without knowing which it is.
"""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harmonic_tf.backend.libraries import keras, tf, traced
from harmonic_tf.backend.stepping import sizes_vary, step_by_step


class SteppedModel(keras.Model):
    """A model whose `fit` makes its `train_step`s without AutoGraph, one static program per size.

    Its steps return the same on every replica.
    """

    @property
    def weights(self) -> list[tf.Variable]:
        """Keras's, in an order that is the same whatever is frozen.

        Keras lists the trained weights of a layer that holds others before the frozen ones.
        """
        owned = [
            weight
            for layer in self._flatten_layers()
            for weight in (*layer._trainable_weights, *layer._non_trainable_weights)
        ]
        return list({id(weight): weight for weight in owned}.values())

    def make_train_function(self, force: bool = False):
        """Keras's; batches whose images vary in size are given a static program for each size."""
        if self.train_function is not None and not force:
            return self.train_function
        of_one_size, by_size = self._keras_train_function(force), self._train_function_by_size()

        def train_function(iterator: Iterator):
            return by_size(iterator) if sizes_vary(iterator) else of_one_size(iterator)

        self.train_function = train_function
        return train_function

    def _keras_train_function(self, force: bool):
        """Keras's own; where it makes a single step, it is traced here: without AutoGraph."""
        if self.run_eagerly or int(self._steps_per_execution.numpy()) != 1:
            return super().make_train_function(force)
        before, self.run_eagerly = self._run_eagerly, True
        try:
            function = super().make_train_function(force)
        finally:
            self.run_eagerly = before
        return traced(function, reduce_retracing=True)

    def _train_function_by_size(self):
        steps = int(self._steps_per_execution.numpy())
        make_steps = step_by_step(self, self.train_step, steps)

        def train_function(iterator: Iterator):
            logs = make_steps(iterator)
            self._train_counter.assign_add(steps)  # what TensorBoard counts by
            return logs

        return train_function


class OnePassStep:
    """For optimizers of Keras whose `update_step` is written anew, as `move`.

    Args:
        **kwargs: of the optimizer.
    """

    def __init__(self, **kwargs: Any):
        # XLA's own clusters do not go together with strategies.
        super().__init__(**{**kwargs, "jit_compile": False})

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Moves one variable, after its decay."""
        self.move(gradient, variable, self.learning_rate)

    def move(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Moves one variable along its gradient.

        Args:
            gradient: dense or sparse, of the variable's shape.
            variable: a copy of the weight on one device.
            learning_rate: of this step.
        """
        super().update_step(gradient, variable)

    def place_of(self, variable: tf.Variable) -> int:
        """The place of a variable in the optimizer's lists of what it keeps for each."""
        return self._index_dict[self._var_key(variable)]


def value_of(weight: tf.Variable) -> tf.Variable:
    """The variable of TensorFlow that holds a weight, on each replica its own copy."""
    return weight


@contextlib.contextmanager
def before_each_weight(call: Callable[[Sequence[int]], None]) -> Iterator[None]:
    """Inside the block, `call` gets the shape of each weight of a layer before it is allocated.

    Args:
        call: may raise, then the weight is not made.
    """

    def creator(make, **kwargs):
        call(tuple(kwargs["shape"] or ()))
        return make(**kwargs)

    with tf.variable_creator_scope(creator):
        yield


def name_of(weight: tf.Variable) -> str:
    """A weight's name, which says where in the model it is."""
    return weight.name.partition(":")[0]


def layers_in(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers of a model: nested models, blocks and their attributes included."""
    return [module for module in model.submodules if isinstance(module, keras.layers.Layer)]


def fuse_batch_norms(model: keras.layers.Layer) -> None:
    """Makes batch normalization a single operation in training, where it is not by itself.

    Args:
        model: nested layers included. Masks, renormalization and axes other than the last of
            [B, H, W, C] stay Keras's.
    """


def state_of(model: keras.Model) -> Any:
    """A model's weights, as `tf.train.Checkpoint` saves them."""
    return model


def mean_over_replicas(values: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """What a step wrote into running statistics, as it is to be kept. In a replica context.

    Here each replica keeps its own, which are averaged when they are read.
    """
    return values


def without_loss_scaling(
    optimizer: keras.optimizers.Optimizer,
) -> tuple[keras.optimizers.Optimizer, float, int | None]:
    """Takes a `LossScaleOptimizer` apart.

    Returns:
        The optimizer inside, or the one given; the scale to start from, 1 where there is none; and
        after how many good steps it grows, None where it never does.
    """
    if not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        return optimizer, 1.0, None
    growth_steps = optimizer.dynamic_growth_steps if optimizer.dynamic else None
    return (
        optimizer.inner_optimizer,
        float(optimizer.initial_scale or optimizer.loss_scale),
        growth_steps,
    )


def build_optimizer_state(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[tf.Variable]
) -> None:
    """Makes an optimizer's variables now, so that a checkpoint finds them."""
    if isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        optimizer._create_all_weights(variables)
    else:
        optimizer.build(variables)


def apply_summed(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[tf.Variable],
) -> None:
    """Applies gradients that are summed over replicas already. In a replica context.

    Args:
        optimizer: its clipping and decay are part of the step.
        gradients: one per variable, the same on all replicas.
        variables: what to move.
    """
    optimizer.apply_gradients(zip(gradients, variables), experimental_aggregate_gradients=False)


def lamb(**kwargs: Any) -> keras.optimizers.Optimizer:
    """LAMB, of tensorflow-addons.

    Args:
        **kwargs: `learning_rate`, `weight_decay`, `global_clipnorm`; `not_decayed`, patterns of
            the names of variables that are neither decayed nor scaled by the ratio of norms.

    Source: You et al., arXiv 1904.00962.
    """
    not_decayed = kwargs.pop("not_decayed")
    lamb = tensorflow_addons().optimizers.LAMB
    return lamb(exclude_from_weight_decay=not_decayed, **kwargs)


def warped(image: tf.Tensor, rows: tf.Tensor, fill: float) -> tf.Tensor:
    """An image seen through an affine map, bilinear.

    Args:
        image: float32 [H, W, C].
        rows: float32 [6], the two rows of the map from a new pixel (x, y, 1) to an old one.
        fill: value of what lies outside.

    Returns:
        Float32 [H, W, C].
    """
    return tensorflow_addons().image.transform(
        image, tf.pad(rows, [[0, 2]]), interpolation="bilinear", fill_value=fill
    )


def tensorflow_addons() -> types.ModuleType:
    """Imports tensorflow-addons without its notice, for functions that cannot do without it.

    That no further version will come is nothing a user of this one can act on.

    Raises:
        ImportError: it is not there: it has no wheels past Python 3.11.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*TensorFlow Addons \(TFA\) has ended", UserWarning)
        import tensorflow_addons as tfa
    return tfa

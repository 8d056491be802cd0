"""What is Keras 3's own way; the names are those of `keras2`, which says what each is for.

Keras 3 wraps the variables of TensorFlow and knows little of strategies. `keras.src` and names that
begin with an underscore are not promised by it: setup.cfg says up to which version they are there.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras.src.backend.common import global_state

from harmonic_tf.backend.libraries import keras, tf
from harmonic_tf.backend.stepping import step_by_step


class SteppedModel(keras.Model):
    """A model whose `fit` and `evaluate` make its steps one by one.

    Keras's own would average the logs of several hosts over an axis that scalars do not have.
    """

    def make_train_function(self, force: bool = False):
        """Makes what `fit` calls."""
        if self.train_function is None or force:
            self.train_function = step_by_step(self, self.train_step, self.steps_per_execution)
        return self.train_function

    def make_test_function(self, force: bool = False):
        """Makes what `evaluate` calls."""
        if self.test_function is None or force:
            self.test_function = step_by_step(self, self.test_step, self.steps_per_execution)
        return self.test_function

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: all is built. Keras would draw a batch that is not trained on."""


class OnePassStep:
    """See `keras2.OnePassStep`."""

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Moves one variable, after its decay."""
        self.move(gradient, variable, learning_rate)

    def move(self, gradient, variable, learning_rate) -> None:
        """Moves one variable along its gradient."""
        super().update_step(gradient, variable, learning_rate)

    def place_of(self, variable: tf.Variable) -> int:
        """The place of a variable in the optimizer's lists of what it keeps for each."""
        return self._get_variable_index(variable)


def value_of(weight: keras.Variable | tf.Variable) -> tf.Variable:
    """A weight is a wrapper around the variable, which strategies and checkpoints do not know."""
    return weight.value if isinstance(weight, keras.Variable) else weight


@contextlib.contextmanager
def before_each_weight(call: Callable[[Sequence[int]], None]) -> Iterator[None]:
    """What TensorFlow is asked for has no shape before it is there; Keras's wrapper has."""
    own = keras.Variable._initialize_with_initializer

    def watched(variable, initializer):
        call(variable.shape)
        own(variable, initializer)

    keras.Variable._initialize_with_initializer = watched
    try:
        yield
    except BaseException:
        # Weights that Keras still has to make; it would go on with them at the next model.
        global_state.set_global_attribute("uninitialized_variables", [])
        raise
    finally:
        keras.Variable._initialize_with_initializer = own


def name_of(weight: keras.Variable) -> str:
    """A weight's `name` says nothing of where it is."""
    return weight.path


def layers_in(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Layers are no modules of TensorFlow, which would list what is in them."""
    return list({id(layer): layer for layer in model._flatten_layers()}.values())


def fuse_batch_norms(model: keras.layers.Layer) -> None:
    """Keras writes each as a dozen operations that visit every activation; TensorFlow has one."""
    for layer in layers_in(model):
        if type(layer) is keras.layers.BatchNormalization and "call" not in vars(layer):
            layer.call = functools.partial(_fused_batch_norm, layer, layer.call)


def _fused_batch_norm(layer, unfused, inputs, training=None, mask=None):
    """What a layer of batch normalization calls; only what is trained differs from `unfused`."""
    fusible = (
        layer.trainable
        and mask is None
        and len(inputs.shape) == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not (layer.renorm or layer.synchronized)
    )
    if not (training and fusible):
        return unfused(inputs, training=training, mask=mask)
    outputs, *statistics = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        tf.cast(layer.gamma.value, tf.float32),
        tf.cast(layer.beta.value, tf.float32),
        epsilon=layer.epsilon,
    )
    for moving, of_batch in zip((layer.moving_mean, layer.moving_variance), statistics):
        moving.assign(layer.momentum * moving + (1.0 - layer.momentum) * of_batch)
    return outputs


def state_of(model: keras.Model) -> tf.train.Checkpoint:
    """The variables themselves: of a model, TensorFlow misses weights of nested ones in silence."""
    named = enumerate(model.weights)  # paths count the models that were built before
    return tf.train.Checkpoint(
        weights={f"{place}_{weight.name}": value_of(weight) for place, weight in named}
    )


def mean_over_replicas(values: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """Running statistics are not averaged when read: each replica would go on with its own."""
    context = tf.distribute.get_replica_context()
    if not values or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.identity(v) for v in values])


def without_loss_scaling(
    optimizer: keras.optimizers.Optimizer,
) -> tuple[keras.optimizers.Optimizer, float, int | None]:
    """A `LossScaleOptimizer` is always dynamic."""
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer, 1.0, None
    return (
        optimizer.inner_optimizer,
        float(optimizer.initial_scale),
        optimizer.dynamic_growth_steps,
    )


def build_optimizer_state(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> None:
    """Makes the variables; gradients will not be summed over replicas again, see `apply_summed`."""
    optimizer.build(variables)
    optimizer._all_reduce_sum_gradients = list


def apply_summed(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
) -> None:
    """Keras clips, and then sums: what is summed already would be clipped to another length."""
    optimizer.apply(gradients, variables)


@keras.saving.register_keras_serializable(package="harmonic_tf")
class LAMB(keras.optimizers.Lamb):
    """Keras's Lamb, whose decay is scaled by the ratio of norms, as in the paper.

    Args:
        not_decayed: patterns of the names of variables that are neither decayed nor scaled.
        epsilon: as in tensorflow-addons.
        **kwargs: see `keras.optimizers.Lamb`.
    """

    def __init__(self, not_decayed: Sequence[str] = (), epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(epsilon=epsilon, **kwargs)
        self.not_decayed = list(not_decayed)
        self.exclude_from_weight_decay(var_names=self.not_decayed)

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Does nothing here: `update_step` decays."""

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Moves one variable."""
        place = self._get_variable_index(variable)
        momentum, velocity = self._momentums[place].value, self._velocities[place].value
        step = tf.cast(self.iterations + 1, variable.dtype)
        momentum.assign_add((gradient - momentum) * (1.0 - self.beta_1))
        velocity.assign_add((tf.square(gradient) - velocity) * (1.0 - self.beta_2))
        mean = momentum / (1.0 - tf.pow(self.beta_1, step))
        deviation = tf.sqrt(velocity / (1.0 - tf.pow(self.beta_2, step))) + self.epsilon
        update, ratio = mean / deviation, 1.0
        if self._use_weight_decay(variable):
            update += (self.weight_decay or 0.0) * variable
            weight_norm, update_norm = tf.norm(variable), tf.norm(update)
            both = (weight_norm > 0.0) & (update_norm > 0.0)
            ratio = tf.where(both, tf.math.divide_no_nan(weight_norm, update_norm), 1.0)
        variable.assign_sub(tf.cast(learning_rate, variable.dtype) * ratio * update)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "not_decayed": self.not_decayed}


lamb = LAMB


def warped(image: tf.Tensor, rows: tf.Tensor, fill: float) -> tf.Tensor:
    """TensorFlow's own operation, which tensorflow-addons calls too."""
    seen = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.pad(rows, [[0, 2]])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=fill,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return seen[0]

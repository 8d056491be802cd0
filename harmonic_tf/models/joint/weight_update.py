"""How reduced gradients change the weights: once, together, and only if they are finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harmonic_tf.backend import (
    apply_summed,
    build_optimizer_state,
    keras,
    name_of,
    tf,
    value_of,
    without_loss_scaling,
)

# What the loss scale is multiplied by after enough good steps, and divided by after a bad one.
SCALE_STEP = 2.0

# What goes on from one update to another, besides the averages.
_STATE = ("checks", "attempted", "skipped", "skipped_in_row", "good_steps", "loss_scale")


class WeightUpdate(tf.Module):
    """Applies gradients to variables, skips steps that are not finite, and averages the weights.

    Works inside `strategy.run` of any strategy of `tf.distribute` whose replicas hold copies of the
    variables. Its variables are training state beside those of model and optimizer:

    * `checks`: bool, which of the checks of the last step were passed.
    * `attempted`, `skipped`, `skipped_in_row`: int64 counts of steps.
    * `loss_scale`: float32, what the loss is multiplied by before it is differentiated.
    * `good_steps`: int64, steps since the loss scale last changed.
    * `averages`: float32, moving averages of `variables`; empty without `average_decay`.

    Args:
        optimizer: a Keras optimizer, of the new or the legacy kind. A `LossScaleOptimizer` is
            taken apart: what it wraps is applied, its scale is the one that is kept here.
        variables: what to update.
        checks: how many things of a step are checked.
        average_decay: weight of the old average in the new one, in [0, 1); None does not average.
        factors: one per variable: how far it moves of what the optimizer moves it, in (0, 1]. Where
            steps are in proportion to the learning rate, decay included, that is a learning rate
            of its own. None: all move as far as the optimizer says.

    Source: loss scaling as in Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[tf.Variable],
        checks: int,
        average_decay: float | None = None,
        factors: Sequence[float] | None = None,
    ):
        super().__init__(name="weight_update")
        self.optimizer, initial_scale, self._growth_steps = without_loss_scaling(optimizer)
        self._variables = list(variables)
        self._factors = tuple(factors or [1.0] * len(self._variables))
        self.checks = tf.Variable([True] * checks, trainable=False, name="checks")
        self.attempted = _counter("attempted")
        self.skipped = _counter("skipped")
        self.skipped_in_row = _counter("skipped_in_row")
        self.good_steps = _counter("good_steps")
        self.loss_scale = tf.Variable(initial_scale, trainable=False, name="loss_scale")
        self.average_decay = average_decay
        self.averages = [
            tf.Variable(value_of(variable), trainable=False, name=f"average/{name_of(variable)}")
            for variable in (variables if average_decay is not None else ())
        ]
        build_optimizer_state(self.optimizer, self._variables)

    def averages_by_variable(self) -> dict[int, tf.Variable]:
        """The moving average of each variable, by the `id` of the latter."""
        return {id(v): average for v, average in zip(self._variables, self.averages)}

    def go_on_from(self, other: WeightUpdate) -> None:
        """Takes over counts, loss scale and averages. In the strategy scope of the variables.

        Args:
            other: what made the steps before. The averages of variables that it did not move begin
                with their values.
        """
        for name in _STATE:
            getattr(self, name).assign(tf.identity(getattr(other, name)))
        known = other.averages_by_variable()
        for variable, average in self.averages_by_variable().items():
            if variable in known:
                average.assign(tf.identity(known[variable]))

    def apply(self, gradients: Sequence[tf.Tensor], checks: tf.Tensor) -> None:
        """Makes one step, or counts it as skipped. To be called in a replica context.

        Args:
            gradients: one per variable, the same on all replicas: reduced, normalized, without
                the loss scale.
            checks: bool, what of the step is finite, the same on all replicas. The step is made
                if all of it is.
        """
        context = tf.distribute.get_replica_context()
        context.merge_call(self._apply_on_all, args=(list(gradients), checks))

    def _apply_on_all(self, strategy: tf.distribute.Strategy, gradients: Any, checks: Any) -> None:
        """The cross-replica part: here variables may be changed inside of a condition."""
        checks = strategy.experimental_local_results(checks)[0]
        finite = tf.reduce_all(checks)
        self.checks.assign(checks)

        slowed = [(v, factor) for v, factor in zip(self._variables, self._factors) if factor != 1]

        def apply(own_gradients: list[tf.Tensor]) -> list[tf.Tensor]:
            before = [tf.identity(value_of(variable)) for variable, _ in slowed]
            # The variables are not passed as arguments, which would unwrap the mirrored ones.
            apply_summed(self.optimizer, own_gradients, self._variables)
            return before

        def step() -> tf.Tensor:
            before = strategy.extended.call_for_each_replica(apply, args=(gradients,))
            for (variable, factor), old in zip(slowed, before):
                strategy.extended.update(value_of(variable), _shorten, args=(old, factor))
            self._average(strategy)
            return tf.constant(True)

        self.attempted.assign_add(1)
        tf.cond(finite, step, lambda: tf.constant(False))
        failed = tf.cast(~finite, tf.int64)
        self.skipped.assign_add(failed)
        self.skipped_in_row.assign((self.skipped_in_row + 1) * failed)
        if self._growth_steps is not None:
            self._adapt_scale(finite)

    def _average(self, strategy: tf.distribute.Strategy) -> None:
        if not self.averages:
            return
        # Young averages follow more closely, so that they soon forget the initial weights.
        updates = tf.cast(self.attempted - self.skipped, tf.float32)
        rate = 1.0 - tf.minimum(self.average_decay, (1.0 + updates) / (10.0 + updates))
        for average, variable in zip(self.averages, self._variables):
            strategy.extended.update(
                average, lambda a, v: a.assign_add(rate * (v - a)), args=(value_of(variable),)
            )

    def _adapt_scale(self, finite: tf.Tensor) -> None:
        good = tf.where(finite, self.good_steps + 1, 0)
        grow = good >= self._growth_steps
        factor = tf.where(finite, tf.where(grow, SCALE_STEP, 1.0), 1.0 / SCALE_STEP)
        self.loss_scale.assign(self.loss_scale * factor)
        self.good_steps.assign(tf.where(grow, tf.zeros_like(good), good))


def _shorten(variable: tf.Variable, old: tf.Tensor, factor: float) -> tf.Operation:
    """Makes a step a part of what it was."""
    return variable.assign(old + factor * (variable - old))


def _counter(name: str) -> tf.Variable:
    return tf.Variable(
        0,
        trainable=False,
        dtype=tf.int64,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        name=name,
    )

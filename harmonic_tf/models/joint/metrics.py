"""What `fit` and `evaluate` show of a detector: the terms of its loss and what explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harmonic_tf.backend import keras, tf

# Of an update alone: what `evaluate` has none of.
UPDATE_METRICS = ("gradient_norm", "skipped_steps")
# Means over the weight of the positives: metric -> name among the sums.
_OVER_POSITIVES = {"b_r": "b_r", "b_c": "b_c", "mean_iou": "iou"}


class StepMetrics:
    """Running means over the steps of an epoch; a step that is not finite is only counted.

    Args:
        terms: names of the loss's terms.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self._terms = tuple(terms)
        means = [
            "loss",
            *(f"{term}_loss" for term in terms),
            *_OVER_POSITIVES,
            *("positives_per_image", "gradient_norm"),
        ]
        self._metrics = {
            **{name: keras.metrics.Mean(name=name) for name in means},
            "skipped_steps": keras.metrics.Sum(name="skipped_steps"),
        }

    @property
    def all(self) -> list[keras.metrics.Metric]:
        """The Keras metrics, which are reset every epoch."""
        return list(self._metrics.values())

    def update(
        self,
        sums: Mapping[str, tf.Tensor],
        means: Mapping[str, tf.Tensor],
        images: tf.Tensor,
        norm: tf.Tensor | float = 0.0,
        finite: tf.Tensor | bool = True,
    ) -> dict[str, tf.Tensor]:
        """Adds a step. To be called in a replica context.

        Args:
            sums: every term, and what explains it, over the samples of all replicas.
            means: every term as it is to be shown.
            images: this replica's, [B, H, W, 3]; the number is what counts.
            norm: norm of the gradient.
            finite: bool, whether the step was finite.

        Returns:
            The means so far, by name.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        pictures = tf.cast(tf.shape(images)[0] * replicas, tf.float32)
        weights = sums["weights"]
        values = {f"{term}_loss": means[term] for term in self._terms}
        values["loss"] = tf.add_n(list(values.values()))
        values["positives_per_image"] = sums["positives"] / pictures
        values["gradient_norm"] = norm
        for name, key in _OVER_POSITIVES.items():
            values[name] = tf.math.divide_no_nan(sums[key], weights)

        for name, value in values.items():
            weight = weights if name in _OVER_POSITIVES else 1.0
            self._metrics[name].update_state(
                tf.where(finite, value, 0.0), sample_weight=tf.where(finite, weight, 0.0)
            )
        self._metrics["skipped_steps"].update_state(tf.where(finite, 0.0, 1.0 / replicas))
        return {name: metric.result() for name, metric in self._metrics.items()}

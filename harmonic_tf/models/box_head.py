"""The second stage of a two-stage detector: what is in a region, and where exactly."""

from __future__ import annotations

from typing import Any

from harmonic_tf.backend import keras, tf


@keras.saving.register_keras_serializable(package="harmonic_tf")
class BoxHead(keras.layers.Layer):
    """Class logits and offsets of every region, from its features.

    One box for all classes, so that a region is a sample like any other: one box with a score for
    each class.

    Args:
        num_classes: number of classes C.
        units: width of the two hidden layers.

    Source: arXiv 1612.03144, section 4.2; initial values as in Girshick, "Fast R-CNN",
    arXiv 1504.08083, section 4.
    """

    def __init__(self, num_classes: int, units: int = 1024, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.units = units
        self.hidden = [
            keras.layers.Dense(
                units, activation="relu", kernel_initializer="he_normal", name=f"hidden_{index}"
            )
            for index in range(2)
        ]
        last = {"classes": (num_classes, 0.01), "background": (1, 0.01), "offsets": (4, 0.001)}
        self.classes, self.background, self.offsets = (
            keras.layers.Dense(
                outputs, kernel_initializer=keras.initializers.RandomNormal(stddev=d), name=output
            )
            for output, (outputs, d) in last.items()
        )

    @property
    def last(self) -> list[keras.layers.Layer]:
        """The layers that give the outputs."""
        return [self.classes, self.background, self.offsets]

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Predicts.

        Args:
            features: [B, N, size, size, channels].

        Returns:
            Logits [B, N, C + 1], the background's last, and offsets [B, N, 4].
        """
        _, count, height, width, channels = features.shape
        hidden = tf.reshape(features, [-1, count, height * width * channels])
        for layer in self.hidden:
            hidden = layer(hidden)
        logits = tf.concat([self.classes(hidden), self.background(hidden)], axis=-1)
        return logits, self.offsets(hidden)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes, "units": self.units}

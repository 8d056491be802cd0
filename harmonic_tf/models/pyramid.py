"""The feature pyramid, and RetinaNet's prediction heads on it.

They differ from keras-cv's in what training from scratch and compilation need: initial values,
width and depth to choose, and an upsampling that XLA has.
"""

from __future__ import annotations

from typing import Any

from harmonic_tf.backend import keras, tf
from harmonic_tf.models.cosine import CosineConv2D
from harmonic_tf.models.prior import bias_of

COARSEST = 5  # of a backbone's levels, P5
COUNT = 5  # of a pyramid's levels


def _upsample(features: tf.Tensor) -> tf.Tensor:
    """Nearest-neighbour enlargement by two; its gradient compiles under XLA."""
    return tf.repeat(tf.repeat(features, 2, axis=1), 2, axis=2)


@keras.saving.register_keras_serializable(package="harmonic_tf")
class FeaturePyramid(keras.layers.Layer):
    """Five levels of equally wide features from the last ones of a backbone.

    Args:
        channels: width of every level.
        finest: the finest level, 2 or 3: P2 to P6, or P3 to P7.
        pooled: whether levels beyond the backbone's are every other place of the level below; else
            they are convolutions, the first of the backbone's P5.

    Source: Lin et al., arXiv 1612.03144, pooled; the convolutions as in arXiv 1708.02002.
    """

    def __init__(self, channels: int = 256, finest: int = 3, pooled: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.finest = finest
        self.pooled = pooled
        of_backbone = [f"P{level}" for level in range(finest, COARSEST + 1)]
        self._coarser = [f"P{level}" for level in range(COARSEST + 1, finest + COUNT)]
        self.lateral = {
            level: keras.layers.Conv2D(channels, 1, name=f"lateral_{level}")
            for level in of_backbone
        }
        self.smooth = {
            level: keras.layers.Conv2D(channels, 3, padding="same", name=f"smooth_{level}")
            for level in of_backbone
        }
        # In float32: TensorFlow 2.15 on a CPU leaves parts of the gradient of a bfloat16 kernel
        # with stride 2 unset where its input is one pixel. These levels are small.
        self.coarse = {
            level: keras.layers.Conv2D(
                channels, 3, strides=2, padding="same", dtype="float32", name=f"coarse_{level}"
            )
            for level in ([] if pooled else self._coarser)
        }

    def call(self, features: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """Builds the levels.

        Args:
            features: of the backbone, `P5` and finer up to the finest, [B, H/32, W/32, .] and so
                on.

        Returns:
            Of every level, finest first, [B, H / 2**level, W / 2**level, channels].
        """
        merged: dict[str, tf.Tensor] = {}
        for level in reversed(self.lateral):
            lateral = self.lateral[level](features[level])
            above = list(merged.values())[-1:]
            merged[level] = lateral + _upsample(above[0]) if above else lateral
        coarse = [] if self.pooled else self._convolved(features[f"P{COARSEST}"])
        levels = [smooth(merged[level]) for level, smooth in self.smooth.items()]
        if self.pooled:
            for _ in self._coarser:
                levels.append(levels[-1][:, ::2, ::2])
        return levels + coarse

    def _convolved(self, features: tf.Tensor) -> list[tf.Tensor]:
        levels = []
        for convolution in self.coarse.values():
            levels.append(convolution(tf.nn.relu(levels[-1]) if levels else features))
        return levels

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"channels": self.channels, "finest": self.finest, "pooled": self.pooled}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="harmonic_tf")
class PredictionHead(keras.layers.Layer):
    """A small convolutional net, the same for all pyramid levels, that predicts per cell.

    Args:
        outputs: numbers to predict per cell.
        prior: probability that the outputs' sigmoid starts from; None starts at 0.
        channels: width of the hidden layers.
        depth: number of hidden layers.
        cosine: whether the last layer is a `CosineConv2D`.

    Source: arXiv 1708.02002, section 4.1: last layer from N(0, 0.01), prior 0.01 for class scores.
    Hidden layers start as in He et al., arXiv 1502.01852.
    """

    def __init__(
        self,
        outputs: int,
        prior: float | None = None,
        channels: int = 256,
        depth: int = 4,
        cosine: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.outputs = outputs
        self.prior = prior
        self.channels = channels
        self.depth = depth
        self.cosine = cosine
        self.hidden = [
            keras.layers.Conv2D(
                channels,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"hidden_{index}",
            )
            for index in range(depth)
        ]
        bias = 0.0 if prior is None else bias_of(prior)
        convolution = CosineConv2D if cosine else keras.layers.Conv2D
        self.prediction = convolution(
            outputs,
            3,
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(bias),
            name="prediction",
        )

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Predicts for every cell of one level: [B, h, w, channels] to [B, h, w, outputs]."""
        for layer in self.hidden:
            features = layer(features)
        return self.prediction(features)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "outputs": self.outputs,
            "prior": self.prior,
            "channels": self.channels,
            "depth": self.depth,
            "cosine": self.cosine,
        }

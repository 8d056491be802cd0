"""RetinaNet's own parts: the feature pyramid and the prediction heads.

Both follow arXiv 1708.02002; they differ from keras-cv's in what training from scratch and
compilation need: initial values, width and depth to choose, and an upsampling that XLA has.
"""

from __future__ import annotations

from typing import Any

from harmonic_tf.backend import keras, tf
from harmonic_tf.models.cosine import CosineConv2D
from harmonic_tf.models.prior import bias_of

LEVELS = ("P3", "P4", "P5", "P6", "P7")


def _upsample(features: tf.Tensor) -> tf.Tensor:
    """Nearest-neighbour enlargement by two; its gradient compiles under XLA."""
    return tf.repeat(tf.repeat(features, 2, axis=1), 2, axis=2)


@keras.saving.register_keras_serializable(package="harmonic_tf")
class FeaturePyramid(keras.layers.Layer):
    """Five levels of equally wide features from the last three of a backbone.

    Args:
        channels: width of every level.

    Source: Lin et al., arXiv 1612.03144; P6 and P7 from C5 as in arXiv 1708.02002.
    """

    def __init__(self, channels: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.lateral = {
            level: keras.layers.Conv2D(channels, 1, name=f"lateral_{level}") for level in LEVELS[:3]
        }
        self.smooth = {
            level: keras.layers.Conv2D(channels, 3, padding="same", name=f"smooth_{level}")
            for level in LEVELS[:3]
        }
        # In float32: TensorFlow 2.15 on a CPU leaves parts of the gradient of a bfloat16 kernel
        # with stride 2 unset where its input is one pixel. These levels are small.
        self.coarse = {
            level: keras.layers.Conv2D(
                channels, 3, strides=2, padding="same", dtype="float32", name=f"coarse_{level}"
            )
            for level in LEVELS[3:]
        }

    def call(self, features: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """Builds the levels.

        Args:
            features: `P3`, `P4`, `P5` of the backbone, [B, H/8, W/8, .] and so on.

        Returns:
            P3 to P7, [B, H / 2**level, W / 2**level, channels].
        """
        p5 = self.lateral["P5"](features["P5"])
        p4 = self.lateral["P4"](features["P4"]) + _upsample(p5)
        p3 = self.lateral["P3"](features["P3"]) + _upsample(p4)
        p6 = self.coarse["P6"](features["P5"])
        p7 = self.coarse["P7"](tf.nn.relu(p6))
        finer = zip(LEVELS, (p3, p4, p5))
        return [*(self.smooth[level](feature) for level, feature in finer), p6, p7]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


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

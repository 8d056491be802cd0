"""A backbone with as few layers as one can have: tests wait for what is traced and compiled."""

import json

from harmonic_tf.backend import keras, keras_cv

SIZE = 64


@keras.saving.register_keras_serializable(package="harmonic_tf_tests")
class TinyBackbone(keras_cv.models.Backbone):
    """A convolution, a batch normalization and a swish for each of P3 to P5; pixels from 0 to 255.

    Args:
        channels: width of every level.
        image_size: side of the input, pixels; None leaves it open.
        **kwargs: of `keras.Model`.
    """

    def __init__(self, channels=8, image_size=SIZE, **kwargs):
        layers = keras.layers
        images = layers.Input((image_size, image_size, 3))
        features, names = layers.Rescaling(1 / 255)(images), {}
        for level, stride in (("P3", 8), ("P4", 2), ("P5", 2)):
            options = {"padding": "same", "use_bias": False, "name": f"{level}_conv"}
            features = layers.Conv2D(channels, stride + 1, stride, **options)(features)
            features = layers.BatchNormalization(name=f"{level}_bn")(features)
            names[level] = f"{level}_swish"
            features = layers.Activation("swish", name=names[level])(features)
        super().__init__(inputs=images, outputs=features, **kwargs)
        self.pyramid_level_inputs = names
        self.channels = channels
        self.image_size = image_size

    def get_config(self):
        return {"channels": self.channels, "image_size": self.image_size, "name": self.name}


def preset_of(backbone, folder):
    """The value of --backbone that builds one like this, untrained, from what is written there."""
    config = {**keras.saving.serialize_keras_object(backbone), "weights": None}
    (folder / "config.json").write_text(json.dumps(config))
    return f"preset:{folder}"

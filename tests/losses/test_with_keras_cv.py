"""The box loss inside a stock detector of keras-cv."""

import numpy as np

from harmonic_tf.backend import keras, keras_cv, tf
from harmonic_tf.losses import HarmonicIoULoss
from tests.tiny import TinyBackbone


def test_yolov8_of_keras_cv_trains_with_the_harmonic_iou_loss():
    keras.utils.set_random_seed(0)
    model = keras_cv.models.YOLOV8Detector(
        num_classes=2, bounding_box_format="xyxy", backbone=TinyBackbone(16), fpn_depth=1
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        box_loss=HarmonicIoULoss(),
        classification_loss="binary_crossentropy",
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    labels = {
        "boxes": np.float32([[[5, 5, 30, 40]], [[20, 10, 60, 60]]]),
        "classes": np.float32([[0], [1]]),
    }
    data = tf.data.Dataset.from_tensors((images, labels)).repeat(4)
    history = model.fit(data, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["box_loss"]))
    assert history["box_loss"][0] > 0
    assert history["loss"][1] < history["loss"][0]

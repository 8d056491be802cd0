"""A compiled detector, as small as they come."""

import pytest

from harmonic_tf.backend import keras
from harmonic_tf.data import sources
from harmonic_tf.data.scenes.rendering import render
from harmonic_tf.models import HarmonicRetinaNet
from harmonic_tf.training.optimizers import build_optimizer
from harmonic_tf.training.settings import OptimizerSettings
from tests.tiny import TinyBackbone

KNOWN = ["star", "ring", "blob"]
"""Classes that `splits` is seen by: three of the six that scenes have."""


@pytest.fixture(scope="session")
def splits(tmp_path_factory):
    """Two splits of six scenes each, with the objects of `KNOWN`."""
    folder = tmp_path_factory.mktemp("scenes")
    for seed, split in enumerate(("val", "test")):
        render(str(folder / split), 6, seed, (64, 64))
    return [sources.load(f"scenes:{folder}", split, KNOWN, "skip") for split in ("val", "test")]


@pytest.fixture(scope="session")
def tiny_detector():
    """Function that builds one: its seed, width, optimizer, and what `compile` takes."""

    def build(seed=0, channels=8, optimizer="adamw", **compile_arguments):
        keras.utils.set_random_seed(seed)
        model = HarmonicRetinaNet(TinyBackbone(), 3, "xyxy", channels=channels, head_depth=0)
        settings = OptimizerSettings(
            name=optimizer,
            learning_rate=0.01,
            schedule="cosine",
            warmup_steps=0,
            step_epochs=(),
            weight_decay=1e-4,
            clip_norm=10.0,
        )
        model.compile(
            build_optimizer(settings, epochs=1, steps_per_epoch=10),
            **{"average_decay": 0.9, **compile_arguments},
        )
        return model

    return build

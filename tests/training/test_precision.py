"""Which precision is picked on which machine."""

import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.training import precision


@pytest.fixture
def machine(monkeypatch):
    """A machine with the given CPU features and GPUs, by compute capability."""

    def build(features=(), gpus=()):
        monkeypatch.setattr(precision, "_cpu_features", lambda: set(features))
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: list(gpus))
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda capability: {"compute_capability": capability},
        )

    return build


@pytest.mark.parametrize(
    "features, gpus, expected",
    [
        (["avx2"], [], "float32"),
        (["avx512_bf16"], [], "mixed_bfloat16"),
        (["amx_bf16", "avx2"], [], "mixed_bfloat16"),
        (["amx_bf16"], [(7, 5)], "mixed_float16"),
        (["amx_bf16"], [(6, 1)], "float32"),
        ([], [(8, 0)], "mixed_bfloat16"),
        ([], [(9, 0), (9, 0)], "mixed_bfloat16"),
        ([], [(9, 0), (7, 0)], "mixed_float16"),
        ([], [(9, 0), (6, 1)], "float32"),
    ],
)
def test_auto(machine, features, gpus, expected):
    machine(features, gpus)
    assert precision.resolve_precision("auto") == expected


def test_what_is_named_is_taken(machine):
    machine(["amx_bf16"])
    assert precision.resolve_precision("float32") == "float32"


def test_set_precision_sets_keras():
    try:
        assert precision.set_precision("mixed_bfloat16") == "mixed_bfloat16"
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        assert precision.set_precision("float32") == "float32"

"""Which precision is picked, by what was measured on the machine."""

import json
import os

import pytest

from harmonic_tf.backend import keras, tf
from harmonic_tf.training import precision


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "harmonic_tf" / "precision.json"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"float32": 1.0}, "float32"),
        ({"float32": 1.0, "mixed_bfloat16": 0.5}, "mixed_bfloat16"),
        ({"float32": 1.0, "mixed_bfloat16": 1.4}, "float32"),
        ({"float32": 1.0, "mixed_bfloat16": 0.98}, "float32"),  # may be noise
        ({"float32": 1.0, "mixed_bfloat16": 0.5, "mixed_float16": 0.49}, "mixed_bfloat16"),
        ({"float32": 1.0, "mixed_bfloat16": 0.5, "mixed_float16": 0.3}, "mixed_float16"),
        ({"float32": 1.0, "mixed_bfloat16": 2.0, "mixed_float16": 0.5}, "mixed_float16"),
        ({"float32": 1.0, "mixed_float16": 0.5}, "mixed_float16"),  # an older GPU
        ({"float32": 1.0, "mixed_bfloat16": float("inf")}, "float32"),
    ],
)
def test_the_fastest_is_taken_if_it_is_clearly_so(seconds, expected):
    assert precision.fastest(seconds) == expected


def test_auto_times_this_machine_once(cache, monkeypatch):
    first = precision.resolve_precision("auto")
    (seconds,) = json.loads(cache.read_text()).values()
    assert set(seconds) == {"float32", "mixed_bfloat16"}
    assert all(0 < value < 60 for value in seconds.values())
    assert first == precision.fastest(seconds)
    monkeypatch.setattr(precision, "measure", lambda: pytest.fail("timed again"))
    assert precision.resolve_precision("auto") == first


def test_another_machine_or_version_is_timed_anew(cache, monkeypatch):
    times = iter([{"float32": 1.0, "mixed_bfloat16": 0.5}, {"float32": 1.0, "mixed_bfloat16": 2.0}])
    monkeypatch.setattr(precision, "measure", lambda: next(times))
    assert precision.resolve_precision("auto") == "mixed_bfloat16"
    monkeypatch.setattr(tf, "__version__", "9.9.9")
    assert precision.resolve_precision("auto") == "float32"
    assert len(json.loads(cache.read_text())) == 2  # both are kept
    monkeypatch.undo()


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', '{"x": {"float32": "a"}}', "{", "\xff"])
def test_a_damaged_cache_is_as_good_as_none(cache, monkeypatch, content):
    cache.parent.mkdir()
    cache.write_text(content, encoding="latin-1")
    monkeypatch.setattr(precision, "measure", lambda: {"float32": 1.0, "mixed_bfloat16": 0.5})
    assert precision.resolve_precision("auto") == "mixed_bfloat16"
    assert list(json.loads(cache.read_text()).values()) == [{"float32": 1.0, "mixed_bfloat16": 0.5}]


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(precision, "measure", lambda: {"float32": 1.0, "mixed_bfloat16": 0.5})
    assert precision.resolve_precision("auto") == "mixed_bfloat16"


def test_a_precision_that_the_device_has_not_is_left_out(monkeypatch):
    sample = precision._sample_step

    def refusing(policy):
        if policy == "mixed_bfloat16":
            raise tf.errors.UnimplementedError(None, None, "no kernel")
        return sample(policy)

    monkeypatch.setattr(precision, "_sample_step", refusing)
    assert set(precision.measure()) == {"float32"}


def test_all_hosts_decide_alike(monkeypatch):
    others = {"float32": 1.0, "mixed_bfloat16": 0.5}
    monkeypatch.setattr(precision, "measured", lambda: {"float32": 1.0, "mixed_bfloat16": 2.0})
    monkeypatch.setattr(precision, "mean_of_hosts", lambda mine, strategy: list(others.values()))
    strategy = tf.distribute.get_strategy()
    assert precision.resolve_precision("auto", strategy) == "mixed_bfloat16"


def test_what_is_named_is_taken(monkeypatch):
    monkeypatch.setattr(precision, "measure", lambda: pytest.fail("timed"))
    assert precision.resolve_precision("float32") == "float32"


def test_set_precision_sets_keras():
    try:
        assert precision.set_precision("mixed_bfloat16") == "mixed_bfloat16"
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        assert precision.set_precision("float32") == "float32"


def test_the_machine_is_named_by_what_it_can_do():
    machine = precision._machine()
    assert tf.__version__ in machine and "cores" in machine
    assert os.linesep not in machine

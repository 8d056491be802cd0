"""Which number format the network computes in. Targets, losses and boxes stay in float32.

What is faster is measured, not looked up: a processor may have instructions for bfloat16 and still
be slower with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping

from absl import logging

from harmonic_tf.backend import keras, tf, traced
from harmonic_tf.files import write_text
from harmonic_tf.models.activations import fused_swish
from harmonic_tf.training.strategy import mean_of_hosts

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

# What another format than float32 has to gain to be taken, and float16, whose loss has to be
# scaled, over bfloat16.
_GAIN = 1.05
_ROUNDS = 8
_SECONDS = 1.0  # for all rounds together; a format that is far slower has fewer
_SIDE, _BATCH = 64, 4  # of the images that are timed

Seconds = Mapping[str, float]
"""Seconds of a step by precision, `"float32"` among them."""


def resolve_precision(precision: str, strategy: tf.distribute.Strategy | None = None) -> str:
    """Names the precision policy to use on this machine.

    Args:
        precision: one of `PRECISIONS`; `"auto"` takes the one in which a few convolutions, forward
            and backward, are fastest here; float32 unless another one is clearly so.
        strategy: where several hosts have to take the same: theirs.

    Returns:
        `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
    """
    if precision != "auto":
        return precision
    seconds = measured()
    if strategy is not None:
        seconds = dict(zip(seconds, mean_of_hosts(list(seconds.values()), strategy)))
    chosen = fastest(seconds)
    times = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in seconds.items())
    logging.info("Precision: %s, by a step of sample convolutions: %s.", chosen, times)
    return chosen


def set_precision(precision: str, strategy: tf.distribute.Strategy | None = None) -> str:
    """Makes layers built from now on compute in a precision.

    Args:
        precision: one of `PRECISIONS`.
        strategy: see `resolve_precision`.

    Returns:
        The name of the policy that is now in force.
    """
    policy = resolve_precision(precision, strategy)
    keras.mixed_precision.set_global_policy(policy)
    return policy


def fastest(seconds: Seconds) -> str:
    """The precision to take: the fastest, if it is clearly faster than those before it.

    Args:
        seconds: of a step, float32 first, the one with a loss scale last.
    """
    chosen = "float32"
    for name, value in seconds.items():
        if value * _GAIN < seconds[chosen]:
            chosen = name
    return chosen


def measured() -> Seconds:
    """Seconds of a step in each precision, from the cache where this machine was timed before.

    The cache is a file `precision.json` in `~/.cache/harmonic_tf` (`$XDG_CACHE_HOME`), with an
    entry for each kind of processor or GPU, number of cores and version of TensorFlow.
    """
    file, key = _cache_file(), _machine()
    known = _read(file)
    if key not in known:
        known[key] = measure()
        with contextlib.suppress(OSError):  # timed again the next time
            os.makedirs(os.path.dirname(file), exist_ok=True)
            write_text(file, json.dumps({**_read(file), key: known[key]}, indent=2) + "\n")
    return known[key]


def measure() -> Seconds:
    """Times a step of sample convolutions in each precision that the device can do, in turns.

    Returns:
        The least seconds of each, float32 first.
    """
    names = ["float32", "mixed_bfloat16"]
    if tf.config.list_logical_devices("GPU"):
        names.append("mixed_float16")  # the CPU's kernels for it convert to and fro
    steps = {}
    for name in names:
        with contextlib.suppress(tf.errors.OpError, NotImplementedError):
            steps[name] = _sample_step(name)
            steps[name]()  # compiles
    seconds = dict.fromkeys(steps, float("inf"))
    end = time.perf_counter() + _SECONDS
    for number in range(_ROUNDS):
        if number and time.perf_counter() > end:
            break
        for name, step in steps.items():
            if number and seconds[name] > 2.0 * min(seconds.values()):
                continue  # once is enough
            start = time.perf_counter()
            step()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def _sample_step(policy: str) -> Callable[[], float]:
    """Forward and backward pass of convolutions as backbones have them."""
    dtype = keras.mixed_precision.Policy(policy)
    layers = keras.layers
    swish = "swish" if tf.config.list_logical_devices("GPU") else fused_swish

    def block(filters: int, size: int, stride: int) -> list[keras.layers.Layer]:
        return [
            layers.Conv2D(filters, size, stride, padding="same", use_bias=False, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.Activation(swish, dtype=dtype),
        ]

    network = keras.Sequential(
        [
            layers.InputLayer((_SIDE, _SIDE, 3), dtype="float32"),
            *block(32, 3, 2),
            *block(64, 3, 2),
            *block(32, 1, 1),
            *block(64, 3, 1),
            *block(128, 3, 2),
        ]
    )
    images = tf.random.stateless_uniform((_BATCH, _SIDE, _SIDE, 3), seed=(0, 1))

    @traced
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.cast(network(images, training=True), tf.float32))
        gradients = tape.gradient(loss, network.trainable_variables)
        return tf.add_n([tf.reduce_sum(tf.cast(gradient, tf.float32)) for gradient in gradients])

    return lambda: float(step())


def _machine() -> str:
    """What the times depend on, as a line of text."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [str(detail.get("device_name", "GPU")) for detail in details] or [_processor()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{', '.join(sorted(set(names)))}, {cores} cores, TensorFlow {tf.__version__}"


def _processor() -> str:
    """The processor's name and a digest of what it can do: one name may stand for several."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            lines = dict(line.split(":", 1) for line in info if ":" in line)
    except OSError:
        return "CPU"
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    digest = hashlib.sha256(fields.get("flags", "").encode()).hexdigest()[:8]
    return f"{fields.get('model name', 'CPU')} ({digest})"


def _cache_file() -> str:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(folder, "harmonic_tf", "precision.json")


def _read(file: str) -> dict[str, dict[str, float]]:
    """What the cache holds; nothing where it cannot be read or is damaged."""
    try:
        with open(file, encoding="utf-8") as opened:
            known = json.load(opened)
        return {
            key: {name: float(value) for name, value in seconds.items()}
            for key, seconds in known.items()
            if "float32" in seconds and set(seconds) <= set(PRECISIONS)
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}

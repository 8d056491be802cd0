"""Timing that a noisy machine cannot spoil: everything takes turns, medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def time_in_turns(
    steps: Mapping[str, Callable[[], object]], rounds: int, count: int = 1
) -> dict[str, float]:
    """Median seconds of each step: see `samples_in_turns`."""
    samples = samples_in_turns(steps, rounds, count)
    return {name: statistics.median(values) for name, values in samples.items()}


def samples_in_turns(
    steps: Mapping[str, Callable[[], object]], rounds: int, count: int = 1
) -> dict[str, list[float]]:
    """Seconds of each step in every round, all taking turns so that noise falls on all alike.

    Every other round goes backwards, so that none always has the same one before it.

    Args:
        steps: what to time, by name; each returns a number of the device, which is waited for.
            Steps have run before, so that nothing is compiled any more.
        rounds: turns that each takes.
        count: steps per turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name, step in list(steps.items())[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            for _ in range(count):
                float(step())
            seconds[name].append((time.perf_counter() - start) / count)
    return seconds

"""Timing that a noisy machine cannot spoil: everything takes turns, medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def time_in_turns(
    steps: Mapping[str, Callable[[], object]], rounds: int, count: int = 1
) -> dict[str, float]:
    """Median seconds of each step, all taking turns so that noise falls on all alike.

    Args:
        steps: what to time, by name; each returns a number of the device, which is waited for.
            Steps have run before, so that nothing is compiled any more.
        rounds: turns that each takes.
        count: steps per turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(count):
                float(step())
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: statistics.median(values) for name, values in seconds.items()}

"""How long runs take, by those that are finished; what is left, what there is still time for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from harmonic_tf.training.ablation.runs import Run


class Budget:
    """The time in which runs are begun, from now on.

    Args:
        hours: of it; None never ends.
        clock: seconds, from any start.
    """

    def __init__(self, hours: float | None, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._end = math.inf if hours is None else clock() + 3600 * hours

    def has_room_for(self, seconds: float) -> bool:
        """Whether a run that takes so long would end in time; one of unknown length if any is left.

        Args:
            seconds: NaN where that is not known.
        """
        return self._clock() + (0 if math.isnan(seconds) else seconds) < self._end


def expected_seconds(run: Run, finished: Sequence[Run]) -> float:
    """What is left of a run, as long as the finished ones of its row took, or else of all rows.

    Args:
        run: one that is not finished; what earlier starts of it took is taken off.
        finished: runs that are.

    Returns:
        From 0; NaN where nothing is known.
    """
    of_row = [other.seconds for other in finished if other.row == run.row]
    of_all = [other.seconds for other in finished]
    for known in (_known(of_row), _known(of_all)):
        if known:
            return max(sum(known) / len(known) - sum(_known([run.seconds])), 0.0)
    return math.nan


def seconds_left(runs: Sequence[Run], finished: Sequence[Run], processes: int) -> float:
    """How long all of some runs take, side by side.

    Args:
        runs: that are not finished.
        finished: runs that are.
        processes: how many run at a time.

    Returns:
        NaN where nothing is known.
    """
    return sum(expected_seconds(run, finished) for run in runs) / min(processes, len(runs) or 1)


def in_words(seconds: float) -> str:
    """A duration such as `"12 min 5 s"` or `"2 h 10 min"`.

    Args:
        seconds: from 0; NaN is an unknown time.
    """
    if math.isnan(seconds):
        return "an unknown time"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]

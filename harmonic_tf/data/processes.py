"""Other processes that share in the work on images."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading


def process_pool(processes: int) -> concurrent.futures.ProcessPoolExecutor:
    """Processes that end with this one, even where it is killed. Each takes seconds to start.

    Not forked: TensorFlow's threads do not live on in a fork. So a script that asks for them has to
    do its work under `if __name__ == "__main__":`.

    Args:
        processes: how many, >= 1.
    """
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=context, initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    """Makes this process end when its parent is gone, killed for example."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

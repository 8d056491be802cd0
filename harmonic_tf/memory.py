"""Memory that is free on this machine, within the limits that a container sets."""

from __future__ import annotations

import os
from collections.abc import Iterator


def free_memory(root: str = "/") -> int:
    """Bytes that can be had without swapping, as far as the system says.

    On Linux the least of what the machine has and of what each control group of this process
    leaves, by which containers and batch systems limit a job; elsewhere all that the machine has.

    Args:
        root: folder under which `proc` and `sys` lie.
    """
    try:
        lines = _read(root, "proc/meminfo").splitlines()
        machine = 1024 * int(_fields(lines)["MemAvailable:"])
    except (OSError, KeyError):
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_left_by_groups(root)])


def _left_by_groups(root: str) -> Iterator[int]:
    """What each control group of this process leaves: its own, and those that it lies in.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html
    """
    try:
        groups = [line.split(":", 2) for line in _read(root, "proc/self/cgroup").splitlines()]
    except OSError:
        return
    for number, controllers, path in groups:
        if number == "0":
            place, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside of a container its own group is the top, whatever the path says.
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts), -1, -1):
            left = _left_by_group(os.path.join(root, place, *parts[:length]), *names)
            if left is not None:
                yield left


def _left_by_group(folder: str, limit: str, usage: str, reclaimable: str) -> int | None:
    """Bytes that one control group leaves; None where it sets no limit."""
    try:
        most, used = int(_read(folder, limit)), int(_read(folder, usage))
        files = int(_fields(_read(folder, "memory.stat").splitlines()).get(reclaimable, 0))
    except (OSError, ValueError):  # no such group here, or the word `max`
        return None
    return max(most - used + files, 0)


def _read(*path: str) -> str:
    with open(os.path.join(*path), encoding="ascii") as file:
        return file.read()


def _fields(lines: list[str]) -> dict[str, str]:
    """The first two words of each line."""
    return dict(line.split()[:2] for line in lines)

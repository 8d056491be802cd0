"""What memory is free, by the files in which Linux says it."""

import pytest

from harmonic_tf.memory import free_memory

KIB, MIB = 2**10, 2**20


@pytest.fixture
def system(tmp_path):
    """Function that writes files under a root, and returns that."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path)

    return write


MACHINE = {
    "proc/meminfo": "MemTotal:   4000000 kB\nMemAvailable:    1048576 kB\nHugePages_Free: 0\n"
}


def group(folder, limit, usage, files, version=2):
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    return {
        f"{folder}/{names[0]}": f"{limit}\n",
        f"{folder}/{names[1]}": f"{usage}\n",
        f"{folder}/memory.stat": f"anon 5\n{names[2]} {files}\nactive_file 7\n",
    }


def test_without_groups_it_is_what_the_machine_has(system):
    assert free_memory(system(MACHINE)) == 1024 * MIB


@pytest.mark.parametrize("path", ["/", "/jobs/mine", "/docker/of/the/host"])
def test_the_limit_of_a_container_counts_wherever_its_group_is_mounted(system, path):
    root = system(
        {
            **MACHINE,
            "proc/self/cgroup": f"0::{path}\n",
            **group("sys/fs/cgroup", 512 * MIB, 300 * MIB, 100 * MIB),
        }
    )
    assert free_memory(root) == 312 * MIB


def test_the_tightest_of_the_groups_around_a_process_counts(system):
    root = system(
        {
            **MACHINE,
            "proc/self/cgroup": "0::/jobs/mine\n",
            **group("sys/fs/cgroup/jobs", 400 * MIB, 350 * MIB, 0),
            **group("sys/fs/cgroup/jobs/mine", "max", 200 * MIB, 0),
        }
    )
    assert free_memory(root) == 50 * MIB


def test_groups_of_version_1_count_too(system):
    root = system(
        {
            **MACHINE,
            "proc/self/cgroup": "9:cpu,cpuacct:/a\n4:memory:/a\n0::/\n",
            **group("sys/fs/cgroup/memory/a", 256 * MIB, 100 * MIB, 4 * KIB, version=1),
            **group("sys/fs/cgroup/memory", 2**63 - 4096, 900 * MIB, 0, version=1),
        }
    )
    assert free_memory(root) == 156 * MIB + 4 * KIB


def test_a_group_that_is_over_its_limit_leaves_nothing(system):
    root = system(
        {
            **MACHINE,
            "proc/self/cgroup": "0::/\n",
            **group("sys/fs/cgroup", 256 * MIB, 300 * MIB, 0),
        }
    )
    assert free_memory(root) == 0


def test_this_machine_has_some_and_one_that_says_nothing_all_of_it(tmp_path):
    assert 0 <= free_memory() <= free_memory(str(tmp_path))

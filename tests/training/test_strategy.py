"""Which devices and hosts take part, and what is said when they cannot."""

import json
from types import SimpleNamespace

import pytest

from harmonic_tf.backend import tf
from harmonic_tf.training.strategy import (
    build_strategy,
    check_batch_size,
    check_cluster,
    hosts_of,
    is_chief,
    mean_of_hosts,
)

HOSTS = ["host0:2222", "host1:2222"]


def config(cluster, task):
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "TF_CONFIG is not set"),
        ("", "TF_CONFIG is not set"),
        ("{'cluster': 1}", "does not describe a cluster"),
        ("[]", "does not describe a cluster"),
        ('"worker"', "does not describe a cluster"),
        (json.dumps({"cluster": {"worker": HOSTS}}), "KeyError('task')"),
        (json.dumps({"task": {"type": "worker", "index": 0}}), "KeyError('cluster')"),
        (config({"worker": HOSTS}, {"type": "chief", "index": 0}), "KeyError('chief')"),
        (config({"worker": HOSTS}, {"type": "worker"}), "KeyError('index')"),
        (config({"worker": HOSTS}, {"type": "worker", "index": "one"}), "'one'"),
        (config({"worker": HOSTS}, {"type": "worker", "index": 2}), "index = 2, but the cluster"),
        (config({"worker": HOSTS}, {"type": "worker", "index": -1}), "index = -1, but the cluster"),
        (
            config({"worker": HOSTS, "ps": ["host2:2222"]}, {"type": "worker", "index": 0}),
            "cluster holds ps, worker; only chief and worker",
        ),
        (
            config({"worker": HOSTS, "evaluator": ["h:1"]}, {"type": "evaluator", "index": 0}),
            "only chief and worker",
        ),
    ],
)
def test_a_cluster_without_sense_is_explained_to_the_worker(text, words):
    with pytest.raises(ValueError) as caught:
        check_cluster(text)
    assert words in str(caught.value)
    assert '"task": {"type": "worker", "index": 0}' in str(caught.value)  # how it should look
    assert "docs/distributed.md" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        config({"worker": HOSTS}, {"type": "worker", "index": 1}),
        config({"worker": HOSTS}, {"type": "worker", "index": "1"}),
        config({"chief": HOSTS[:1], "worker": HOSTS[1:]}, {"type": "chief", "index": 0}),
    ],
)
def test_a_cluster_of_workers_and_perhaps_a_chief_is_fine(text):
    check_cluster(text)


def member(cluster, task_type, task_id):
    """As much of a strategy as tells who is chief: real ones wait for all their hosts."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), task_type=task_type, task_id=task_id
    )
    return SimpleNamespace(cluster_resolver=resolver)


@pytest.mark.parametrize(
    "cluster, task_type, task_id, chief",
    [
        ({"worker": HOSTS}, "worker", 0, True),
        ({"worker": HOSTS}, "worker", 1, False),
        ({"chief": HOSTS[:1], "worker": HOSTS[1:]}, "chief", 0, True),
        ({"chief": HOSTS[:1], "worker": HOSTS[1:]}, "worker", 0, False),
    ],
)
def test_one_worker_is_chief(cluster, task_type, task_id, chief):
    assert is_chief(member(cluster, task_type, task_id)) is chief


@pytest.mark.parametrize("name, replicas", [("one_device", 1), ("mirrored", 4)])
def test_on_one_host_all_devices_are_a_replica_each(name, replicas):
    strategy = build_strategy(name)
    assert strategy.num_replicas_in_sync == replicas
    assert is_chief(strategy)


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_one_host_decides_alone(name):
    strategy = build_strategy(name)
    assert mean_of_hosts([1.0, True, 0.25, 0], strategy) == [1.0, 1.0, 0.25, 0.0]


@pytest.mark.parametrize("cluster", [{"worker": HOSTS}, {"chief": HOSTS[:1], "worker": HOSTS[1:]}])
def test_hosts_are_those_of_the_cluster(cluster):
    assert hosts_of(member(cluster, "worker", 0)) == 2
    assert hosts_of(build_strategy("mirrored")) == 1


def test_an_unknown_strategy_and_a_missing_cluster_are_explained(monkeypatch):
    with pytest.raises(ValueError, match=r"'tpu' is unknown.*one_device, mirrored"):
        build_strategy("tpu")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG is not set"):
        build_strategy("multi_worker_mirrored")


def test_a_batch_is_cut_into_equal_parts_for_replica_and_accumulation_step():
    strategy = SimpleNamespace(num_replicas_in_sync=4)
    for batch_size, accumulation_steps in ((4, 1), (8, 2), (16, 2)):
        check_batch_size(strategy, batch_size, accumulation_steps)
    with pytest.raises(ValueError, match=r"batch_size = 6 .* 4 replicas .* a multiple of 4\."):
        check_batch_size(strategy, 6, 1)
    with pytest.raises(ValueError, match=r"12 .* 2 accumulation steps each.* multiple of 8\."):
        check_batch_size(strategy, 12, 2)

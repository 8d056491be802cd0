"""Over which devices and hosts a training run is spread."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from harmonic_tf.backend import tf, traced
from harmonic_tf.training.settings import SettingsError

STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored")


def build_strategy(name: str) -> tf.distribute.Strategy:
    """Makes the strategy that a run is trained under.

    To be called before anything else touches a device: several hosts are connected at start-up.

    Args:
        name: `"one_device"`: the first GPU, or the CPU. `"mirrored"`: a replica on each GPU of this
            host, or on each logical CPU device where there is none. `"multi_worker_mirrored"`: the
            same on every host that the environment variable `TF_CONFIG` names.

    Returns:
        The strategy; TensorFlow's default one for `"one_device"`.

    Raises:
        SettingsError: for an unknown name, or when `TF_CONFIG` is missing or makes no sense.
    """
    if name not in STRATEGIES:
        raise SettingsError(f"Strategy {name!r} is unknown. Choose one of {', '.join(STRATEGIES)}.")
    if name == "one_device":
        return tf.distribute.get_strategy()
    if name == "multi_worker_mirrored":
        check_cluster(os.environ.get("TF_CONFIG"))
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def check_cluster(config: str | None) -> None:
    """Makes sure that a `TF_CONFIG` describes a cluster of workers and a place in it.

    Args:
        config: the variable's value, None where it is not set.

    Raises:
        SettingsError: naming what is wrong with it.

    Source: https://www.tensorflow.org/guide/distributed_training#TF_CONFIG
    """
    example = (
        'Set it on every host, such as {"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}; see docs/distributed.md.'
    )
    if not config:
        raise SettingsError(f"TF_CONFIG is not set, which multi_worker_mirrored needs. {example}")
    try:
        parsed = json.loads(config)
        cluster, task = parsed["cluster"], parsed["task"]
        place, count = int(task["index"]), len(cluster[task["type"]])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"TF_CONFIG = {config!r} does not describe a cluster and a task in it ({error!r}). "
            f"{example}"
        ) from error
    if set(cluster) - {"chief", "worker"}:
        raise SettingsError(
            f"TF_CONFIG: cluster holds {', '.join(sorted(cluster))}; only chief and worker take "
            f"part in multi_worker_mirrored. {example}"
        )
    if not 0 <= place < count:
        raise SettingsError(
            f"TF_CONFIG: task.index = {place}, but the cluster has {count} of {task['type']}. "
            f"{example}"
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the files that all share.

    Args:
        strategy: the strategy of the run.

    Returns:
        True for the cluster's chief, its first worker where there is none; always True on one host.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def hosts_of(strategy: tf.distribute.Strategy) -> int:
    """The number of hosts that a run is spread over, all of which have as many replicas."""
    resolver = strategy.cluster_resolver
    cluster = tf.train.ClusterSpec({}) if resolver is None else resolver.cluster_spec()
    return max(sum(cluster.num_tasks(job) for job in cluster.jobs), 1)


def mean_of_hosts(values: Sequence[float], strategy: tf.distribute.Strategy) -> list[float]:
    """What all hosts say, so that they decide alike. To be called on all of them.

    Args:
        values: what this host says.
        strategy: the strategy of the run.

    Returns:
        The mean of each value over all hosts.
    """
    if hosts_of(strategy) == 1:
        return [float(value) for value in values]

    @traced
    def add_up(values):
        def of_replica():
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return strategy.run(of_replica)

    sums = add_up(tf.constant([float(value) for value in values]))
    of_one = strategy.experimental_local_results(sums)[0]
    return (of_one / strategy.num_replicas_in_sync).numpy().tolist()


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns once every host of a run has come here."""

    @traced
    def meet():
        def count():
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(1.0))

        return strategy.run(count)

    meet()


def check_batch_size(
    strategy: tf.distribute.Strategy, batch_size: int, accumulation_steps: int
) -> None:
    """Makes sure that a batch can be cut into equal parts.

    Args:
        strategy: the strategy of the run.
        batch_size: pictures per update, over all replicas.
        accumulation_steps: micro-batches of each replica.

    Raises:
        SettingsError: when it cannot.
    """
    parts = strategy.num_replicas_in_sync * accumulation_steps
    if batch_size % parts:
        raise SettingsError(
            f"batch_size = {batch_size} cannot be shared equally by "
            f"{strategy.num_replicas_in_sync} replicas with {accumulation_steps} accumulation "
            f"steps each. Choose a multiple of {parts}."
        )

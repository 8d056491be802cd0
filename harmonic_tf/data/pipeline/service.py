"""Preprocessing on other machines, by TensorFlow's own tf.data service.

    harmonic-tf data_service dispatcher --port=5050
    harmonic-tf data_service worker --dispatcher=HOST:5050

Every worker goes through whole epochs of its own, each in its own order, so that the loss of one
loses no picture: the others come to all of theirs all the same. (Were each epoch's pictures dealt
out among the workers, those dealt to a worker that dies would be missing from it.) Workers need to
see the pictures under the same paths as the trainer.
"""

from __future__ import annotations

import socket
import time

from harmonic_tf.backend import plain, tf
from harmonic_tf.data.checks import refuse
from harmonic_tf.data.pipeline.cache import Cache
from harmonic_tf.shell import command

_TIMEOUT = 30.0  # seconds that a service may take to answer: one that is just starting
_PROTOCOL = "grpc"


def epoch_of_worker() -> tf.data.Dataset:
    """Epoch numbers from somewhere on, another place in every process that iterates over them."""

    def anywhere(_):
        # The raw op: with seeds of 0 it draws anew even where the program has set a seed for all.
        start = tf.raw_ops.RandomUniformInt(
            shape=tf.constant([], tf.int32),
            minval=tf.constant(0, tf.int64),
            maxval=tf.constant(2**31, tf.int64),
        )
        return tf.data.Dataset.counter(start)

    return tf.data.Dataset.range(1).flat_map(plain(anywhere))


def distributed(
    batches: tf.data.Dataset, service: str, cache: Cache | None = None, timeout: float = _TIMEOUT
) -> tf.data.Dataset:
    """Lets a tf.data service do the work of a dataset: all of it on every worker.

    Args:
        batches: an endless dataset, another one in every process, see `epoch_of_worker`.
        service: `"HOST:PORT"` of the dispatcher.
        cache: what `batches` reads pictures from.
        timeout: seconds after which an unreachable service is given up.

    Returns:
        What all the workers make, as it comes.

    Raises:
        DataError: the service cannot be reached, or the cache is in this process's memory.
    """
    if cache is not None and cache.in_memory:
        refuse(
            service,
            "cache",
            "memory",
            "is in the trainer's memory, where a tf.data service cannot see it",
            "Use a file that all machines see as the cache, or none",
        )
    wait_for(service, timeout)
    return batches.apply(
        tf.data.experimental.service.distribute(
            tf.data.experimental.service.ShardingPolicy.OFF, f"{_PROTOCOL}://{service}"
        )
    )


def wait_for(service: str, timeout: float = _TIMEOUT) -> None:
    """Returns once something answers at an address.

    Args:
        service: `"HOST:PORT"`.
        timeout: seconds to wait at most.

    Raises:
        DataError: nothing does, or the address makes no sense.
    """
    host, _, port = service.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        refuse("tf.data service", "address", service, "is no HOST:PORT", "Write HOST:PORT")
    end = time.monotonic() + timeout
    while True:
        try:
            left = max(end - time.monotonic(), 0.1)
            socket.create_connection((host, int(port)), timeout=left).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                refuse(
                    "tf.data service",
                    "address",
                    service,
                    f"has not answered for {timeout:g} s ({error})",
                    f"Start its dispatcher ({command('data_service', 'dispatcher')}), or correct "
                    "the address",
                )
            time.sleep(min(0.5, timeout))


def start_dispatcher(port: int = 0) -> tf.data.experimental.service.DispatchServer:
    """Starts the server that trainers and workers meet at.

    Args:
        port: where it listens; 0 takes a free one.
    """
    config = tf.data.experimental.service.DispatcherConfig(port=port, protocol=_PROTOCOL)
    return tf.data.experimental.service.DispatchServer(config)


def start_worker(
    dispatcher: str, port: int = 0, address: str | None = None
) -> tf.data.experimental.service.WorkerServer:
    """Starts a server that makes batches.

    Args:
        dispatcher: `"HOST:PORT"` of the dispatcher.
        port: where it listens; 0 takes a free one.
        address: `"HOST:PORT"` at which trainers reach it, `%port%` standing for its port; by
            default `localhost`, for a service on one machine.
    """
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=dispatcher, port=port, worker_address=address, protocol=_PROTOCOL
    )
    return tf.data.experimental.service.WorkerServer(config)

"""A tf.data service on this machine: a dispatcher, two workers, one of which dies."""

import collections
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from harmonic_tf.backend import tf
from harmonic_tf.data.example import Annotation, DataError, DetectionData
from harmonic_tf.data.pipeline import service
from harmonic_tf.data.pipeline.batches import training_batches
from harmonic_tf.data.pipeline.cache import build_cache

COUNT, SIZE = 40, 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures whose grey level is 4 times their number."""
    folder = tmp_path_factory.mktemp("service")
    none, annotations = np.zeros(0, bool), []
    for number in range(COUNT):
        path = folder / f"{number}.png"
        path.write_bytes(tf.io.encode_png(np.full([8, 8, 3], 4 * number, np.uint8)).numpy())
        boxes, classes = np.zeros([0, 4], np.float32), np.zeros(0, np.int32)
        annotations.append(Annotation(str(path), number, 8, 8, boxes, classes, none, none))
    return DetectionData("greys", ["a"], annotations)


@pytest.fixture(scope="module")
def dispatcher():
    return service.start_dispatcher()


@pytest.fixture
def workers(dispatcher):
    """Two worker processes, started by the command."""
    address = dispatcher.target.partition("://")[2]
    command = [sys.executable, "-m", "flags", "data_service", "worker"]
    started = [
        subprocess.Popen([*command, f"--dispatcher={address}"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout.readline().startswith("worker at ")
    yield address, started
    for process in started:
        process.kill()
        process.wait()


def numbers(images):
    return [round(float(value) / 4) for value in np.asarray(images)[:, 0, 0, 0]]


def test_every_picture_is_seen_though_a_worker_dies(data, workers):
    address, processes = workers
    tf.keras.utils.set_random_seed(0)  # workers are to differ all the same
    batches = training_batches(data, SIZE, 4, seed=0, augmentation=None, service=address)
    assert batches.element_spec == training_batches(data, SIZE, 4, seed=0).element_spec
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    stream = iter(strategy.distribute_datasets_from_function(lambda context: batches))

    before = collections.Counter()
    for _ in range(3):
        before.update(numbers(next(stream)[0]))
    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    # What the dead one had already sent may come first: two passes of the other are enough.
    after = collections.Counter()
    for _ in range(4 * COUNT // 4):
        after.update(numbers(next(stream)[0]))
        if len(after) == COUNT:
            break
    assert set(after) == set(range(COUNT))


def test_workers_go_through_whole_epochs_of_their_own(data):
    """The dataset that a worker runs, run twice as two workers would."""
    epochs = service.epoch_of_worker().take(3)
    one, other = (list(epochs.as_numpy_iterator()) for _ in range(2))
    assert one[0] != other[0] and one == [one[0], one[0] + 1, one[0] + 2]


def test_an_unreachable_service_is_one_clear_error(data):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with pytest.raises(DataError, match=f"{address}: has not answered for 0.2 s"):
        service.wait_for(address, timeout=0.2)
    for wrong in ("localhost", "localhost:", ":5050", "localhost:99999", "a:b"):
        with pytest.raises(DataError, match="HOST:PORT"):
            training_batches(data, SIZE, 4, seed=0, service=wrong)


def test_a_cache_in_memory_is_refused_with_a_service(data, dispatcher):
    address = dispatcher.target.partition("://")[2]
    cache = build_cache(data, "memory")
    with pytest.raises(DataError, match="cannot see it"):
        training_batches(data, SIZE, 4, seed=0, cache=cache, service=address)


def test_the_dispatcher_is_a_command(tmp_path):
    command = [sys.executable, "-m", "flags", "data_service", "dispatcher"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        kind, _, target = process.stdout.readline().strip().partition(" at ")
        assert kind == "dispatcher"
        service.wait_for(target)
    finally:
        process.kill()
        process.wait()

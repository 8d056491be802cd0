"""Whole runs of `train`: killed and resumed, and spread over two workers."""

import json
import os
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from harmonic_tf.backend import tf
from tests import processes
from tests.tiny import TinyBackbone, preset_of

STEPS_PER_EPOCH, EPOCHS = 3, 3
TOY = [
    "--scenes_train=12",
    "--scenes_val=1",
    "--scenes_test=1",
    "--scenes_size=64",
    "--val_split=",
    "--image_size=64",
    "--anchor_sizes=8,16,32,64,128",
    "--channels=8",
    "--head_depth=0",
    "--batch_size=4",
    f"--epochs={EPOCHS}",
    "--warmup_steps=2",
    "--average_decay=0.9",
    "--sheet_pictures=1",
    "--precision=float32",
    "--jit_compile=false",
]
RESUMABLE = [*TOY, "--deterministic_ops", "--save_every_steps=2", "--resume"]
WORKER = [*TOY, "--freeze_batch_norm", "--accumulation_steps=2"]
# Nothing is detected, so that no measurement is better than the first.
EARLY = [*TOY, "--val_split=val", "--score_threshold=1", "--patience=1", "--epochs=auto"]


def printed_by(ended):
    """What a run printed, which has to have succeeded."""
    assert ended.returncode == 0, ended
    return ended.stdout + ended.stderr


def train(*arguments, **options):
    """A run from start to end that has to succeed; gives what it printed."""
    return printed_by(processes.run("train", *arguments, **options))


def refused(*arguments, status=1):
    """A run that has to fail in a readable way; gives what it printed."""
    ended = processes.run("train", *arguments)
    assert ended.returncode == status, ended  # 2 where the command line makes no sense
    assert "Traceback" not in ended.stderr
    return ended.stderr


def states(run):
    """Steps of the states in a run, in order."""
    return sorted(int(path.name[len("step-") :]) for path in run.glob("checkpoints/states/step-*"))


def tensors(run, step):
    """All numbers of a state, by name."""
    prefix = run / "checkpoints" / "states" / f"step-{step}" / "state"
    reader = tf.train.load_checkpoint(str(prefix))
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return f"--dataset=scenes:{tmp_path_factory.mktemp('data')}"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return f"--backbone={preset_of(TinyBackbone(), tmp_path_factory.mktemp('backbone'))}"


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, dataset, network):
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(*RESUMABLE, dataset, network, f"--run_dir={run}")
    return run


@pytest.fixture(scope="module")
def one_device_run(tmp_path_factory, dataset, network):
    """What the workers are compared with. It renders the scenes, if no other run has."""
    run = tmp_path_factory.mktemp("one_device") / "run"
    train(*WORKER, dataset, network, f"--run_dir={run}")
    return run


def test_resume_without_a_run_starts_one(whole_run):
    assert states(whole_run) == [8, 9]  # every two steps, and at the end; the last two
    for name in ("flags.cfg", "metrics.json", "checkpoints/last.keras", "checkpoints/best.keras"):
        assert (whole_run / name).stat().st_size > 0


def test_resume_after_a_kill_ends_with_the_same_bits(dataset, network, whole_run, tmp_path):
    run, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    command = [*RESUMABLE, dataset, network, f"--run_dir={run}"]
    environment, began = {"TMPDIR": str(temporary)}, time.monotonic()
    with processes.Running("train", *command, environment=environment) as process:
        while not states(run):
            assert process.is_alive() and time.monotonic() - began < processes.TIMEOUT
            time.sleep(0.005)
        process.kill()
        assert process.end().returncode == -signal.SIGKILL
    last = states(run)[-1]
    assert last < EPOCHS * STEPS_PER_EPOCH
    assert not list(temporary.glob("*autograph*"))  # of functions that were traced

    printed = train(*command, fresh=True)
    assert f"Going on after step {last}, epoch {last // STEPS_PER_EPOCH + 1}." in printed
    assert states(run) == states(whole_run)
    final = EPOCHS * STEPS_PER_EPOCH
    resumed, uninterrupted = tensors(run, final), tensors(whole_run, final)
    assert resumed.keys() == uninterrupted.keys()
    for part in ("/averages/", "/optimizer/", "/loss_scale/", "/attempted/", "moving_mean/"):
        assert any(part in name for name in resumed), part
    for name, value in resumed.items():
        np.testing.assert_array_equal(value, uninterrupted[name], err_msg=name)


def test_resume_with_the_run_dir_alone_takes_the_flags_of_the_run(whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    epochs = EPOCHS + 1
    printed = train("--resume", f"--epochs={epochs}", f"--run_dir={run}")
    assert f"Going on after step {EPOCHS * STEPS_PER_EPOCH}, epoch {epochs}." in printed
    assert states(run)[-1] == epochs * STEPS_PER_EPOCH
    before, after = ((r / "flags.cfg").read_text().splitlines() for r in (whole_run, run))
    changed = {line.split("=")[0] for line in set(before) ^ set(after)}
    assert changed == {"--epochs", "--run_dir"}


def test_resume_with_other_flags_is_refused(whole_run):
    printed = refused(
        "--resume",
        f"--run_dir={whole_run}",
        "--learning_rate=0.1",
        "--coupling=none",
        "--epochs=9",
        status=2,
    )
    assert "--resume goes on with the flags of the run; --coupling, --learning_rate" in printed
    assert "Leave them out, or name another --run_dir." in printed


def test_a_run_stops_early_as_a_finished_one_and_does_not_go_on(dataset, network, tmp_path):
    run = tmp_path / "run"
    command = [*EARLY, "--batch_size=auto", dataset, network, f"--run_dir={run}", "--resume"]
    printed = train(*command)
    assert "epochs: 277, for 12 pictures." in printed and "batch_size: 2;" in printed
    assert "Stopped early after epoch 2: measurements since the best AP, 0.000: 1" in printed
    assert "Results on" in printed
    assert states(run) == [6, 12]
    for name in ("metrics.json", "report.html", "checkpoints/last.keras", "checkpoints/best.keras"):
        assert (run / name).stat().st_size > 0
    settings = json.loads((run / "experiment.json").read_text())
    assert [settings[name] for name in ("epochs", "batch_size", "patience")] == [277, 2, 1]
    assert {"--epochs=277", "--batch_size=2"} <= set((run / "flags.cfg").read_text().splitlines())

    before = tensors(run, 12)
    printed = train(*command)
    assert "Training does not go on, it had stopped early: measurements since" in printed
    assert "Epoch 3/" not in printed and "Results on" in printed
    assert states(run) == [6, 12]
    for name, value in tensors(run, 12).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def cluster(*ports):
    """The TF_CONFIG of every worker."""
    workers = [f"localhost:{port}" for port in ports]
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(len(workers))
    ]


@pytest.fixture(scope="module")
def two_worker_run(tmp_path_factory, dataset, network, one_device_run):
    """A run of two workers: its folder, what each printed, and worker 1's temporary folder."""
    run = tmp_path_factory.mktemp("two_workers") / "run"
    flags = [*WORKER, dataset, network, f"--run_dir={run}", "--strategy=multi_worker_mirrored"]
    temporary = [str(tmp_path_factory.mktemp(f"temporary{index}")) for index in range(2)]
    environments = [
        {"TF_CONFIG": config, "TMPDIR": folder}
        for config, folder in zip(cluster(*free_ports(2)), temporary)
    ]
    with processes.Running("train", *flags, environment=environments[0]) as chief:
        other = train(*flags, environment=environments[1], fresh=True)
        return run, (printed_by(chief.end()), other), temporary[1]


def test_two_workers_end_with_the_weights_of_one_device(one_device_run, two_worker_run):
    run, _, _ = two_worker_run
    final = EPOCHS * STEPS_PER_EPOCH
    one, two = tensors(one_device_run, final), tensors(run, final)
    assert one.keys() == two.keys()
    assert int(two["weight_update/attempted/.ATTRIBUTES/VARIABLE_VALUE"]) == final
    for name, value in one.items():
        # The sums of float32 are taken in another order, and Adam turns a relative error of a
        # gradient into one of its step: 1e-6 or so of 5e-4, nine times. One batch in another
        # order, or a batch norm that is not frozen, moves weights by more than 1e-3.
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_only_the_chief_of_the_workers_writes(one_device_run, two_worker_run):
    run, (chief, other), temporary = two_worker_run
    assert "Results on" in chief and "Epoch 1/" in chief
    assert "Results on" not in other and "Epoch 1/" not in other
    assert "Replicas: 2." in chief and "Replicas: 2." in other

    def files(folder):
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.parts[0] != "logs")

    assert files(run) == files(one_device_run)
    assert len(list((run / "logs").rglob("events.out.*"))) == 1
    assert not os.listdir(temporary)


def test_two_workers_stop_early_at_the_same_step(dataset, network, one_device_run, tmp_path):
    run = tmp_path / "run"
    flags = [*EARLY, "--batch_size=auto", dataset, network, f"--run_dir={run}"]
    flags.append("--strategy=multi_worker_mirrored")
    environments = [{"TF_CONFIG": config} for config in cluster(*free_ports(2))]
    with processes.Running("train", *flags, environment=environments[0]) as running:
        other = train(*flags, environment=environments[1], fresh=True)
        chief = printed_by(running.end())
    assert all("batch_size: 2;" in text for text in (chief, other))
    assert "Stopped early after epoch 2" in chief and "Results on" in chief
    assert states(run) == [6, 12]


def test_a_worker_without_a_cluster_is_refused(dataset, tmp_path):
    printed = refused(dataset, f"--run_dir={tmp_path / 'run'}", "--strategy=multi_worker_mirrored")
    assert "Error: TF_CONFIG is not set" in printed
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_cut_by_replica_and_accumulation_step_is_refused(dataset, tmp_path):
    printed = refused(*TOY, dataset, f"--run_dir={tmp_path / 'run'}", "--accumulation_steps=3")
    assert "Error: batch_size = 4 cannot be shared equally" in printed

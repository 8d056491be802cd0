"""The ablation and its command, with a small script in place of `harmonic-tf train`."""

import csv
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from harmonic_tf import files
from harmonic_tf.losses import CLASSIFICATION_LOSSES, IOU_LOSSES
from harmonic_tf.models import CATALOG
from harmonic_tf.training.ablation import ablate, report, runs
from harmonic_tf.training.ablation.pace import (
    Budget,
    expected_seconds,
    in_words,
    seconds_left,
)
from harmonic_tf.training.ablation.plots import plot_differences, plot_rows
from harmonic_tf.training.ablation.results import METRICS, TIMES, Result, read_result
from harmonic_tf.training.ablation.rows import BASELINE, ROWS
from harmonic_tf.training.ablation.runs import Run
from harmonic_tf.training.settings import SettingsError

# Writes down how it was called, then does what FAKE says.
FAKE_TRAIN = """
import json, os, signal, sys, time
flags = json.loads(os.environ["FAKE"])
for argument in sys.argv[1:]:
    name, _, value = argument[2:].partition("=")
    flags[name] = value
threads = {name: value for name, value in os.environ.items() if name.startswith("TF_NUM")}
def note(what):
    line = json.dumps([what, flags["run_dir"], sys.argv[1:], threads])
    with open(flags["journal"], "a") as journal:
        journal.write(line + "\\n")
note("start")
print("training", flags["run_dir"], flush=True)
seed = int(flags["seed"])
if "fail" in flags and seed == int(flags["fail"]):
    sys.exit("no such picture")
if "kill_parent" in flags and seed == int(flags["kill_parent"]):
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
while open(flags["journal"]).read().count('["start"') < int(flags.get("together", 0)):
    time.sleep(0.01)
time.sleep(float(flags.get("sleep", 0)))
os.makedirs(flags["run_dir"], exist_ok=True)
ap = 0.1 * (flags["coupling"] != "none") + 0.1 * ("task_contrasting" in flags) + 0.01 * seed
metrics = os.path.join(flags["run_dir"], "metrics.json")
with open(metrics + ".new", "w") as file:
    json.dump({"coco": {"AP": ap, "AP75": None}, "consistency": {"pearson": 0.5}}, file)
os.replace(metrics + ".new", metrics)
note("end")
"""


DATA = SimpleNamespace(test_split="test", val_part="val")


class Fake:
    """Runs ablations in a folder; `lines` is what was said."""

    def __init__(self, folder):
        self.script = folder / "train.py"
        self.script.write_text(FAKE_TRAIN)
        self.out = folder / "out"
        self.journal_file = folder / "journal"
        self.command = [sys.executable, str(self.script)]
        self.lines = []

    def ablate(self, *flags, rows="baseline,full", seeds=(0, 1), do=None, **options):
        """Trains; `do` is what the script is to do, beside writing its journal."""
        os.environ["FAKE"] = json.dumps({"journal": str(self.journal_file), **(do or {})})
        rows = [ROWS[name] for name in rows.split(",")]
        options = {"model": "retinanet", "data": DATA, "say": self.lines.append, **options}
        self.outcome = ablate.ablate(
            flags, rows, seeds, str(self.out), command=self.command, **options
        )
        return self.outcome.failed

    def _notes(self):
        for line in self.journal_file.read_text().splitlines():
            what, folder, *call = json.loads(line)
            yield what, pathlib.Path(folder).relative_to(self.out).as_posix(), call

    def journal(self, *wanted):
        """Which runs started and ended, in order."""
        return [(what, run) for what, run, _ in self._notes() if what in wanted]

    def calls(self):
        """Run to (arguments, threads)."""
        return {run: call for _, run, call in self._notes()}

    def table(self):
        with open(self.out / "ablation.csv", newline="") as file:
            return list(csv.DictReader(file))


def write_finished(run):
    files.write_text(os.path.join(run.folder, "metrics.json"), '{"coco": {"AP": 0.5}}')


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_POLL_SECONDS", 0.01)
    for name in ("plot_rows", "plot_differences"):
        monkeypatch.setattr(report, name, lambda path, _: Image.new("L", (1, 1)).save(path))
    monkeypatch.setenv("FAKE", "{}")
    return Fake(tmp_path)


def test_rows_are_trained_seed_by_seed_with_their_flags(fake):
    assert fake.ablate("--epochs=3") == []
    order = ["baseline/seed-0", "full/seed-0", "baseline/seed-1", "full/seed-1"]
    assert fake.journal("start", "end") == [(w, run) for run in order for w in ("start", "end")]
    arguments, _ = fake.calls()["full/seed-1"]
    assert arguments == [
        "--calibration=none",
        "--epochs=3",
        *("--coupling=paper", "--task_contrasting", "--iou_loss=hiou"),
        *("--seed=1", f"--run_dir={fake.out / 'full' / 'seed-1'}", "--resume"),
    ]
    for kind in ("csv", "md", "png", "html"):
        assert (fake.out / f"ablation.{kind}").is_file()
    assert (fake.out / "full" / "seed-1.log").read_text().startswith("training")
    assert [line.partition(" (")[0] for line in fake.lines[1:3]] == [
        "[1/4] baseline, seed 0: AP 0.000, 0 min 0 s",
        "[2/4] full, seed 0: AP 0.200, 0 min 0 s",
    ]


def test_finished_runs_stay_and_added_ones_join_the_tables(fake):
    fake.ablate(rows="baseline", seeds=[0])
    fake.ablate(rows="full", seeds=[0, 1])
    fake.ablate(rows="baseline,full", seeds=[1])
    assert fake.journal("start") == [
        ("start", run)
        for run in ("baseline/seed-0", "full/seed-0", "full/seed-1", "baseline/seed-1")
    ]
    runs = [(line["row"], line["seed"]) for line in fake.table()]
    assert runs == [("baseline", "0"), ("baseline", "1"), ("full", "0"), ("full", "1")]


def test_a_failed_run_is_reported_and_the_others_go_on(fake):
    (failed,) = fake.ablate(do={"fail": 1}, rows="baseline", seeds=[0, 1, 2])
    assert failed.seed == 1
    assert [line["seed"] for line in fake.table()] == ["0", "2"]
    (line,) = [line for line in fake.lines if "FAILED" in line]
    assert "baseline, seed 1: FAILED with exit status 1" in line
    assert "no such picture" in line
    assert os.path.join("baseline", "seed-1.log") in line


def test_a_run_that_left_no_numbers_has_failed(fake):
    fake.script.write_text("print('bye')")
    assert len(fake.ablate(rows="full", seeds=[3])) == 1
    assert not (fake.out / "ablation.csv").exists()
    assert "bye" in fake.lines[-1]


def test_finished_runs_are_measured_further_by_their_detections(fake, monkeypatch):
    calls = []

    def complete(run, calibrated, held_out):
        calls.append((run.name, calibrated and calibrated.folder))
        if run.row == BASELINE:
            raise OSError("gone")

    monkeypatch.setattr(ablate, "complete", complete)
    assert fake.ablate(rows="baseline,unit,unit_calibrated", seeds=[0]) == []
    assert fake.journal("start") == [("start", "baseline/seed-0"), ("start", "unit/seed-0")]
    calibrated = str(fake.out / "unit_calibrated" / "seed-0")
    expected = [("baseline, seed 0", None), (f"{ROWS['unit'].label}, seed 0", calibrated)]
    assert calls == expected
    assert "baseline, seed 0: not measured further: gone" in fake.lines
    # When started again, what was finished before is looked at once more; without the row, alone.
    fake.ablate(rows="baseline,unit", seeds=[0])
    assert calls[2:] == [expected[0], (expected[1][0], None)]


def test_interrupted_it_ends_its_children_and_goes_on_when_started_again(fake):
    def interrupted(line):
        if line.startswith("[1/"):
            raise KeyboardInterrupt

    start = time.monotonic()
    options = {"rows": "baseline", "seeds": [0, 1, 2], "processes": 2}
    fake.script.write_text(FAKE_TRAIN.replace('"sleep", 0', '"sleep", 60 * seed'))
    with pytest.raises(KeyboardInterrupt):
        fake.ablate(do={"together": 2}, say=interrupted, **options)
    assert time.monotonic() - start < 30
    assert fake.journal("end") == [("end", "baseline/seed-0")]
    assert ("start", "baseline/seed-1") in fake.journal("start")

    fake.script.write_text(FAKE_TRAIN)
    assert fake.ablate(do={"together": 2}, **options) == []
    starts = fake.journal("start")
    assert starts.count(("start", "baseline/seed-0")) == 1
    assert starts.count(("start", "baseline/seed-1")) == 2
    assert len(fake.table()) == 3
    # Both starts of the run that was cut off count.
    run = Run(BASELINE, 1, str(fake.out / "baseline" / "seed-1"))
    assert run.seconds > 0 and run.log.endswith("seed-1.log")
    assert pathlib.Path(run.log).read_text().count("training") == 2


def test_within_a_time_budget_each_stop_leaves_all_rows_of_a_seed_before_the_next(fake):
    """Runs take what their seconds file says; the clock is the tests'."""
    options = {"rows": "baseline,full", "seeds": [0, 1, 2], "hours": 0.0}
    assert fake.ablate(**options) == []
    assert len(fake.outcome.left) == 6 and math.isnan(fake.outcome.seconds_left)

    # The first run is begun, as nothing is known of how long it takes; one of two hours is not.
    fake.ablate(rows="baseline", seeds=[0], hours=1.0)
    Run(BASELINE, 0, str(fake.out / "baseline" / "seed-0")).add_seconds(7200)
    fake.ablate(**{**options, "hours": 1.0})
    assert fake.journal("start") == [("start", "baseline/seed-0")]
    assert fake.outcome.seconds_left == pytest.approx(5 * 7200, rel=0.01)

    # Of a row that is known to be quick, runs are begun; but none before its turn.
    fake.ablate(rows="full", seeds=[5])
    fake.ablate(**{**options, "hours": 1.0})
    ran = [run for _, run in fake.journal("start")]
    assert ran == ["baseline/seed-0", "full/seed-5", "full/seed-0"]
    left = [(run.row.name, run.seed) for run in fake.outcome.left]
    assert left == [(row, seed) for seed in (1, 2) for row in ("baseline", "full")]
    assert fake.outcome.seconds_left == pytest.approx(2 * 7200, rel=0.01)

    assert fake.ablate(**{**options, "hours": None}) == []
    assert fake.outcome.left == [] and len(fake.table()) == 7


def test_the_time_left_goes_by_row_where_it_is_known(tmp_path):
    def run(row, seed, seconds=None):
        made = Run(ROWS[row], seed, str(tmp_path / row / f"seed-{seed}"))
        os.makedirs(made.folder, exist_ok=True)
        if seconds is not None:
            made.add_seconds(seconds)
        return made

    finished = [run("baseline", 0, 100), run("baseline", 1, 140), run("full", 0, 600)]
    assert expected_seconds(run("baseline", 2), finished) == 120
    assert expected_seconds(run("full", 1), finished) == 600
    assert expected_seconds(run("qfl", 0), finished) == 280  # of all
    assert expected_seconds(run("full", 2, 450), finished) == 150  # what is left of it
    assert expected_seconds(run("full", 3, 700), finished) == 0
    assert math.isnan(expected_seconds(run("qfl", 0), []))
    left = [run("baseline", 2), run("full", 1), run("qfl", 0)]
    assert seconds_left(left, finished, 1) == 1000
    assert seconds_left(left, finished, 2) == 500
    assert seconds_left(left[:1], finished, 2) == 120
    assert seconds_left([], finished, 2) == 0


def test_a_budget_has_room_for_what_ends_in_it():
    now = [50.0]
    budget = Budget(1.0, clock=lambda: now[0])
    assert budget.has_room_for(3599) and not budget.has_room_for(3601)
    assert budget.has_room_for(math.nan)
    now[0] += 3600
    assert not budget.has_room_for(0) and not budget.has_room_for(math.nan)
    assert Budget(None).has_room_for(1e12)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 min 0 s"), (725.9, "12 min 5 s"), (7800, "2 h 10 min"), (math.nan, "an unknown time")],
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


@pytest.fixture
def command(fake, run_command, monkeypatch):
    """Runs the command, with the script to train with."""
    from flags.commands import ablate as module

    monkeypatch.setattr(module, "_TRAIN", fake.command)

    def run(*arguments, do=None):
        monkeypatch.setenv("FAKE", json.dumps({"journal": str(fake.journal_file), **(do or {})}))
        run_command("ablate", *arguments, f"--out_dir={fake.out}")

    return run


def test_the_command_hands_on_flags_and_presets(fake, command, capsys):
    command("--preset=quickstart", "--rows=full", "--seeds=3", "--epochs=1", "--noaugment")
    ((arguments, _),) = fake.calls().values()
    handed = dict(argument[2:].partition("=")[::2] for argument in arguments)
    assert (handed["epochs"], handed["seed"], handed["batch_size"]) == ("1", "3", "16")
    assert "noaugment" in handed and "preset" not in handed and "rows" not in handed
    assert handed["run_dir"] == str(fake.out / "full" / "seed-3")
    assert "ablation.md, .csv and .png" in capsys.readouterr().out


def test_out_of_time_the_command_succeeds_and_says_how_to_go_on(fake, command, capsys, monkeypatch):
    typed = ["ablate", "--dataset=voc:my data", "--rows=full", "--seeds=0,1", "--hours=0"]
    monkeypatch.setattr(sys, "argv", ["harmonic-tf", *typed])
    command(*typed[1:])
    text = capsys.readouterr().out
    assert "The time is up: 2 runs are left" in text and "No run has finished" in text
    assert text.rstrip().endswith(
        "ablate --dataset='voc:my data' --rows=full --seeds=0,1 --hours=0"
    )
    command(*typed[1:-1])
    assert "The time is up" not in capsys.readouterr().out and len(fake.table()) == 2


def test_ended_by_kill_the_command_takes_its_children_along(fake, command, capsys):
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="start it again"):
            command("--dataset=voc:x", "--rows=full", "--seeds=0,1,2", do={"kill_parent": 1})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "1/3" in capsys.readouterr().out
    assert fake.journal("end") == [("end", "full/seed-0")]
    with open(fake.out / "full" / "seed-1.log") as log:  # nobody writes it any more
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_an_orphan_still_trains_is_waited_for(fake):
    run = Run(BASELINE, 0, str(fake.out / "baseline" / "seed-0"))
    os.makedirs(run.folder)
    orphan = open(run.log, "ab")  # noqa: SIM115
    fcntl.flock(orphan, fcntl.LOCK_EX)

    def finish():
        write_finished(run)
        orphan.close()

    def say(line):
        fake.lines.append(line)
        if "still being trained" in line:
            threading.Timer(0.1, finish).start()

    assert fake.ablate(rows="baseline", seeds=[0, 1], say=say) == []
    assert fake.journal("start") == [("start", "baseline/seed-1")]
    assert any("seed 0: still being trained" in line for line in fake.lines)
    assert [line["AP"] for line in fake.table()] == ["0.5", "0.01"]


def test_what_an_orphan_finishes_just_before_its_start_is_not_begun(fake, monkeypatch):
    run = Run(BASELINE, 0, str(fake.out / "baseline" / "seed-0"))
    lock = fcntl.flock

    def finished_in_between(file, operation):
        os.makedirs(run.folder, exist_ok=True)
        write_finished(run)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", finished_in_between)
    assert fake.ablate(rows="baseline", seeds=[0]) == []
    assert not fake.journal_file.exists()
    assert not any("still being trained" in line for line in fake.lines)
    assert [line["AP"] for line in fake.table()] == ["0.5"]


def test_processes_run_side_by_side_and_share_the_cores(fake, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    fake.ablate(do={"together": 2}, seeds=[0, 1], processes=2)
    whats = [what for what, _ in fake.journal("start", "end")]
    assert whats[:2] == ["start", "start"]
    running = np.cumsum([1 if what == "start" else -1 for what in whats])
    assert running.max() == 2
    _, threads = fake.calls()["full/seed-0"]
    assert threads["TF_NUM_INTRAOP_THREADS"] == threads["TF_NUM_INTEROP_THREADS"] == "2"


def test_a_single_process_keeps_all_cores(fake):
    fake.ablate(rows="full", seeds=[0])
    _, threads = fake.calls()["full/seed-0"]
    assert "TF_NUM_INTRAOP_THREADS" not in threads


def test_the_files_to_keep_are_enough_for_the_tables_and_for_more_seeds(fake, source_tree):
    fake.ablate("--epochs=1")
    for run in ("baseline/seed-0", "full/seed-0"):
        np.savez(fake.out / run / "bootstrap.npz", AP=np.arange(3.0))
        (fake.out / run / "checkpoints").mkdir()
    fake.ablate("--epochs=1")
    docs = source_tree.read("docs/ablation.md").partition("### What to keep")[2]
    listed = docs.partition("rsync")[0].split("\n    ")[1:]
    patterns = [pattern for line in listed for pattern in line.split()]
    assert "flags.txt" in patterns and "*/seed-*/metrics.json" in patterns
    before = fake.out
    fake.out = before.with_name("kept")
    for file in (file for pattern in patterns for file in before.glob(pattern)):
        kept = fake.out / file.relative_to(before)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, kept)
    fake.ablate("--epochs=1", seeds=[0, 1, 2], hours=0.0)
    for name in ("ablation.csv", "ablation.md"):
        assert (fake.out / name).read_text() == (before / name).read_text()
    assert [run.seed for run in fake.outcome.left] == [2, 2]


def test_one_folder_holds_one_experiment(fake):
    fake.ablate("--epochs=1", "--batch_size=2", rows="full", seeds=[0])
    assert (fake.out / "flags.txt").read_text().splitlines() == ["--epochs=1", "--batch_size=2"]
    with pytest.raises(SettingsError, match=r"--epochs=1, --epochs=2.*another --out_dir"):
        fake.ablate("--epochs=2", "--batch_size=2", rows="full", seeds=[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed=1"], "ablate has no flag --seed. Did you mean --seeds"),
        (["--run_dir", "x"], "ablate has no flag --run_dir"),
        (["--flagfile=gone.cfg"], "gone.cfg: No such file"),
        (["--rows=fool"], "none of baseline"),
        (["--seeds=a"], "0,1,2"),
        (["--processes=0"], "processes"),
        (["--hours=-1"], "hours"),
        (["--hours=soon"], "hours"),
        (["--model=yolov8_xs", "--rows=baseline,consistent"], "--rows=consistent: Harmonic"),
        (["--model=yolov8_xs", "--rows=consistent"], "Leave consistent out of --rows"),
        (["--rows=baseline,unit_calibrated"], "name that row too"),
        (["--rows=unit,unit_calibrated"], "there is no validation split"),
        (
            ["--rows=unit,unit_calibrated", "--val_split=val", "--calibration=linear"],
            "leave --calibration out",
        ),
        (["--batch_size=0"], "batch_size"),
    ],
)
def test_misuse_is_refused_before_anything_is_trained(fake, command, capsys, arguments, words):
    with pytest.raises(SystemExit):
        command("--dataset=voc:x", *arguments)
    assert words in capsys.readouterr().err
    assert not fake.out.exists()


def test_help_names_rows_and_files(capsys, run_command):
    run_command("ablate", "--help")
    text = capsys.readouterr().out
    for words in (*ROWS, "ablation.csv", "ablation.md", "ablation.png", "seed-N.log", "95% "):
        assert words in text


def test_yolov8_keeps_its_own_box_loss_until_the_papers_takes_its_place(fake):
    trained = [row.name for row in ROWS.values() if not row.calibrates]
    fake.ablate(model="yolov8_xs", rows=",".join(trained), seeds=[0])
    own = {"--smooth_l1_weight=0", "--iou_loss=ciou", "--iou_weight=15"}
    for name in trained:
        arguments = set(fake.calls()[f"{name}/seed-0"][0])
        if ROWS[name].iou_loss is None:
            assert own < arguments
            continue
        assert not own & arguments
        of_paper = {"--smooth_l1_weight=1", "--iou_weight=1.5"}
        assert of_paper & arguments == (of_paper if ROWS[name].coupling == "paper" else set())
        assert f"--iou_loss={'iou' if name == 'iou' else 'hiou'}" in arguments


def test_every_flag_of_a_row_is_one_of_train():
    from absl import flags as absl_flags

    import flags.experiment  # noqa: F401

    for model in ("retinanet", "yolov8_xs"):
        for row in ROWS.values():
            for flag in row.flags(model):
                name, _, value = flag[2:].partition("=")
                known = absl_flags.FLAGS[name.removeprefix("no") if not value else name]
                if value:
                    known.parser.parse(value)
                else:
                    assert known.boolean
            assert row.iou_loss in (None, *IOU_LOSSES)
            assert row.classification in (None, *CLASSIFICATION_LOSSES)


@pytest.mark.parametrize("model", ["retinanet", "yolov8_xs"])
def test_rows_are_listed_with_their_flags_and_nothing_is_trained(fake, command, capsys, model):
    command("--list_rows", f"--model={model}")
    text = capsys.readouterr().out
    for row in ROWS.values():
        assert f"{row.name:18}{row.label}\n{'':18}{' '.join(row.flags(model))}\n" in text
    assert not fake.out.exists()


def test_full_is_what_train_does_by_default_and_each_rival_is_one_change_to_the_baseline():
    for model, entry in CATALOG.items():
        assert f"--coupling={entry.loss().coupling}" in ROWS["full"].flags(model)
        rivals = {
            **{name: {"classification": name} for name in ("qfl", "vfl")},
            "correlation": {"batch_loss": "concordance"},
            **{name: {"batch_loss": name} for name in ("carl", "iou_balanced")},
            "consistent": {"regressed_labels": True},
        }
        for name, argument in rivals.items():
            ((key, value),) = argument.items()
            flag = "classification_loss" if key == "classification" else key
            changed = set(ROWS[name].flags(model)) ^ set(BASELINE.flags(model))
            assert changed == {f"--{flag}" if value is True else f"--{flag}={value}"}
            if key == "regressed_labels" and not entry.detector.labels_regressed_boxes:
                continue
            if key == "classification" and value not in entry.detector.classification_losses:
                continue
            assert entry.loss(**argument)  # every detector takes it


def results(values, row="baseline", seeds=None):
    seeds = range(len(values)) if seeds is None else seeds
    names = (*METRICS, *TIMES)
    return [
        Result(ROWS[row], seed, {**dict.fromkeys(names, math.nan), "AP": value})
        for seed, value in zip(seeds, values)
    ]


def cells(text, heading, label):
    """The cells of a Markdown row under a heading."""
    part = text.split(heading, 1)[1]
    (line,) = [line for line in part.splitlines() if line.startswith(f"| {label} |")][:1]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_means_intervals_and_paired_differences(tmp_path):
    plain, full = np.array([0.20, 0.26, 0.23]), np.array([0.31, 0.30, 0.26, 0.9])
    table = results(plain, seeds=[0, 1, 2]) + results(full, "full", seeds=[2, 1, 0, 7])
    report.write(str(tmp_path), table, "retinanet", ["--epochs=1"])
    text = (tmp_path / "ablation.md").read_text()

    half = 4.303 * plain.std(ddof=1) / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert cells(text, "## Average precision", "baseline")[:4] == [
        "baseline",
        "3",
        f"{plain.mean():.3f} ± {half:.3f}",
        "-",
    ]
    assert cells(text, "## Average precision", "full")[1] == "4"
    # Seed by seed; the baseline has no seed 7.
    pairs = full[[2, 1, 0]] - plain
    half = 4.303 * pairs.std(ddof=1) / np.sqrt(3)
    assert cells(text, "## Difference", "full")[1:3] == ["3", f"+{pairs.mean():.3f} ± {half:.3f}"]
    flags = "--coupling=none --notask_contrasting --iou_loss=none --smooth_l1_weight=1"
    assert f"baseline: {flags}\n" in text
    assert "--epochs=1" in text


def test_one_seed_has_no_interval(tmp_path):
    table = results([0.3]) + results([0.25], "hiou")
    report.write(str(tmp_path), table, "yolov8_s", [])
    text = (tmp_path / "ablation.md").read_text()
    assert cells(text, "## Average precision", "baseline")[2] == "0.300"
    assert cells(text, "## Difference", "+ Harmonic + HIoU")[2] == "-0.050"


def test_numbers_come_from_metrics_json(tmp_path):
    run = Run(ROWS["full"], 4, str(tmp_path / "seed-4"))
    os.makedirs(run.folder)
    metrics = {
        "coco": {"AP": 0.1, "AP50": 0.2, "AP75": 0.3, "APs": None, "APm": 0.5, "APl": 0.6},
        "consistency": {"mean_abs_gap": 0.7, "pearson": 0.8, "confident_misplaced": 0.9},
        "calibration": {"LaECE": 0.11, "LRP": 0.12},
        "ranking": {"AP_oracle": 0.13, "cost": 0.14},
    }
    of_groups = {
        "ranking": {**metrics["ranking"], "before_nms": {"cost": 0.15}},
        "groups": {"crowding": [{"group": "0 to 0.1", "AP": 0.16}, {"group": "x", "AP": None}]},
    }
    pathlib.Path(run.folder, "metrics.json").write_text(json.dumps({**metrics, **of_groups}))
    val = pathlib.Path(run.folder, "evaluation", "val", "metrics.json")
    val.parent.mkdir(parents=True)
    val.write_text('{"coco": {"AP": 0.17}}')
    run.files.add_step_times(1, 10, 20.0, 30.0)
    run.files.add_step_times(2, 30, 20.0, 50.0)
    run.add_seconds(2)
    run.add_seconds(3)
    path = tmp_path / "a.csv"
    report.write_csv(str(path), [read_result(run, "val")])
    with open(path, newline="") as file:
        (line,) = csv.DictReader(file)
    given = {name: value for section in metrics.values() for name, value in section.items()}
    expected = {name: "" if value is None else repr(value) for name, value in given.items()}
    expected |= {"row": "full", "seed": "4", "seconds": "5.0", "unconfident_well_placed": ""}
    expected |= {"step_seconds": "1.0", "step_cpu_seconds": "2.0", "cost_before_nms": "0.15"}
    expected |= {"AP of crowding 0 to 0.1": "0.16", "AP of crowding x": ""}
    expected |= {f"{name} on val": "0.17" if name == "AP" else "" for name in METRICS}
    assert line == expected


def test_the_page_tells_differences_over_seeds_and_pictures_and_what_is_missing(tmp_path):
    draws = np.array([-0.01, 0.0, 0.02])
    plain, better = results([0.2, 0.24]), results([0.3, 0.34], "full")
    table = [
        *(dataclasses.replace(result, draws={"AP": draws}) for result in plain),
        *(dataclasses.replace(result, draws={"AP": draws + 0.1}) for result in better),
        *(dataclasses.replace(r, draws={"AP": -draws}) for r in results([0.3, 0.34], "hiou")),
    ]
    report.write(str(tmp_path), table, "retinanet", [])
    text = (tmp_path / "ablation.md").read_text()
    row = cells(text, "## Difference", "full")
    assert row == ["full", "2", "+0.100 ± 0.000", "+0.100 to +0.100", "better"]
    row = cells(text, "## Difference", "+ Harmonic + HIoU")
    low, high = np.percentile(-2 * draws, (2.5, 97.5))
    assert row[3:] == [f"{low:+.3f} to {high:+.3f}", "open"]  # though over seeds it is better
    page = (tmp_path / "ablation.html").read_text()
    assert page.count("data:image/png;base64") == 2
    assert "bootstrap.npz" not in page and "On the validation split" not in page

    report.write(str(tmp_path), plain + better, "retinanet", [])
    text = (tmp_path / "ablation.md").read_text()
    assert cells(text, "## Difference", "full")[3:] == ["-", "better"]
    assert "Runs without bootstrap.npz: 4." in text

    # One training says nothing of their spread, whatever the pictures say.
    report.write(str(tmp_path), [table[0], table[2]], "retinanet", [])
    text = (tmp_path / "ablation.md").read_text()
    assert cells(text, "## Difference", "full")[1:] == [
        *("1", "+0.100", "+0.100 to +0.100", "open")
    ]

    known = [
        dataclasses.replace(result, val={"AP": 0.5 + more}, groups={("crowding", "x"): 0.4 + more})
        for side, more in ((plain, 0.0), (better, 0.2))
        for result in side
    ]
    report.write(str(tmp_path), known, "retinanet", [])
    text = (tmp_path / "ablation.md").read_text()
    assert cells(text, "## On the validation split", "baseline")[1:4] == ["2", "0.500 ± 0.000", "-"]
    assert "| full | 2 | +0.200 ± 0.000 | - |" in text.split("## On the validation split")[1]
    assert cells(text, "## Where it matters", "baseline")[1:] == ["2", "0.400 ± 0.000"]
    assert "| full | 2 | +0.200 ± 0.000 |" in text.split("## Where it matters")[1]
    report.write(str(tmp_path), known[:2], "retinanet", [])
    assert "row - baseline" not in (tmp_path / "ablation.md").read_text()


@pytest.mark.parametrize("plot", [plot_rows, plot_differences])
def test_plot_is_a_picture_even_of_one_run_and_of_what_is_not_known(tmp_path, plot):
    for table in (
        results([0.3]) + results([0.2], "unit"),
        results([0.3, 0.4, 0.35]) + results([0.2, 0.25, 0.3], "full") + results([0.1], "qfl"),
    ):
        plot(str(tmp_path / "a.png"), table)
        with Image.open(tmp_path / "a.png") as picture:
            assert np.asarray(picture).std() > 0

"""The two commands as a user runs them: whole runs at toy size, and what they say when misused."""

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest

TOP = pathlib.Path(__file__).resolve().parents[1]
TOY = [
    "--scenes_train=8",
    "--scenes_val=4",
    "--scenes_test=4",
    "--scenes_size=64",
    "--image_size=64",
    "--channels=16",
    "--head_depth=1",
    "--batch_size=4",
    "--epochs=2",
    "--eval_every=1",
    "--sheet_pictures=4",
    "--score_threshold=0.001",
    "--precision=float32",
]


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, script, *arguments], cwd=TOP, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """A finished quickstart at toy size: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("quickstart")
    result = run(
        "train.py",
        "--preset=quickstart",
        *TOY,
        f"--dataset=scenes:{folder}/scenes",
        f"--run_dir={folder}/run",
        f"--export_dir={folder}/run/models/toy",
    )
    assert result.returncode == 0, result.stderr
    return folder / "run", result.stdout


def test_quickstart_leaves_everything_behind(quickstart):
    folder, _ = quickstart
    for name in (
        "experiment.json",
        "flags.cfg",
        "version.json",
        "classes.json",
        "metrics.json",
        "detections.json",
        "report.md",
        "report.html",
        "detections.png",
        "score_iou.png",
        "checkpoints/last.keras",
        "checkpoints/best.keras",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "logs").rglob("events.out.*"))
    assert "detections.png" in (folder / "report.md").read_text()


def test_quickstart_prints_the_results_and_what_to_try_next(quickstart):
    folder, printed = quickstart
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(metrics["coco"]) == 12
    assert metrics["counts"]["pictures"] == 4
    for words in ("AP50", "mAP", "Mean |score - IoU|", "What to try next"):
        assert words in printed
    assert "classification_loss" in printed


def test_evaluate_gives_the_same_numbers_for_the_same_split(quickstart, tmp_path):
    folder, _ = quickstart
    result = run("evaluate.py", f"--run={folder}", f"--out_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(
        (folder / "metrics.json").read_text()
    )


def test_what_is_exported_gives_the_same_numbers(quickstart, tmp_path):
    folder, printed = quickstart
    version = folder / "models" / "toy" / "1"
    assert f"Exported: {version}" in printed
    assert (version.parent / "docker-compose.yml").is_file()
    arguments = ("evaluate.py", f"--run={folder}", f"--checkpoint={version}")
    result = run(*arguments, f"--out_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    measured, expected = (
        json.loads((place / "metrics.json").read_text())["coco"] for place in (tmp_path, folder)
    )
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name] == (value if value is None else pytest.approx(value, abs=1e-4))

    (version / "assets" / "labels.txt").write_text("".join(f"{k}\n" for k in range(6)))
    result = run(*arguments)
    assert result.returncode == 1
    assert "the model's classes are ['0', '1', '2', '3', '4', '5'], those of" in result.stderr


def test_an_export_dir_that_cannot_be_written_to_is_seen_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    result = run(
        "train.py",
        "--preset=quickstart",
        f"--run_dir={tmp_path}/run",
        f"--export_dir={tmp_path}/file",
    )
    assert result.returncode == 1
    assert "export_dir cannot be written to" in result.stderr
    assert "Epoch" not in result.stdout


def test_evaluate_measures_other_splits_and_checkpoints(quickstart, tmp_path):
    folder, _ = quickstart
    result = run(
        "evaluate.py",
        f"--run={folder}",
        "--checkpoint=last",
        "--split=train",
        "--score_threshold=0.5",
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((folder / "evaluation" / "train" / "metrics.json").read_text())
    assert metrics["counts"]["pictures"] == 8


def test_yolov8_trains_and_is_measured_with_soft_nms(tmp_path):
    result = run(
        "train.py",
        "--preset=quickstart_yolov8",
        *TOY,
        "--nms=soft",
        f"--dataset=scenes:{tmp_path}/scenes",
        f"--run_dir={tmp_path}/run",
    )
    assert result.returncode == 0, result.stderr
    assert "--iou_loss=ciou" in result.stdout  # its own baseline
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["counts"]["pictures"] == 4
    assert "HarmonicYOLOV8Detector" in checkpoint_config(tmp_path / "run/checkpoints/best.keras")


def checkpoint_config(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("config.json").decode()


def test_train_explains_missing_backbone_weights(quickstart, tmp_path):
    folder, _ = quickstart
    result = run(
        "train.py",
        f"--flagfile={folder}/flags.cfg",
        "--backbone_weights=none.h5",
        f"--run_dir={tmp_path}/run",
    )
    assert result.returncode != 0
    assert "'none.h5': no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_train_refuses_to_overwrite_a_run(quickstart):
    folder, _ = quickstart
    result = run("train.py", f"--flagfile={folder}/flags.cfg")
    assert result.returncode != 0
    assert "already holds a run" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "script, arguments, words",
    [
        ("train.py", ["--dataset=voc:/nowhere", "--run_dir={tmp}"], "/nowhere"),
        ("train.py", ["--dataset=voc:x", "--image_size=100"], "multiple of 32"),
        ("train.py", ["--dataset=voc:x", "--dfl_weight=1"], "Choose 0, or a YOLOv8"),
        ("train.py", ["--dataset=voc:x", "--run_dir=/dev/null/x"], "cannot be written to"),
        ("train.py", ["--dataset=voc:x", "stray"], "stray"),
        ("train.py", [], "One data set is needed"),
        ("evaluate.py", ["--run=/nowhere"], "is no training run"),
        ("evaluate.py", ["--dataset=voc:x", "--checkpoint=none.keras"], "no such checkpoint"),
        ("evaluate.py", ["--dataset=voc:x", "--detections={tmp}"], "voc:x"),
    ],
)
def test_misuse_is_explained_without_a_traceback(script, arguments, words, tmp_path):
    result = run(script, *(argument.format(tmp=tmp_path / "run") for argument in arguments))
    assert result.returncode != 0
    assert words in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_help_explains_every_area():
    result = run("train.py", "--help")
    assert result.returncode == 0
    for words in ("what to train and measure on", "the network", "the joint loss", "--flagfile"):
        assert words in result.stdout

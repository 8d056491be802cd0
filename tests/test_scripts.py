"""The two commands as a user runs them: whole runs at toy size, and what they say when misused."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile

import pytest

from harmonic_tf.backend import keras_cv
from tests.processes import TIMEOUT, TOP, run
from tests.tiny import TinyBackbone, preset_of

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
    "--jit_compile=false",
]


def run_script(script, *arguments, cwd):
    """As a user of a checkout does; `run` is the same without waiting for imports."""
    return subprocess.run(
        [sys.executable, TOP / script, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """A finished quickstart at toy size, started in the folder above its own: it, what it said."""
    folder = tmp_path_factory.mktemp("quickstart")
    narrow = keras_cv.models.CSPDarkNetBackbone(
        stackwise_channels=[8] * 4, stackwise_depth=[1] * 4, include_rescaling=True
    )
    result = run_script(
        *("train.py", "--preset=quickstart", *TOY),
        f"--backbone={preset_of(narrow, folder)}",
        *("--dataset=scenes:scenes", "--run_dir=run", "--export_dir=run/models/toy"),
        cwd=folder,
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
        "step_times.json",
        "evaluation/val/metrics.json",
        "evaluation/val/detections.json",
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


def test_evaluate_gives_the_same_numbers_from_any_folder(quickstart, tmp_path):
    """What a run says of files holds wherever a command is started."""
    folder, _ = quickstart
    result = run_script("evaluate.py", f"--run={folder}", "--out_dir=out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert os.listdir(tmp_path) == ["out"]  # the scenes were not rendered once more
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(
        (folder / "metrics.json").read_text()
    )


def test_what_is_exported_gives_the_same_numbers(quickstart, tmp_path):
    folder, printed = quickstart
    version = folder / "models" / "toy" / "1"
    assert f"Exported: {version}" in printed
    assert (version.parent / "docker-compose.yml").is_file()
    arguments = ("evaluate", f"--run={folder}", f"--checkpoint={version}")
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


def test_a_run_is_calibrated_measured_and_exported(quickstart, tmp_path):
    """Train calibrates; `calibrate` does so anew; `--nocalibrated` and `none` leave it out."""
    folder = tmp_path / "run"
    shutil.copytree(quickstart[0], folder, ignore=shutil.ignore_patterns("logs", "states"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["calibrated_by"]["method"] == "isotonic"

    def measured(*arguments):
        result = run("evaluate", f"--run={folder}", f"--out_dir={tmp_path / 'out'}", *arguments)
        assert result.returncode == 0, result.stderr
        return json.loads((tmp_path / "out" / "metrics.json").read_text())

    raw = measured("--nocalibrated")
    assert raw["calibration"]["LaECE"] == metrics["before_calibration"]["LaECE"]
    assert "before_calibration" not in raw

    result = run("calibrate", f"--run={folder}", "--calibration=linear")
    assert result.returncode == 0, result.stderr
    for words in ("raw scores", "linear", "LaECE", "calibration.json", "harmonic-tf evaluate"):
        assert words in result.stdout
    linear = measured()
    assert linear["calibrated_by"]["method"] == "linear"
    assert linear["coco"] == pytest.approx(raw["coco"], abs=1e-6, nan_ok=True)
    result = run("export", f"--run={folder}", f"--export_dir={tmp_path / 'm'}")
    assert result.returncode == 0, result.stderr
    served = measured(f"--checkpoint={tmp_path / 'm' / '1'}")
    assert served["calibration"]["LaECE"] == pytest.approx(linear["calibration"]["LaECE"], abs=1e-5)

    result = run("calibrate", f"--run={folder}", "--calibration=none")
    assert result.returncode == 0, result.stderr
    assert "scores are left as they are" in result.stdout
    assert not (folder / "calibration.json").exists()
    result = run("calibrate", f"--run={folder}", "--val_split=test")
    assert (result.returncode, "--val_split=test is the --test_split" in result.stderr) == (1, True)
    settings = json.loads((folder / "experiment.json").read_text())
    del settings["val_split"]
    (folder / "experiment.json").write_text(json.dumps(settings))
    result = run("calibrate", f"--run={folder}")
    assert result.returncode == 1
    assert "there is no validation split" in result.stderr


def test_an_export_dir_that_cannot_be_written_to_is_seen_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    result = run(
        "train",
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
        "evaluate",
        f"--run={folder}",
        "--checkpoint=last",
        "--split=train",
        "--score_threshold=0.5",
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((folder / "evaluation" / "train" / "metrics.json").read_text())
    assert metrics["counts"]["pictures"] == 8


def test_what_training_measures_on_val_is_what_evaluate_measures(quickstart, tmp_path):
    folder, _ = quickstart
    result = run("evaluate", f"--run={folder}", "--split=val", f"--out_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    again = json.loads((tmp_path / "metrics.json").read_text())
    left = json.loads((folder / "evaluation" / "val" / "metrics.json").read_text())
    del again["ranking"]["before_nms"]  # what is before NMS was not kept
    assert again.keys() - left.keys() == {"consistency_before_nms", "suppression"}
    assert left == {name: again[name] for name in left}
    found = [path / "detections.json" for path in (tmp_path, folder / "evaluation" / "val")]
    assert found[0].read_bytes() == found[1].read_bytes()


def test_yolov8_trains_and_is_measured_with_soft_nms(tmp_path):
    result = run(
        "train",
        "--preset=quickstart_yolov8",
        *TOY,
        f"--backbone={preset_of(TinyBackbone(16), tmp_path)}",
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
        "train",
        f"--flagfile={folder}/flags.cfg",
        "--backbone_weights=none.h5",
        f"--run_dir={tmp_path}/run",
    )
    assert result.returncode != 0
    assert "'none.h5': no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_train_refuses_to_overwrite_a_run(quickstart):
    folder, _ = quickstart
    result = run("train", f"--flagfile={folder}/flags.cfg")
    assert result.returncode != 0
    assert "already holds a run" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command, arguments, words",
    [
        ("train", ["--dataset=voc:/nowhere", "--run_dir={tmp}"], "/nowhere"),
        ("train", ["--dataset=voc:x", "--image_size=100"], "multiple of 32"),
        ("train", ["--dataset=voc:x", "--dfl_weight=1"], "Choose 0, or a YOLOv8"),
        ("train", ["--dataset=voc:x", "--run_dir=/dev/null/x"], "cannot be written to"),
        ("train", ["--dataset=voc:x", "stray"], "stray"),
        ("train", [], "One data set is needed"),
        ("evaluate", ["--run=/nowhere"], "is no training run"),
        ("evaluate", ["--dataset=voc:x", "--checkpoint=none.keras"], "no such checkpoint"),
        ("evaluate", ["--dataset=voc:x", "--detections={tmp}"], "voc:x"),
    ],
)
def test_misuse_is_explained_without_a_traceback(command, arguments, words, tmp_path):
    result = run(command, *(argument.format(tmp=tmp_path / "run") for argument in arguments))
    assert result.returncode != 0
    assert words in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def pasted(printed, what):
    """A command that was printed, as a shell takes it apart."""
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(what)]
    return shlex.split(line.strip()[len(what) :])


def test_printed_commands_can_be_pasted(quickstart, tmp_path):
    moved = tmp_path / "mein lauf ü"  # the folder of a run may be copied
    shutil.copytree(quickstart[0], moved)
    resumed = run("train", "--resume", f"--run_dir={moved}", "--export_dir=", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    measure = pasted(resumed.stdout, "another split")
    assert measure[-3:] == ["evaluate", f"--run={moved}", "--split=train"]
    baseline = pasted(resumed.stdout, "the baseline")
    assert f"--flagfile={moved}/flags.cfg" in baseline and "--coupling=none" in baseline
    assert pasted(resumed.stdout, "curves") == ["tensorboard", "--logdir", f"{moved}/logs"]


def test_resume_without_a_run_says_so(tmp_path):
    result = run("train", "--resume", "--run_dir=nothere", cwd=tmp_path)
    assert result.returncode == 1
    assert "Error: nothere: there is no run to resume" in result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("evaluate", ["--run={run}", "--out_dir={file}"], "{file}: File exists"),
        ("export", ["--run={run}", "--export_dir={file}/x"], "{file}"),
        ("inspect", ["scenes:{data}", "--out_dir={file}/x"], "{file}/x: Not a directory. Check"),
        ("evaluate", ["--run={half}"], "{half}/checkpoints/best.keras: no such checkpoint"),
        ("export", ["--run={half}", "--export_dir=m"], "{half}/checkpoints/best.keras: no such"),
        ("evaluate", ["--dataset=coco:{data}", "--detections=gone.json"], "gone.json"),
        ("train", ["--flagfile=gone.cfg"], "gone.cfg: No such file or directory. Check the path."),
    ],
)
def test_errors_of_files_name_path_and_remedy(quickstart, tmp_path, command, arguments, words):
    folder, _ = quickstart
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(folder / "experiment.json", half)
    (tmp_path / "file").write_text("")
    places = {"run": folder, "half": half, "file": tmp_path / "file", "data": folder / "../scenes"}
    result = run(command, *(argument.format(**places) for argument in arguments))
    assert result.returncode == 1, result.stderr
    assert words.format(**places) in result.stderr
    assert "[Errno" not in result.stderr and "Traceback" not in result.stderr


def test_help_needs_no_tensorflow():
    program = f"""
import sys
sys.path.insert(0, {str(TOP)!r})
from flags.command import COMMANDS, main
for name in COMMANDS:
    main([name, "--help"])
main(["--list_presets"])
main(["--help"])
sys.exit("tensorflow" in sys.modules or "harmonic_tf" in sys.modules or "absl" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for words in ("what to train and measure on", "the network", "the joint loss", "--flagfile"):
        assert words in result.stdout
    assert "quickstart_yolov8_baseline" in result.stdout

"""Flags as a command line gives them, parsed within this process."""

import contextlib
import dataclasses
import pathlib

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from flags.command_line import expanded
from flags.experiment import (
    check_resumable,
    chosen_by,
    experiment,
    experiment_of_run,
    flagfile,
    flags_of_run,
    resolved,
)
from flags.running import UsageError
from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.models import BOX_GAIN, RPN_ANCHORS, SMOOTH_L1_WEIGHT
from harmonic_tf.training.run_directory import RunDirectory
from harmonic_tf.training.settings import AUTO

PRESETS = sorted((pathlib.Path(__file__).resolve().parents[1] / "flags" / "presets").glob("*.cfg"))


@contextlib.contextmanager
def parsed(*arguments):
    """A command line whose flags are in force; afterwards all are as they were."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["train", *expanded(arguments)])
        yield


def experiment_of(*arguments):
    """The experiment of a command line."""
    with parsed(*arguments):
        return experiment()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--positive_iou=0.3"], "negative_iou"),
        (["--anchor_sizes=1,2"], "five numbers"),
        (["--anchor_ratios=1,x"], "positive numbers"),
        (["--backbone=resnet17"], "resnet18"),
        (["--model=yolov7"], "yolov8_xs"),
        (["--model=yolov8_s", "--classification_loss=focal"], "Choose .cross_entropy."),
        (["--dfl_weight=1"], "Choose 0, or a YOLOv8"),
        (["--model=yolov8_s", "--regressed_labels"], "Leave it out, or choose a RetinaNet"),
        (["--classification_loss=vfl", "--regressed_labels"], "learns the IoU of the regressed"),
        (["--val_fraction=0.1", "--val_split=val"], "--val_fraction or --val_split, not both"),
        (["--val_fraction=0.5", "--test_fraction=0.5"], "leave something to train on"),
        (["--test_fraction=1.5"], "test_fraction"),
        (["--shots=0"], "shots"),
        (["--model=yolov8_s", "--cosine_classifier"], "is RetinaNet's: leave it out"),
        (["--split_by=x"], "give --val_fraction or --test_fraction too"),
        (["--epochs=some"], "flag --epochs=some"),
        (["--batch_size=0"], "flag --batch_size=0"),
        (["--eval_every=-1"], "flag --eval_every=-1"),
        (["--epochs=auto", "--schedule=step"], "give --epochs as a number"),
        (["--patience=0"], "flag --patience=0"),
        (["--finest_stride=4"], "is Faster R-CNN's: leave it out"),
        (["--sampled_rois=9", "--proposals=8"], "must not be larger than --proposals"),
        (["--model=faster_rcnn", "--classification_loss=qfl"], "softmax_cross_entropy"),
    ],
)
def test_misuse_is_refused(arguments, words):
    with pytest.raises((absl_flags.Error, UsageError), match=words):
        experiment_of("--dataset=voc:x", *arguments)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "eval_every"])
def test_numbers_may_be_left_to_the_data_by_auto(name):
    assert getattr(experiment_of("--dataset=voc:x", f"--{name}=auto"), name) == AUTO
    assert getattr(experiment_of("--dataset=voc:x", f"--{name}=3"), name) == 3


def test_auto_when_resumed_is_what_the_run_chose(tmp_path):
    run = RunDirectory(str(tmp_path))
    with parsed("--dataset=voc:x", "--epochs=auto", "--batch_size=auto", "--eval_every=2"):
        chosen = {"epochs": 48, "batch_size": 4}
        run.write_settings(resolved(**chosen), flagfile(resolved(**chosen)))
        check_resumable(run)
        assert chosen_by(run) == chosen
    with parsed(*flags_of_run(run.path)):
        check_resumable(run)
        assert chosen_by(run) == {}
        assert (experiment().epochs, experiment().batch_size) == (48, 4)
    with parsed("--dataset=voc:x", "--batch_size=8"), pytest.raises(UsageError, match="batch_size"):
        check_resumable(run)


def test_each_run_has_its_own_flags_whatever_is_in_force(tmp_path):
    given = {
        "a": ("--dataset=voc:a", "--val_split=val", "--nms=soft", "--max_pixels=9"),
        "b": ("--dataset=voc:b", "--batch_size=auto"),
    }
    for name, arguments in given.items():
        (tmp_path / name).mkdir()
        with parsed(*arguments):
            RunDirectory(str(tmp_path / name)).write_settings(resolved(), "")
    with parsed("--dataset=voc:c", "--max_pixels=7"):
        a, b = (experiment_of_run(str(tmp_path / name)) for name in given)
    assert (a.data.val_split, a.model.decoder.nms, a.data.max_pixels) == ("val", "soft", 9)
    assert (b.data.val_split, b.model.decoder.nms) == (None, "hard")
    assert b.data.dataset.endswith("b") and b.batch_size != AUTO


def test_anchors_of_faster_rcnn_start_from_its_own():
    usual = experiment_of("--dataset=voc:x", "--model=faster_rcnn").model
    assert usual.anchors == RPN_ANCHORS and usual.fit_anchors
    given = "--finest_stride=8", "--anchor_ratios=1"
    coarse = experiment_of("--dataset=voc:x", "--model=faster_rcnn", *given).model.anchors
    assert coarse.strides == AnchorGrid().strides
    assert (coarse.sizes, coarse.scales) == (RPN_ANCHORS.sizes, (1.0,))
    assert coarse.aspect_ratios == (1.0,)


def test_every_preset_parses_and_its_baseline_differs_only_in_the_loss():
    experiments = {
        preset.stem: experiment_of("--dataset=voc:x", f"--flagfile={preset}") for preset in PRESETS
    }
    twins = [name for name in experiments if f"{name}_baseline" in experiments]
    alone = {name for name in experiments if name.startswith(("ablation_", "own"))}
    assert len(twins) * 2 + len(alone) == len(experiments) >= 8
    for name in twins:
        full, plain = experiments[name], experiments[f"{name}_baseline"]
        for field in dataclasses.fields(full):
            if field.name != "loss":
                assert getattr(full, field.name) == getattr(plain, field.name), (name, field.name)
        assert full.loss.coupling and full.loss.task_contrasting and full.loss.iou_loss == "hiou"
        assert not (plain.loss.coupling or plain.loss.task_contrasting)
        detector = full.model.name.split("_")[0]
        weights, coupling, own_terms = {
            "retinanet": ((SMOOTH_L1_WEIGHT, 1.5), "paper", (1, None)),
            "faster": ((1, 1.5), "paper", (1, None)),
        }.get(detector, ((0, BOX_GAIN), "unit", (0, "ciou")))
        assert (full.loss.smooth_l1_weight, full.loss.iou_weight) == weights, name
        assert full.loss.coupling == coupling
        assert (plain.loss.smooth_l1_weight, plain.loss.iou_loss) == own_terms, name
        assert full.loss.classification == plain.loss.classification

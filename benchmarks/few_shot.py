"""Few-shot learning on rendered scenes: are base classes kept, are novel ones learned?

python benchmarks/few_shot.py --out_dir=runs/few-shot

A detector learns the base classes, in pictures where novel objects are there but not annotated.
Then it learns all classes from so many objects of each, three ways: by its last layers alone, by
these with a cosine classifier, and by all that it has. Every training is one of `train`, so the
commands stand in DIR/.../flags.cfg. Writes few_shot.md and few_shot.json: AP of base and of novel
classes on the same held-out pictures. Started again, it goes on where it was. 50 minutes on two
cores that did other things too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags

from harmonic_tf.data.scenes.drawing import CLASS_NAMES
from harmonic_tf.files import write_text
from harmonic_tf.tables import markdown_table, number
from harmonic_tf.training.run_directory import RunDirectory

_OUT_DIR = flags.DEFINE_string("out_dir", "runs/few-shot", "Folder of everything.")
_NOVEL = flags.DEFINE_list("novel", ["cross", "ring"], "Classes that the base does not know.")
_SHOTS = flags.DEFINE_list("shots", ["5", "10"], "Objects of each class.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Of the draws; the base has seed 0.")
_BASE_EPOCHS = flags.DEFINE_integer("base_epochs", 5, "Epochs of the base.", 1)
_EPOCHS = flags.DEFINE_integer("epochs", 25, "Epochs over the shots.", 1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Over the shots.", 0.0)
_MORE = flags.DEFINE_list("more", [], "Further flags of every training, without dashes.")

_TRAIN = (sys.executable, str(pathlib.Path(__file__).resolve().parents[1] / "train.py"))
_METHODS = {
    "last layers": ("--freeze=all_but_last",),
    "last layers, cosine": ("--freeze=all_but_last", "--cosine_classifier"),
    "everything": ("--freeze_batch_norm",),  # two pictures have no statistics
}
_TAIL = 15  # lines of a log that a message shows


@dataclasses.dataclass(frozen=True)
class Result:
    """How good a detector is, in [0, 1]; None for classes that it does not know.

    Args:
        shots: objects of each class that it was trained on; 0 for the base itself.
        method: how.
        seed: of the draw.
        base_ap: AP of the base classes, their mean.
        base_ap50: AP50 likewise.
        novel_ap: AP of the novel classes.
        novel_ap50: AP50 likewise.
    """

    shots: int
    method: str
    seed: int
    base_ap: float
    base_ap50: float
    novel_ap: float | None
    novel_ap50: float | None


def base_classes() -> list[str]:
    """The classes that the base learns."""
    return [name for name in CLASS_NAMES if name not in _NOVEL.value]


def trained(name: str, arguments: list[str]) -> RunDirectory:
    """The run of that name, trained where it is not finished.

    Raises:
        SystemExit: the training failed.
    """
    run = RunDirectory(os.path.join(_OUT_DIR.value, name))
    if not os.path.isfile(run.file("metrics.json")):
        print(f"{name} ...", flush=True)
        common = (
            "--preset=quickstart",
            f"--dataset=scenes:{os.path.join(_OUT_DIR.value, 'scenes')}",
            "--val_split=",  # few-shot learning has no pictures to choose by
            "--precision=float32",
            f"--run_dir={run.path}",
            "--resume",
        )
        more = [f"--{flag}" for flag in _MORE.value]
        os.makedirs(os.path.dirname(run.path), exist_ok=True)
        log = pathlib.Path(f"{run.path}.log")
        with open(log, "ab") as file:
            command = [*_TRAIN, *common, *arguments, *more]
            status = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
        if status:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
            sys.exit(f"{name} failed; {log} ends\n{end}")
    return run


def base() -> RunDirectory:
    """The detector of the base classes; objects of others are left out, their pictures stay."""
    return trained(
        "base",
        [
            f"--classes={','.join(base_classes())}",
            *("--on_bad_example=skip", "--max_bad_fraction=1"),
            f"--epochs={_BASE_EPOCHS.value}",
        ],
    )


def fine_tuned(checkpoint: str, shots: int, method: str, seed: int) -> RunDirectory:
    """The detector of all classes that starts from the base."""
    return trained(
        os.path.join(f"{shots}-shots", method.replace(", ", "-").replace(" ", "-"), f"seed-{seed}"),
        [
            f"--start_from={checkpoint}",
            f"--shots={shots}",
            f"--seed={seed}",
            f"--epochs={_EPOCHS.value}",
            *("--batch_size=2", "--warmup_steps=10"),
            f"--learning_rate={_LEARNING_RATE.value}",
            *_METHODS[method],
        ],
    )


def result_of(run: RunDirectory, shots: int, method: str, seed: int) -> Result:
    """What the run's report says of base and of novel classes."""
    per_class = json.loads(run.read_text("metrics.json"))["coco_per_class"]

    def mean(names: list[str], key: str) -> float | None:
        known = [per_class[name][key] for name in names if name in per_class]
        return statistics.fmean(known) if known else None

    sides = (base_classes(), _NOVEL.value)
    values = [mean(names, key) for names in sides for key in ("AP", "AP50")]
    return Result(shots, method, seed, *values)


def table(results: list[Result]) -> str:
    """All results, and the mean over the seeds of each kind of training."""
    header = ["shots", "method", "seed", "AP base", "AP50 base", "AP novel", "AP50 novel"]
    kinds = {(result.shots, result.method) for result in results}
    rows = []
    for kind in sorted(kinds, key=lambda kind: (kind[0], [*_METHODS, "base"].index(kind[1]))):
        of_kind = [result for result in results if (result.shots, result.method) == kind]
        values = [dataclasses.astuple(result)[3:] for result in of_kind]
        rows += [[*kind, r.seed, *map(_cell, v)] for r, v in zip(of_kind, values)]
        if len(of_kind) > 1:
            means = [statistics.fmean(column) for column in zip(*values)]
            rows.append([*kind, "mean", *map(_cell, means)])
    return markdown_table(header, rows, names=2)


def _cell(value: float | None) -> str:
    return "-" if value is None else number(value)


def check_same_options() -> None:
    """Makes sure that the folder holds no trainings of other options.

    Raises:
        UsageError: it does.
    """
    options = {
        flag.name: flag.value for flag in (_NOVEL, _BASE_EPOCHS, _EPOCHS, _LEARNING_RATE, _MORE)
    }
    file = pathlib.Path(_OUT_DIR.value, "options.json")
    if not file.is_file():
        os.makedirs(_OUT_DIR.value, exist_ok=True)
        write_text(str(file), json.dumps(options) + "\n")
    before = json.loads(file.read_text())
    if before != options:
        raise app.UsageError(f"{file}: {before}, now {options}. Name another --out_dir.")


def write(results: list[Result]) -> None:
    """Writes the tables, for people and for programs."""
    rows = [dataclasses.asdict(result) for result in results]
    texts = {"few_shot.md": table(results), "few_shot.json": json.dumps(rows, indent=2)}
    for name, text in texts.items():
        write_text(os.path.join(_OUT_DIR.value, name), f"{text}\n")


def main(_) -> None:
    """Trains what is missing; writes the tables after every training."""
    if unknown := set(_NOVEL.value) - set(CLASS_NAMES):
        raise app.UsageError(f"--novel: {unknown} are none of {', '.join(CLASS_NAMES)}.")
    check_same_options()
    run = base()
    results = [result_of(run, 0, "base", 0)]
    for seed in map(int, _SEEDS.value):
        for shots in map(int, _SHOTS.value):
            for method in _METHODS:
                tuned = fine_tuned(run.checkpoint("best"), shots, method, seed)
                results.append(result_of(tuned, shots, method, seed))
                write(results)
    print(table(results))


if __name__ == "__main__":
    app.run(main)

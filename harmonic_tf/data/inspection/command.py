"""Says what there is to know about a data set before training: `inspection.md` and pictures.

python -m harmonic_tf.data.inspection.command voc:PATH [--split=trainval] [--image_size=512] ...
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

from harmonic_tf.anchors import AnchorGrid
from harmonic_tf.data.example import DataError
from harmonic_tf.data.inspection import plots
from harmonic_tf.data.inspection.findings import Findings, inspect
from harmonic_tf.data.inspection.report import headlines, report
from harmonic_tf.data.splits import find_splits

_REPORT = "inspection.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Inspects a data set and writes the report.

    Args:
        argv: the arguments; by default those of the process.

    Raises:
        SystemExit: the arguments make no sense, or nothing of the data can be used.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        grid = AnchorGrid(
            strides=arguments.strides,
            sizes=arguments.anchor_sizes,
            scales=arguments.anchor_scales,
            aspect_ratios=arguments.anchor_ratios,
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        findings = inspect(
            arguments.source,
            arguments.split or find_splits(arguments.source),
            arguments.classes,
            arguments.image_size,
            grid if arguments.model == "retinanet" else None,
            arguments.positive_iou,
        )
        write(findings, arguments.out)
    except (DataError, OSError) as error:
        sys.exit(str(error))
    lines = [*headlines(findings), f"Written: {os.path.join(arguments.out, _REPORT)}"]
    sys.stdout.write("\n".join(lines) + "\n")


def write(findings: Findings, folder: str) -> None:
    """Writes `inspection.md` and its pictures; each file appears when it is whole.

    Args:
        findings: as `inspect` returns them.
        folder: where to; made if missing.

    Raises:
        OSError: the folder cannot be written to.
    """
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".inspection-", dir=folder) as unfinished:
        pictures = plots.draw(findings, unfinished)
        path = os.path.join(unfinished, _REPORT)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(report(findings, pictures))
        for name in (*pictures.values(), _REPORT):
            os.replace(os.path.join(unfinished, name), os.path.join(folder, name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harmonic_tf.data.inspection",
        description="What there is to know about a data set before training.",
        allow_abbrev=False,
    )
    grid = AnchorGrid()
    add = parser.add_argument
    add("source", metavar="SRC", help="KIND:PATH, as for train.py --dataset")
    add("--split", action="append", help="may be given several times; by default all splits")
    add("--classes", type=_names, help="comma-separated; by default all that the data names")
    add("--image_size", type=_side, default=512, help="what the model sees, pixels (%(default)s)")
    add("--model", choices=("retinanet", "yolov8"), default="retinanet", help="(%(default)s)")
    for name, values, what in (
        ("anchor_sizes", grid.sizes, "side of the square anchor of each level, pixels"),
        ("anchor_scales", (1.0, 1.26, 1.587), "multipliers of every anchor size"),
        ("anchor_ratios", grid.aspect_ratios, "width / height of the anchors"),
        ("strides", grid.strides, "distance between cells of each level, pixels"),
    ):
        default = ",".join(f"{value:g}" for value in values)
        add(f"--{name}", type=_numbers, default=default, help=f"RetinaNet: {what} (%(default)s)")
    add(
        "--positive_iou",
        type=_overlap,
        default=0.5,
        help="RetinaNet: match from here (%(default)s)",
    )
    add("--out", default="inspection", help="folder of the report (%(default)s)")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _side(text: str) -> int:
    side = int(text)
    if side < 1:
        raise argparse.ArgumentTypeError("must be pixels, at least 1")
    return side


def _overlap(text: str) -> float:
    overlap = float(text)
    if not 0.0 <= overlap <= 1.0:
        raise argparse.ArgumentTypeError("must be in [0, 1]")
    return overlap


if __name__ == "__main__":
    main()

"""Asks a served model what is in pictures: prints JSON, or draws.

python -m harmonic_tf.export.client --url=grpc://localhost:8500 --model=scenes picture.jpg ...
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from harmonic_tf.data.images import decoding
from harmonic_tf.evaluation import Detections, GroundTruth, detection_sheet
from harmonic_tf.export.client import Answer, Asked, Thresholds, ask_about, connect


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: says of each picture, in the order given, what is in it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    given = (options.score_threshold, options.nms_iou)
    if (given[0] is None) != (given[1] is None):
        parser.error("--score_threshold and --nms_iou go together.")
    thresholds = None if given[0] is None else Thresholds(*given)
    try:
        connection = connect(options.url, options.model, options.version, options.timeout)
        show = _as_json if options.draw is None else _drawing(options.pictures, options.draw)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    failed = 0
    with connection, tqdm(total=len(options.pictures), unit="picture", disable=None) as bar:
        for asked in ask_about(options.pictures, connection, thresholds, options.in_flight):
            failed += asked.answer is None
            bar.write(show(asked), file=sys.stdout)
            bar.update()
    if failed:
        sys.exit(f"client: {failed} of {len(options.pictures)} pictures were not answered.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harmonic_tf.export.client", description=__doc__.partition("\n")[0]
    )
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE", help="JPEG or PNG files")
    add("--url", required=True, help="grpc://HOST:PORT, http://HOST:PORT or https://HOST:PORT")
    add("--model", required=True, help="name of the model")
    add("--version", type=int, help="of the model; by default the one that the server chooses")
    add("--draw", metavar="DIR", help="draw detections into this folder in place of JSON")
    add("--score_threshold", type=float, help="in place of the model's own; with --nms_iou")
    add("--nms_iou", type=float, help="in place of the model's own; with --score_threshold")
    add(
        "--timeout",
        type=float,
        default=30.0,
        help="seconds for an answer, in which a server that is not available is asked again; "
        "default: %(default)s",
    )
    add(
        "--in_flight",
        type=_positive,
        default=4,
        help="pictures on their way at once; default: %(default)s",
    )
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return int(text)


def _as_json(asked: Asked) -> str:
    """One line: the picture with its detections, or with what went wrong."""
    if asked.answer is None:
        return json.dumps({"picture": asked.path, "error": asked.error}, ensure_ascii=False)
    answer = asked.answer
    rows = zip(answer.class_names, *(c.tolist() for c in (answer.classes, answer.scores)))
    detections = [
        {"name": name, "class": k, "score": score, "box": box}
        for (name, k, score), box in zip(rows, answer.boxes.tolist())
    ]
    line = {"picture": asked.path, "detections": detections}
    return json.dumps(line, ensure_ascii=False)


def _drawing(paths: Sequence[str], folder: str) -> Callable[[Asked], str]:
    """The function that draws into a folder; says where, or what went wrong."""
    os.makedirs(folder, exist_ok=True)
    names = [f"{os.path.splitext(os.path.basename(path))[0]}.png" for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"--draw: {len(twice)} names are those of several pictures, {twice[0]} for one. Ask "
            "about them one after the other, with a folder for each."
        )
    files = dict(zip(paths, names))

    def draw(asked: Asked) -> str:
        if asked.answer is None:
            return f"{asked.path}: {asked.error}"
        path = os.path.join(folder, files[asked.path])
        _draw(path, asked.path, asked.picture, asked.answer)
        return f"{asked.path}: {len(asked.answer.scores)} detections, {path}"

    return draw


def _draw(path: str, name: str, picture: bytes, answer: Answer) -> None:
    none = np.zeros(0, np.int64)
    class_names = [""] * (1 + int(answer.classes.max(initial=-1)))
    for k, class_name in zip(answer.classes, answer.class_names):
        class_names[k] = class_name
    truth = GroundTruth(
        [name], class_names, none, np.zeros((0, 4), np.float32), none, none > 0, none > 0
    )
    index = np.zeros(len(answer.scores), np.int64)
    found = Detections(index, answer.boxes, answer.scores, answer.classes.astype(np.int64))
    detection_sheet(path, {0: decoding.decode(picture).numpy()}, truth, found, min_score=0.0)


if __name__ == "__main__":
    main()

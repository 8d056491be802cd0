"""Asks a served model what is in images: prints JSON, or draws.

harmonic-tf ask --url=grpc://localhost:8500 --served_model=scenes picture.jpg ...
harmonic-tf ask --url=http://localhost:8501 --served_model=scenes --out_dir=drawn picture.jpg ...
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from harmonic_tf.data.images import decoding
from harmonic_tf.evaluation import Detections, GroundTruth, detection_sheet
from harmonic_tf.export.client import Answer, Asked, Thresholds, ask_about, connect
from harmonic_tf.training.settings import SettingsError

from .. import common, model  # noqa: F401  (defines --score_threshold and --nms_iou)
from ..running import Command, UsageError

_URL = flags.DEFINE_string(
    "url", None, "The server: grpc://HOST:PORT, http://HOST:PORT or https://HOST:PORT."
)
_SERVED_MODEL = flags.DEFINE_string("served_model", None, "Name of the model on the server.")
_TIMEOUT = flags.DEFINE_float(
    "timeout",
    30.0,
    "Seconds for an answer, in which a server that is not available is asked again.",
    1e-3,
)
_IN_FLIGHT = flags.DEFINE_integer(
    "in_flight", 4, "Images that are on their way at once.", lower_bound=1
)


def main(*images: str) -> None:
    """Says of each image, in the order given, what is in it."""
    if not images or not _URL.value or not _SERVED_MODEL.value:
        raise UsageError("--url, --served_model and the files of images are needed.")
    thresholds, folder = _thresholds(), common.OUT_DIR.value
    try:
        connection = connect(
            _URL.value, _SERVED_MODEL.value, common.MODEL_VERSION.value, _TIMEOUT.value
        )
        show = _as_json if folder is None else _drawing(images, folder)
    except ValueError as error:
        raise UsageError(str(error)) from error
    failed = 0
    with connection, tqdm(total=len(images), unit="image", disable=None) as bar:
        for asked in ask_about(images, connection, thresholds, _IN_FLIGHT.value):
            failed += asked.answer is None
            bar.write(show(asked), file=sys.stdout)
            bar.update()
    if failed:
        raise SettingsError(f"{failed} of {len(images)} images were not answered.")


def _thresholds() -> Thresholds | None:
    """Those to ask for in place of the model's own, None where none are given."""
    values = flags.FLAGS
    given = [values[name].present for name in ("score_threshold", "nms_iou")]
    if any(given) and not all(given):
        raise UsageError("--score_threshold and --nms_iou go together.")
    return Thresholds(values.score_threshold, values.nms_iou) if all(given) else None


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
            f"--out_dir: {len(twice)} names are those of several pictures, {twice[0]} for one. Ask "
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


COMMAND = Command(
    main,
    [
        *("url", "served_model", "model_version", "out_dir"),
        *("score_threshold", "nms_iou", "timeout", "in_flight"),
    ],
    arguments="IMAGE ...",
)

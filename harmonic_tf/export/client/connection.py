"""What a served model is asked, and what it answers, however one gets to it."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tenacity

FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
"""Seconds between tries: the longest that the first wait may be, doubled from try to try, and the
longest of all; what is waited is random below that, so that many clients do not come at once."""

_SHORTEST_TRY = 0.001  # seconds: neither interface takes a time limit of none

_TYPES = {
    "boxes": np.float32,
    "scores": np.float32,
    "classes": np.int32,
    "class_names": np.object_,
    "num_detections": np.int32,
}


class RequestError(Exception):
    """A request was refused or not answered; the text says by whom and why."""


class UnavailableError(RequestError):
    """Nobody answers, or nobody can just now, which may change soon."""


class Thresholds(NamedTuple):
    """Which detections to keep, both in [0, 1]: see `harmonic_tf.models.DetectionDecoder`."""

    score: float
    iou: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """The detections in one picture, highest score first.

    Args:
        boxes: float32 [N, 4], xyxy, pixels of the picture that was sent.
        scores: float32 [N], in [0, 1].
        classes: int32 [N], position among the classes of the model.
        class_names: the name of each of the N.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]


class Connection(abc.ABC):
    """A way to a served model. Any number of threads may use it at once.

    Args:
        url: of the server.
        model: name of the model.
        version: number of its version; None takes the one that the server chooses.
        timeout: seconds that an answer may take, all tries together.
    """

    def __init__(self, url: str, model: str, version: int | None, timeout: float):
        self.url, self.model, self.version, self.timeout = url, model, version, timeout

    def detect(self, picture: bytes, thresholds: Thresholds | None = None) -> Answer:
        """Asks what is in a picture, and again while the server is not available.

        Args:
            picture: a JPEG or PNG.
            thresholds: in place of those that the model was exported with.

        Returns:
            The detections.

        Raises:
            RequestError: the server refused the request, or did not answer in time.
        """
        (answer,) = self.detect_all([picture], thresholds)
        return answer

    def detect_all(
        self, pictures: Sequence[bytes], thresholds: Thresholds | None = None
    ) -> list[Answer]:
        """Asks about several pictures in one request, which is answered or refused as a whole.

        Args:
            pictures: JPEGs or PNGs, as many as the model takes.
            thresholds: in place of those that the model was exported with.

        Returns:
            The detections in each.

        Raises:
            RequestError: the server refused the request, or did not answer in time.
        """
        deadline = time.monotonic() + self.timeout

        def ask():
            left = max(deadline - time.monotonic(), _SHORTEST_TRY)
            return self._ask(pictures, thresholds, left)

        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnavailableError),
            wait=tenacity.wait_random_exponential(FIRST_WAIT, LONGEST_WAIT),
            stop=tenacity.stop_before_delay(self.timeout),
            reraise=True,
        )
        return _answers(tries(ask))

    @abc.abstractmethod
    def _ask(
        self, pictures: Sequence[bytes], thresholds: Thresholds | None, timeout: float
    ) -> Mapping[str, object]:
        """One try: the outputs for a batch of these pictures, by name."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connection."""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def signature_and_inputs(thresholds: Thresholds | None) -> tuple[str, dict[str, float]]:
    """The signature of a request, and what of its inputs is not the picture."""
    if thresholds is None:
        return "serving_default", {}
    return "serving_thresholds", {
        "score_threshold": thresholds.score,
        "nms_iou": thresholds.iou,
    }


def _answers(outputs: Mapping[str, object]) -> list[Answer]:
    """The answer to each picture of a batch."""
    arrays = {name: np.asarray(outputs[name], dtype) for name, dtype in _TYPES.items()}
    counts = arrays.pop("num_detections")
    return [
        _answer({name: array[number, :count] for name, array in arrays.items()})
        for number, count in enumerate(counts)
    ]


def _answer(columns: dict[str, np.ndarray]) -> Answer:
    names = (n.decode() if isinstance(n, bytes) else n for n in columns.pop("class_names"))
    return Answer(**columns, class_names=tuple(names))

"""Many pictures, several of which are on their way to the server at any time."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import io
from collections.abc import Iterable, Iterator

from harmonic_tf.backend import tf
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images import decoding
from harmonic_tf.data.images.headers import read_header
from harmonic_tf.export.client.connection import Answer, Connection, RequestError, Thresholds


@dataclasses.dataclass(frozen=True)
class Asked:
    """What became of a picture.

    Args:
        path: its file.
        picture: what was sent, empty where the file cannot be read.
        answer: the detections, or None.
        error: why there are none, or None.
    """

    path: str
    picture: bytes
    answer: Answer | None
    error: str | None


def ask_about(
    paths: Iterable[str],
    connection: Connection,
    thresholds: Thresholds | None = None,
    in_flight: int = 4,
) -> Iterator[Asked]:
    """Asks about picture after picture without waiting for each; one that fails stops no other.

    Args:
        paths: files.
        connection: to the model.
        thresholds: in place of those that the model was exported with.
        in_flight: how many pictures are read, sent and waited for at once, >= 1.

    Yields:
        What became of each, in the order of `paths`.
    """

    def ask(path: str) -> Asked:
        picture = b""
        try:
            picture = read_upright(path)
            return Asked(path, picture, connection.detect(picture, thresholds), None)
        except (OSError, RequestError) as error:
            return Asked(path, picture, None, str(error))

    with concurrent.futures.ThreadPoolExecutor(in_flight) as pool:
        pending: collections.deque[concurrent.futures.Future[Asked]] = collections.deque()
        for path in paths:
            pending.append(pool.submit(ask, path))
            if len(pending) > in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def read_upright(path: str) -> bytes:
    """Reads a picture as a person sees it, which is how detectors are trained.

    Args:
        path: its file.

    Returns:
        The file as it is, or as a PNG where EXIF says that it is to be turned, which no server
        looks at. What does not decode is left for the server to refuse.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        orientation = read_header(io.BytesIO(content), path).orientation
        if orientation == 1:
            return content
        return tf.io.encode_png(decoding.decode(content, tf.constant(orientation))).numpy()
    except (DataError, tf.errors.OpError):
        return content

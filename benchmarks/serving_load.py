"""Eight clients, good and bad requests, a server that dies: is every answer the right one?

python benchmarks/serving_load.py --minutes=5

A small detector is exported and served by tensorflow_model_server where it is on PATH, else by the
stand-in of the tests. What it is to say to each of some requests of one to three pictures, half of
them with one that is broken, is worked out beforehand by the same SavedModel in this process. Then
clients ask for as long as --minutes says, half of them over gRPC and half over REST; of each half
one walks through a folder with `ask_about`, as `harmonic-tf ask` does. At half time the server is
killed and started again at the same ports; clients are to notice nothing but the wait.

Right is an answer whose detections are those worked out, or a refusal with INVALID_ARGUMENT that
names the broken picture by its number. Exit status 1: a wrong answer, a picture lost or answered
twice, or memory that grows. That is looked at in the second half of each of the server's lives, cut
into ten spans: each of the last five is compared with the one five spans earlier, and memory grows
if the mean of these differences is above 0 by more than chance (95%) and above 1% of the memory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from model_server import BINARY, GRPC, REST, ModelServer
from plausible_detectors import our_detector, spread_scores
from request_memory import requests

from harmonic_tf.backend import quiet, tf
from harmonic_tf.evaluation import write_metrics
from harmonic_tf.evaluation.statistics.intervals import mean_interval
from harmonic_tf.export import ServingSettings, export_model
from harmonic_tf.export.client import Answer, RequestError, ask_about, connect

STAND_IN = (
    pathlib.Path(__file__).resolve().parents[1] / "tests" / "export" / "prediction_service.py"
)
IMAGE_SIZE, MAX_BATCH, CLASSES, CANDIDATES = 64, 8, 20, 100
TIMEOUT = 180.0  # seconds, in which a killed server has to be back
ANSWERED, REFUSED = "answered", "refused"
_SPANS, _GROWTH = 10, 0.01
# The picture of a message, in words or in the name of the operation that failed to decode it.
_PICTURE = re.compile(r"images(?:\[|_)(\d+)(?:\]|_)")


@dataclasses.dataclass(frozen=True)
class Request:
    """Pictures, and what is to be said to them.

    Args:
        pictures: of one request.
        expected: the answer to each; or the numbers of the broken ones, one of which a refusal
            names. None where there are too many pictures, which the refusal says.
    """

    pictures: list[bytes]
    expected: list[Answer] | frozenset[int]


class Tally:
    """What all clients have heard; any number of threads may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[tuple[str, str], list[float]] = {}
        self.faults: list[str] = []

    def add(self, interface: str, kind: str, seconds: float, fault: str | None) -> None:
        """Counts a request that was answered or refused, in so many seconds, rightly or not."""
        with self._lock:
            self.seconds.setdefault((interface, kind), []).append(seconds)
            if fault:
                self.faults.append(f"{interface}: {fault}")

    def rows(self) -> dict[str, dict[str, float]]:
        """Requests and milliseconds, by interface and kind."""
        return {
            f"{interface}, {kind}": {
                "requests": len(seconds),
                "p50_ms": 1000 * float(np.percentile(seconds, 50)),
                "p99_ms": 1000 * float(np.percentile(seconds, 99)),
                "longest_s": max(seconds),
            }
            for (interface, kind), seconds in sorted(self.seconds.items())
        }


def fault_of(
    expected: list[Answer] | frozenset[int], heard: list[Answer] | RequestError
) -> str | None:
    """What is wrong with what a client heard; None where it is right.

    Args:
        expected: see `Request`.
        heard: the answer to each picture, or the refusal.
    """
    if isinstance(heard, RequestError):
        if isinstance(expected, list):
            return f"refused, and should have been answered: {heard}"
        named = pictures_named(str(heard))
        right = named & expected if expected else not named
        if not is_invalid_argument(heard) or not right:
            return f"refused, but not with INVALID_ARGUMENT for one of {set(expected)}: {heard}"
        return None
    if isinstance(expected, frozenset):
        return f"answered, and should have been refused for one of {set(expected)}"
    if len(heard) != len(expected) or not all(map(_same, heard, expected)):
        return "answered with other detections"
    return None


def is_invalid_argument(error: RequestError) -> bool:
    """Whether a server said so, over gRPC or, where that is HTTP 400, over REST."""
    return "INVALID_ARGUMENT" in str(error) or "HTTP 400" in str(error)


def pictures_named(text: str) -> set[int]:
    """The numbers of the pictures that a refusal names."""
    return {int(number) for number in _PICTURE.findall(text)}


def _same(ours: Answer, theirs: Answer) -> bool:
    return ours.class_names == theirs.class_names and all(
        np.allclose(a, b, rtol=1e-4, atol=1e-3)
        for a, b in ((ours.boxes, theirs.boxes), (ours.scores, theirs.scores))
    )


def worked_out(version: str, pictures: Sequence[list[bytes]]) -> list[Request]:
    """What an exported model says to requests, by this process alone.

    Args:
        version: folder of the SavedModel.
        pictures: of each request.
    """
    signature = tf.saved_model.load(version).signatures["serving_default"]

    def said(pictures: list[bytes]) -> list[Answer] | None:
        try:
            outputs = signature(images=tf.constant(pictures))
        except tf.errors.InvalidArgumentError:
            return None
        return list(_answers({name: value.numpy() for name, value in outputs.items()}))

    def expected(pictures: list[bytes]) -> list[Answer] | frozenset[int]:
        answers = said(pictures)
        if answers is not None:
            return answers
        if len(pictures) > MAX_BATCH:
            return frozenset()
        return frozenset(k for k, picture in enumerate(pictures) if said([picture]) is None)

    with quiet():  # TensorFlow's decoders complain of every picture
        return [Request(each, expected(each)) for each in pictures]


def _answers(arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    for number, count in enumerate(arrays["num_detections"]):
        names = tuple(name.decode() for name in arrays["class_names"][number, :count])
        columns = (arrays[name][number, :count] for name in ("boxes", "scores", "classes"))
        yield Answer(*columns, class_names=names)


def keep_asking(
    url: str,
    model: str,
    interface: str,
    asked: Sequence[Request],
    rng: np.random.Generator,
    going: Callable[[], bool],
    tally: Tally,
) -> None:
    """A client that asks one request after the other, in an order of its own."""
    with connect(url, model, timeout=TIMEOUT) as connection:
        for number in itertools.chain.from_iterable(
            rng.permutation(len(asked)) for _ in itertools.count()
        ):
            if not going():
                return
            request, begin = asked[number], time.monotonic()
            try:
                heard = connection.detect_all(request.pictures)
            except RequestError as error:
                heard = error
            kind = REFUSED if isinstance(heard, RequestError) else ANSWERED
            fault = fault_of(request.expected, heard)
            tally.add(interface, kind, time.monotonic() - begin, fault)


def walk_folder(
    url: str,
    model: str,
    interface: str,
    singles: dict[str, Request],
    going: Callable[[], bool],
    tally: Tally,
) -> None:
    """A client that walks through files as `harmonic-tf ask` does, again and again.

    Args:
        url: of the server.
        model: its name.
        interface: gRPC or REST.
        singles: requests of one picture, by the file that holds it.
        going: whether to begin another walk.
        tally: takes what was heard, and every file that was lost or came twice.
    """
    with connect(url, model, timeout=TIMEOUT) as connection:
        while going():
            files, come = list(singles), []
            begin = time.monotonic()
            for each in ask_about(files, connection):
                come.append(each.path)
                heard = RequestError(each.error) if each.answer is None else [each.answer]
                kind = REFUSED if each.answer is None else ANSWERED
                fault = fault_of(singles[each.path].expected, heard)
                tally.add(f"{interface}, folder", kind, time.monotonic() - begin, fault)
                begin = time.monotonic()
            if come != files:
                tally.faults.append(f"{interface}: {len(files)} files came as {come}")


class Memory:
    """The resident memory of processes, looked at twice a second (on Linux)."""

    def __init__(self) -> None:
        self._lives: dict[int, list[float]] = {}

    def look(self, pid: int) -> None:
        """Notes what a process has now, if it lives."""
        try:
            pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        self._lives.setdefault(pid, []).append(mib)

    def trends(self) -> list[Trend]:
        """Of the second half of each life that was long enough."""
        halves = (np.array(life[len(life) // 2 :]) for life in self._lives.values())
        return [trend_of(half) for half in halves if len(half) >= _SPANS]


@dataclasses.dataclass(frozen=True)
class Trend:
    """Where memory goes.

    Args:
        mib: its mean.
        growth: from one half of the samples to the other, MiB.
        interval: half of the 95% interval of that.
    """

    mib: float
    growth: float
    interval: float

    @property
    def grows(self) -> bool:
        """By more than chance, and by more than is worth a word."""
        return self.growth > self.interval and self.growth > _GROWTH * self.mib


def trend_of(mib: np.ndarray) -> Trend:
    """Compares spans of samples, which differ by chance as single samples in a row do not.

    Args:
        mib: memory at equal intervals of time, [N], N >= 10.
    """
    means = np.array([span.mean() for span in np.array_split(mib, _SPANS)])
    half = _SPANS // 2
    mean, interval = mean_interval(means[half:] - means[:half])[:2]
    return Trend(float(means.mean()), mean, interval)


def exported(folder: str) -> str:
    """Exports a small detector with spread scores; returns the folder of its version."""
    model = our_detector("yolov8_xs", IMAGE_SIZE, CLASSES)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, IMAGE_SIZE, IMAGE_SIZE, 3))
    spread_scores(model, tf.constant(pictures, tf.float32), CANDIDATES)
    names = [f"class {k}" for k in range(CLASSES)]
    return export_model(model, names, folder, ServingSettings(IMAGE_SIZE, MAX_BATCH))


def load(
    server: ModelServer,
    asked: Sequence[Request],
    folder: str,
    seconds: float,
    clients: int,
    seed: int = 0,
) -> tuple[Tally, Memory]:
    """Lets clients ask a server, which is killed at half time and comes back.

    Args:
        server: running.
        asked: the requests, with what is to be said to each.
        folder: takes the pictures of those who walk through files.
        seconds: how long.
        clients: how many at once, at least 4; two of them walk through files.
        seed: of the order of requests.

    Returns:
        What they heard, and the server's memory.
    """
    tally, memory = Tally(), Memory()
    singles = {}
    for number, request in enumerate(asked):
        if len(request.pictures) == 1:
            path = os.path.join(folder, f"{number}.picture")
            pathlib.Path(path).write_bytes(request.pictures[0])
            singles[path] = request
    begin = time.monotonic()

    def going() -> bool:
        return time.monotonic() < begin + seconds

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        working = []
        for number in range(clients):
            interface = (GRPC, REST)[number % 2]
            where = (server.urls[interface], server.model, interface)
            if number < 2:
                working.append(pool.submit(walk_folder, *where, singles, going, tally))
            else:
                rng = np.random.default_rng([seed, number])
                working.append(pool.submit(keep_asking, *where, asked, rng, going, tally))
        killed = False
        while not all(client.done() for client in working):
            if not killed and time.monotonic() > begin + seconds / 2:
                killed = True
                server.kill()
                server.start()
            memory.look(server.pid)
            time.sleep(0.5)
        for client in working:
            client.result()
    return tally, memory


def main() -> None:
    """Runs it and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long clients ask")
    parser.add_argument("--clients", type=int, default=8, help="how many ask at once, at least 4")
    parser.add_argument("--requests", type=int, default=200, help="different ones")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which clients ask")
    parser.add_argument("--json", help="file to write the numbers to")
    options = parser.parse_args()
    binary = shutil.which(BINARY)
    program = [binary] if binary else [sys.executable, str(STAND_IN)]
    with tempfile.TemporaryDirectory() as folder:
        models, pictures = os.path.join(folder, "small"), os.path.join(folder, "pictures")
        os.mkdir(pictures)
        asked = worked_out(exported(models), list(requests(options.requests, MAX_BATCH)))
        refused = sum(isinstance(request.expected, frozenset) for request in asked)
        print(f"{len(asked)} different requests, of which {refused} are to be refused.")
        server = ModelServer(program, models)
        server.start()
        try:
            tally, memory = load(
                server, asked, pictures, 60 * options.minutes, options.clients, options.seed
            )
        finally:
            server.kill()
    rows, trends = tally.rows(), memory.trends()
    served_by = os.path.basename(program[-1])
    print(f"\n{options.clients} clients, {options.minutes:g} minutes, {served_by}\n")
    print(f"{'':<26}{'requests':>10}{'p50 ms':>10}{'p99 ms':>10}{'longest s':>11}")
    for what, row in rows.items():
        print(
            f"{what:<26}{row['requests']:>10}{row['p50_ms']:>10.1f}{row['p99_ms']:>10.1f}"
            f"{row['longest_s']:>11.1f}"
        )
    print()
    for life, trend in enumerate(trends, start=1):
        said = "GROWS" if trend.grows else "flat"
        print(
            f"memory, life {life}: {trend.mib:.0f} MiB, {trend.growth:+.1f} ± {trend.interval:.1f} "
            f"MiB in its second half: {said}"
        )
    print(f"wrong, lost or twice: {len(tally.faults)}")
    for fault in tally.faults[:20]:
        print(f"  {fault}")
    if options.json:
        trend_rows = [dataclasses.asdict(trend) for trend in trends]
        write_metrics(options.json, {"rows": rows, "memory": trend_rows, "faults": tally.faults})
    if tally.faults or any(trend.grows for trend in trends):
        sys.exit(1)


if __name__ == "__main__":
    main()

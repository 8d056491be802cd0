"""The load test of a server: what it counts as right, and a small run of it."""

import pathlib
import sys

import numpy as np
import pytest
import serving_load
from model_server import GRPC, REST, ModelServer
from serving_load import (
    STAND_IN,
    Request,
    Tally,
    fault_of,
    load,
    pictures_named,
    trend_of,
    worked_out,
)

from harmonic_tf.export.client import Answer, Asked, RequestError, connect


def answer_of(*scores):
    """Detections with these scores."""
    count = len(scores)
    boxes = np.arange(4.0 * count).reshape(count, 4)
    return Answer(boxes, np.array(scores), np.zeros(count, int), ("cell",) * count)


REFUSAL = RequestError("grpc://x: INVALID_ARGUMENT: images[2] has no bytes")


@pytest.mark.parametrize(
    ("expected", "heard", "said"),
    [
        ([answer_of(0.5)], [answer_of(0.5)], None),
        ([answer_of(0.5)], [answer_of(0.6)], "other detections"),
        ([answer_of(0.5)], [answer_of(0.5, 0.4)], "other detections"),
        ([answer_of(0.5)], [answer_of(0.5)] * 2, "other detections"),
        ([answer_of(0.5)], REFUSAL, "should have been answered"),
        (frozenset({2}), REFUSAL, None),
        (frozenset({1, 2}), REFUSAL, None),
        (frozenset({1}), REFUSAL, "not with INVALID_ARGUMENT for one of {1}"),
        (frozenset(), REFUSAL, "not with"),
        (frozenset(), RequestError("HTTP 400: images holds 40 pictures"), None),
        (frozenset({2}), RequestError("x: UNAVAILABLE: images[2]"), "not with INVALID_ARGUMENT"),
        (frozenset({2}), [answer_of(0.5)], "should have been refused"),
    ],
)
def test_what_counts_as_right(expected, heard, said):
    fault = fault_of(expected, heard)
    assert fault is None if said is None else said in fault


def test_pictures_that_a_refusal_names():
    assert pictures_named("images[2] has no bytes") == {2}
    assert pictures_named("node model/images_17_is_damaged/DecodeImage") == {17}
    assert pictures_named("images holds 40 pictures, this model takes 1 to 32") == set()


@pytest.mark.parametrize(
    ("slope", "grows"), [(0.0, False), (-0.5, False), (0.001, False), (1, True)]
)
def test_memory_that_grows_is_told_from_noise(slope, grows):
    noise = np.random.default_rng(0).normal(0, 2, 100)
    trend = trend_of(500 + slope * np.arange(100.0) + noise)
    assert trend.grows == grows
    assert abs(trend.growth - 50 * slope) < 2 * trend.interval


def test_clients_survive_the_servers_death(exported, serving, tmp_path):
    good, bad = serving.pictures(), b"text"
    pictures = [[good[0]], [good[1], bad], [bad], good[2:4], [good[4]], [good[5]] * 9]
    asked = worked_out(exported[1], pictures)
    kinds = [each.expected for each in asked if isinstance(each.expected, frozenset)]
    assert kinds == [frozenset({1}), frozenset({0}), frozenset()]
    server = ModelServer([sys.executable, str(STAND_IN)], str(pathlib.Path(exported[1]).parent))
    server.start()
    first = server.pid
    try:
        tally, _ = load(server, asked, str(tmp_path), seconds=3.0, clients=4)
        assert server.pid != first
        with connect(server.urls[GRPC], server.model) as connection:
            assert len(connection.detect_all(good)) == len(good)
    finally:
        server.kill()
    assert tally.faults == []
    heard = {(what.partition(",")[0], what.rpartition(", ")[2]) for what in tally.rows()}
    assert heard == {(GRPC, "answered"), (GRPC, "refused"), (REST, "answered"), (REST, "refused")}


class Stub:
    """A connection that finds the same in every picture."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def detect_all(self, pictures):
        return [self.answer] * len(pictures)


def rounds(count):
    """Lets a client begin so often."""
    turns = iter([True] * count + [False])
    return lambda: next(turns)


def test_wrong_answers_are_faults(monkeypatch):
    monkeypatch.setattr(serving_load, "connect", Stub(answer_of(0.5)))
    asked = [Request([b"a"], [answer_of(0.5)]), Request([b"b"], frozenset({0}))]
    rng, tally = np.random.default_rng(0), Tally()
    serving_load.keep_asking("", "", "gRPC", asked, rng, rounds(4), tally)
    assert len(tally.seconds["gRPC", "answered"]) == 4
    assert len(tally.faults) == 2 and all("for one of {0}" in fault for fault in tally.faults)


@pytest.mark.parametrize("come", [["a", "c"], ["a", "b", "b", "c"], ["b", "a", "c"], []])
def test_files_that_are_lost_or_come_twice_are_faults(come, monkeypatch):
    answer, tally = answer_of(0.5), Tally()
    singles = {name: Request([b""], [answer]) for name in "abc"}
    monkeypatch.setattr(serving_load, "connect", Stub(answer))
    found = [Asked(name, b"", answer, None) for name in come]
    monkeypatch.setattr(serving_load, "ask_about", lambda *_: found)
    serving_load.walk_folder("", "", "REST", singles, rounds(1), tally)
    (fault,) = tally.faults
    assert "3 files" in fault

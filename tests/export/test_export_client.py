"""Whoever asks a server gets what the model answers, or hears why not."""

import http.server
import json
import pathlib
import shutil
import socket
import sys
import threading

import numpy as np
import pytest
import urllib3
from model_server import BINARY, GRPC, REST, running_server
from PIL import Image

from harmonic_tf.backend import tf
from harmonic_tf.export.client import (
    Connection,
    RequestError,
    Thresholds,
    ask_about,
    connect,
)

STAND_IN = [sys.executable, str(pathlib.Path(__file__).with_name("prediction_service.py"))]
interfaces = pytest.mark.parametrize("interface", [GRPC, REST])


@pytest.fixture(scope="module")
def stand_in(exported):
    """URLs by interface of a server in plain TensorFlow that serves the model `tiny`."""
    with running_server(STAND_IN, str(pathlib.Path(exported[1]).parent)) as urls:
        yield urls


@pytest.fixture(scope="module", params=["stand-in", BINARY])
def server(request, exported, stand_in):
    """The same of every server there is: the stand-in and, where it is on PATH, the real one."""
    if request.param == "stand-in":
        yield stand_in
        return
    binary = shutil.which(BINARY)
    if binary is None:
        pytest.skip(f"{BINARY} is not on PATH: the same test ran with the stand-in alone")
    with running_server([binary], str(pathlib.Path(exported[1]).parent)) as urls:
        yield urls


@pytest.fixture
def files(serving, tmp_path):
    """Paths of pictures of all kinds."""
    paths = [tmp_path / f"picture {number}.dat" for number in range(len(serving.sides))]
    for path, content in zip(paths, serving.pictures()):
        path.write_bytes(content)
    return [str(path) for path in paths]


def rows_of(answer):
    return np.column_stack([answer.scores, answer.classes, answer.boxes])


@interfaces
def test_answers_are_the_models(server, interface, exported, predict, serving, files, tmp_path):
    with connect(server[interface], "tiny", version=1) as connection:
        asked = list(ask_about(files, connection, in_flight=3))
    assert [each.path for each in asked] == files
    assert [each.error for each in asked] == [None] * len(files)
    expected = serving.detected(exported[0], serving.pictures(), tmp_path, predict)
    serving.assert_same([rows_of(each.answer) for each in asked], expected)
    for each in asked:
        assert each.answer.class_names == tuple(serving.names[k] for k in each.answer.classes)
        assert each.answer.boxes.dtype == each.answer.scores.dtype == np.float32


@interfaces
def test_thresholds_go_along(server, interface, signatures, serving):
    picture = serving.pictures()[0]
    with connect(server[interface], "tiny") as connection:
        all_scores = connection.detect(picture).scores
        thresholds = Thresholds(score=float(np.median(all_scores)), iou=0.2)
        answer = connection.detect(picture, thresholds)
        assert 0 < len(answer.scores) < len(all_scores)
    expected = signatures["serving_thresholds"](
        images=tf.constant([picture]),
        score_threshold=tf.constant(thresholds.score),
        nms_iou=tf.constant(thresholds.iou),
    )
    serving.assert_same([rows_of(answer)], serving.answered(expected))


@interfaces
def test_refusals_say_why_and_the_next_request_is_served(server, interface, serving):
    with connect(server[interface], "tiny") as connection:
        for picture, reason in ((b"", "has no bytes"), (b"text", "is neither a JPEG nor a PNG")):
            with pytest.raises(RequestError, match=rf"images\[0\] {reason}") as error:
                connection.detect(picture)
            assert "\n" not in str(error.value)
        assert len(connection.detect(serving.pictures()[0]).scores) > 0
    for model, version in (("other", None), ("tiny", 7)):
        with (
            connect(server[interface], model, version) as connection,
            pytest.raises(RequestError, match="Servable not found"),
        ):
            connection.detect(serving.pictures()[0])


@interfaces
def test_it_asks_again_while_the_server_is_unavailable(stand_in, interface, serving):
    picture = serving.pictures()[0]
    with connect(stand_in[interface], "tiny") as connection:
        expected = connection.detect(picture)
        urllib3.request("POST", f"{stand_in[REST]}/unavailable/3")
        np.testing.assert_array_equal(rows_of(connection.detect(picture)), rows_of(expected))
    urllib3.request("POST", f"{stand_in[REST]}/unavailable/1000")
    try:
        with (
            connect(stand_in[interface], "tiny", timeout=2.0) as connection,
            pytest.raises(RequestError, match="the model is being loaded"),
        ):
            connection.detect(picture)
    finally:
        urllib3.request("POST", f"{stand_in[REST]}/unavailable/0")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_nobody_listens(scheme):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        url = f"{scheme}://localhost:{probe.getsockname()[1]}"
        with connect(url, "tiny", timeout=0.5) as connection, pytest.raises(RequestError) as error:
            connection.detect(b"")
    assert str(error.value).startswith(url)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_somebody_listens_but_never_answers(scheme):
    with socket.create_server(("localhost", 0)) as silent:
        url = f"{scheme}://localhost:{silent.getsockname()[1]}"
        with connect(url, "tiny", timeout=0.5) as connection, pytest.raises(RequestError) as error:
            connection.detect(b"")
    assert str(error.value).startswith(url)


def test_an_answer_that_is_not_the_servers():
    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(502)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("localhost", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        url = f"http://localhost:{proxy.server_port}"
        with connect(url, "tiny") as connection, pytest.raises(RequestError, match="HTTP 502"):
            connection.detect(b"")
        proxy.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "timeout", "said"),
    [
        ("localhost:8500", 1.0, "must be grpc://HOST:PORT"),
        ("ftp://localhost:8500", 1.0, "must be grpc://HOST:PORT"),
        ("grpc://", 1.0, "must be grpc://HOST:PORT"),
        ("grpc://localhost:8500", 0.0, "must be more than 0"),
        ("grpc://localhost:8500", float("nan"), "must be more than 0"),
    ],
)
def test_bad_arguments(url, timeout, said):
    with pytest.raises(ValueError, match=said):
        connect(url, "tiny", timeout=timeout)


class Meeting(Connection):
    """Answers a request when so many are there at once, and never before."""

    def __init__(self, count):
        super().__init__("", "", None, 30.0)
        self.barrier = threading.Barrier(count, timeout=30)

    def _ask(self, pictures, thresholds, timeout):
        self.barrier.wait()
        none = np.zeros((1, 0))
        names = ("boxes", "scores", "classes", "class_names")
        return {**dict.fromkeys(names, none), "num_detections": [0]}

    def close(self):
        pass


def test_pictures_are_on_their_way_side_by_side_and_answered_in_order(files):
    paths = [*files, *files]
    assert len(paths) % 3 == 0
    asked = list(ask_about(paths, Meeting(3), in_flight=3))
    assert [each.path for each in asked] == paths
    assert all(each.answer is not None for each in asked)


def test_pictures_are_sent_upright(stand_in, exported, predict, serving, tmp_path):
    pixels = serving.pixels_of(50, 70, 5)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    stored = tmp_path / "phone.jpg"
    Image.fromarray(pixels).save(stored, exif=exif, quality=95)
    with connect(stand_in[GRPC], "tiny") as connection:
        (asked,) = ask_about([str(stored)], connection)
    sent = tf.io.decode_png(asked.picture).numpy()
    assert sent.shape == (70, 50, 3)
    with Image.open(stored) as picture:
        difference = sent - np.rot90(np.float32(picture), -1)
    assert np.abs(difference).mean() < 3  # two decoders of JPEG
    expected = serving.detected(exported[0], [asked.picture], tmp_path, predict)
    serving.assert_same([rows_of(asked.answer)], expected)


@pytest.fixture
def ask(capsys, run_command):
    """Runs the command: the lines that it prints, what it says on stderr, its exit status."""

    def ask(*arguments):
        status = 0
        try:
            run_command("ask", *arguments)
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err, status

    return ask


@interfaces
def test_command_prints_json(stand_in, interface, serving, files, tmp_path, ask):
    text = tmp_path / "größe.txt"
    text.write_text("no picture")
    paths = [files[0], str(text), "gone.jpg", files[1]]
    lines, said, status = ask(f"--url={stand_in[interface]}", "--served_model=tiny", *paths)
    assert status == 1 and "Error: 2 of 4 images were not answered." in said
    found = [json.loads(line) for line in lines]
    assert [each["picture"] for each in found] == paths
    assert "neither a JPEG nor a PNG" in found[1]["error"]
    assert "gone.jpg" in found[2]["error"]
    with connect(stand_in[interface], "tiny") as connection:
        for path, each in ((files[0], found[0]), (files[1], found[3])):
            answer = connection.detect(pathlib.Path(path).read_bytes())
            rows = [[d["score"], d["class"], *d["box"]] for d in each["detections"]]
            np.testing.assert_allclose(rows, rows_of(answer), atol=1e-6)
            assert tuple(d["name"] for d in each["detections"]) == answer.class_names


def test_command_draws(stand_in, serving, files, tmp_path, ask):
    folder = tmp_path / "new" / "drawn"
    arguments = [f"--url={stand_in[GRPC]}", "--served_model=tiny", f"--out_dir={folder}", *files]
    lines, _, status = ask(*arguments, "--score_threshold=0", "--nms_iou=0.1")
    assert status == 0
    assert len(lines) == len(files)
    for line, file in zip(lines, files):
        drawn = folder / (pathlib.Path(file).stem + ".png")
        assert line.startswith(f"{file}: ")
        assert line.endswith(f" detections, {drawn}")
        with Image.open(drawn) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 1
    again = tmp_path / "other"
    again.mkdir()
    shutil.copy(files[0], again)
    shutil.rmtree(folder)
    _, said, status = ask(*arguments, again / pathlib.Path(files[0]).name)
    assert status == 2 and "names are those of several pictures" in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url=localhost:1", "--served_model=m", "a.jpg"], "localhost:1"),
        (["--url=grpc://localhost:1", "--served_model=m"], "files of images are needed"),
        (["--url=grpc://localhost:1", "a.jpg"], "--served_model"),
        (
            ["--url=grpc://localhost:1", "--served_model=m", "--score_threshold=0.5", "a.jpg"],
            "--score_threshold and --nms_iou go together",
        ),
        (["--url=grpc://localhost:1", "--served_model=m", "--in_flight=0", "a.jpg"], "in_flight"),
        (["--url=grpc://localhost:1", "--served_model=m", "--timeout=0", "a.jpg"], "timeout"),
    ],
)
def test_command_says_what_is_wrong(arguments, words, ask):
    _, said, status = ask(*arguments)
    assert status == 2
    assert said.startswith("Error: ") and words in said

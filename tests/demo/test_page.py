"""What the page's server answers and refuses, and that it needs nobody else."""

import io
import json
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.demo import page
from harmonic_tf.demo.validation import THRESHOLDS
from tests.demo.conftest import find_bright, make_detector

BOX = (20, 10, 80, 60)  # a lamp in the dark, xyxy, pixels


def lamp(kind="PNG", **options):
    """A bright box in a dark picture of 100 x 128 pixels, encoded."""
    pixels = np.zeros((128, 100, 3), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, kind, **options)
    return target.getvalue()


@pytest.fixture(scope="module")
def app():
    return page.build_app([make_detector(), make_detector("other")], trusted_hosts=["localhost"])


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def serve():
    """Function that starts a server on a free port; its address."""
    servers = []

    def start(*detectors):
        listening = page.listen("127.0.0.1", 0)
        servers.append(page.build_server(detectors, 2**20, listening))
        threading.Thread(target=servers[-1].run, daemon=True).start()
        return page.url(listening)

    yield start
    for server in servers:
        server.close()


def test_what_is_found_comes_in_the_pixels_of_the_picture(client):
    answer = client.post("/detect/1/hard?name=lamp.png", data=lamp())
    assert answer.status_code == 200
    found = answer.get_json()
    assert (found["width"], found["height"]) == (100, 128)
    first, second = found["detections"]
    assert (first["name"], second["name"]) == ("lamp", "<b>sun</b>")
    np.testing.assert_allclose([first["score"], second["score"]], [0.9, 0.3], rtol=1e-6)
    np.testing.assert_allclose(first["box"], BOX, atol=2)  # the picture was halved
    assert first["color"] != second["color"]


def test_a_picture_is_seen_upright(client):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    found = client.post("/detect/0/hard", data=lamp("JPEG", exif=exif)).get_json()
    assert (found["width"], found["height"]) == (128, 100)
    x1, y1, x2, y2 = BOX
    turned = [128 - y2, x1, 128 - y1, x2]
    np.testing.assert_allclose(found["detections"][0]["box"], turned, atol=2)


def test_each_detector_says_what_there_is_to_know(client):
    one, other = client.get("/detectors").get_json()
    assert (one["name"], other["name"]) == ("bright", "other")
    hard, soft = one["choices"]
    assert (hard["nms"], hard["meaning"]) == ("hard", "Calibrated: the IoU to expect.")
    np.testing.assert_allclose(hard["recall"], 1 - THRESHOLDS)
    assert hard["precision"][50] == 0.5 and hard["precision"][97] is None
    assert (soft["precision"], soft["recall"]) == (None, None)
    assert soft["note"] == "Measured with hard NMS alone."


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a/", "elsewhere/b"], ["a", "b"]),
        (["x/seed0", "y/seed0", "y/seed1"], ["x/seed0", "y/seed0", "y/seed1"]),
        (["models/scenes/1", "runs/scenes"], ["scenes/1", "scenes"]),
        (["models/scenes/1", "old/scenes/1"], ["models/scenes/1", "old/scenes/1"]),
        (["runs/a", "./runs/a"], ["a", "a"]),
        (["runs/a", "runs/a", "x/a"], ["runs/a", "runs/a", "x/a"]),
        ([], []),
    ],
)
def test_names_are_as_long_as_it_takes_to_tell_detectors_apart(folders, names):
    assert page.short_names(folders) == names


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("/detect/0/hard?name=notes.jpg", b"dear diary", 422, "notes.jpg: file = starts with"),
        ("/detect/0/hard?name=a.png", b"", 422, "a.png: file = 0 bytes: picture is empty"),
        ("/detect/0/hard?name=a.jpg", lamp("JPEG")[:-200], 422, "picture does not decode"),
        ("/detect/2/hard", lamp(), 404, "Not Found"),
        ("/detect/0/none", lamp(), 404, "Not Found"),
        ("/elsewhere", lamp(), 404, "Not Found"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_a_sentence(client, path, content, status, words):
    answer = client.post(path, data=content)
    assert answer.status_code == status
    assert words in answer.get_json()["error"]


def test_what_is_too_large_is_refused(app, client, monkeypatch):
    small = page.build_app([make_detector()], max_pixels=100 * 128 - 1).test_client()
    answer = small.post("/detect/0/hard?name=large.png", data=lamp())
    assert answer.status_code == 422
    assert "large.png: file = 100 x 128 pixels" in answer.get_json()["error"]
    monkeypatch.setitem(app.config, "MAX_CONTENT_LENGTH", 100)
    answer = client.post("/detect/0/hard", data=lamp())
    assert answer.status_code == 413
    assert "more than 64 MiB. Scale the picture down" in answer.get_json()["error"]


def test_an_error_of_the_detector_is_answered_too(caplog):
    def fail(images):
        raise RuntimeError("out of order")

    client = page.build_app([make_detector(predict=fail)]).test_client()
    answer = client.post("/detect/0/hard", data=lamp())
    assert answer.status_code == 500 and answer.get_json()["error"].startswith("Internal Server")
    assert "out of order" in caplog.text


def test_the_browser_is_to_ask_nobody_else(client, source_tree):
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy and "unsafe" not in policy
    files = source_tree.files("harmonic_tf/demo/static/*")
    assert len(files) == 3
    for file in files:
        text = source_tree.read(file)
        assert "//" not in text.replace("// ", "") and "innerHTML" not in text, file
        assert client.get(f"/static/{file.rpartition('/')[2]}").status_code == 200


def test_a_name_that_is_not_the_servers_own_is_refused(client):
    assert client.get("/detectors", headers={"Host": "elsewhere.example"}).status_code == 400
    assert client.get("/detectors", headers={"Host": "localhost:8765"}).status_code == 200


def test_pictures_are_looked_at_one_at_a_time(app):
    inside, overlapped, both = [], [], threading.Event()

    def predict(images):
        inside.append(images)
        overlapped.append(len(inside) > 1)
        both.wait(0.2)  # for another one to come in, if it can
        inside.pop()
        return find_bright(images)

    app = page.build_app([make_detector(predict=predict), make_detector(predict=predict)])
    paths = ["/detect/0/hard", "/detect/1/hard", "/detect/0/soft"]
    answers = []

    def ask(path):
        answers.append(app.test_client().post(path, data=lamp()).status_code)

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 3 and overlapped == [False] * 3


def test_the_page_answers_while_a_picture_is_looked_at(serve):
    begun, go_on, answers = threading.Event(), threading.Event(), []

    def predict(images):
        begun.set()
        assert go_on.wait(60)
        return find_bright(images)

    address = serve(make_detector(predict=predict))

    def ask():
        with urllib.request.urlopen(f"{address}/detect/0/hard", lamp(), 60) as answer:
            answers.append(json.load(answer))

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(60)
    with urllib.request.urlopen(f"{address}/", timeout=60) as answer:
        assert answer.status == 200 and b"<title>" in answer.read()
    go_on.set()
    asking.join()
    assert len(answers[0]["detections"]) == 2


def test_on_the_loopback_no_other_name_leads_to_the_server(serve):
    request = urllib.request.Request(serve(make_detector()), headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=60)


def test_a_port_that_is_taken_is_named():
    with page.listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert page.url(listening) == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match=rf"--port={port} cannot be listened on .* Give another"):
            page.listen("127.0.0.1", port)
    with pytest.raises(OSError, match=r"--host=192\.0\.2\.1 .* or another --host"):
        page.listen("192.0.2.1", 0)  # an address that is nobody's, RFC 5737


@pytest.mark.parametrize("missing", ("flask", "waitress"))
def test_a_missing_extra_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'harmonic_tf\[demo\]'"):
        page.check_installed()

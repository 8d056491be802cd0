"""The page in a real browser: picture in, boxes out, and nobody else is asked."""

import json
import shutil
import threading
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from harmonic_tf.demo import page
from tests.demo.conftest import make_detector

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
WAIT = 60  # seconds, on a busy machine


@pytest.fixture(scope="module")
def browser():
    """A Chromium without a window, which logs what it asks for and what goes wrong."""
    reason = "needs selenium (pip install selenium), which is not among what tests need else"
    webdriver = pytest.importorskip("selenium.webdriver", reason=reason)
    if BROWSER is None or DRIVER is None:
        pytest.skip("needs a chromium with its driver (apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


@pytest.fixture(scope="module")
def address():
    listening = page.listen("127.0.0.1", 0)
    detectors = [make_detector("first"), make_detector("second")]
    server = page.build_server(detectors, 2**20, listening)
    threading.Thread(target=server.run, daemon=True).start()
    yield page.url(listening)
    server.close()


@pytest.fixture
def opened(browser, address):
    """The page, freshly loaded; whatever was logged before is gone."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(f"{address}/")
    wait_for(browser, lambda: len(texts(browser, ".detector h2")) == 2)
    return browser


def wait_for(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, WAIT).until(lambda _: condition())


def texts(browser, selector):
    return [element.text for element in browser.find_elements("css selector", selector)]


def set_threshold(browser, value):
    browser.execute_script(
        "const slider = document.getElementById('threshold'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'));",
        value,
    )


def drop(browser, name, text):
    browser.execute_script(
        "const dataTransfer = new DataTransfer();"
        "dataTransfer.items.add(new File([arguments[1]], arguments[0]));"
        "dispatchEvent(new DragEvent('drop', { dataTransfer }));",
        name,
        text,
    )


def asked_hosts(browser):
    """Whom the page has asked over the network, and how often."""
    hosts = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = urllib.parse.urlsplit(message["params"]["request"]["url"])
            hosts += [address.hostname] if address.scheme not in ("blob", "data") else []
    return hosts


def test_picture_in_boxes_out(opened, tmp_path):
    assert texts(opened, ".detector h2") == ["first", "second"]
    assert texts(opened, ".meaning") == ["Calibrated: the IoU to expect."] * 2
    assert (texts(opened, ".precision"), texts(opened, ".recall")) == (["0.50"] * 2, ["0.50"] * 2)

    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[25:75, 100:150] = 255
    Image.fromarray(pixels).save(tmp_path / "lamp.png")
    opened.find_element("id", "files").send_keys(str(tmp_path / "lamp.png"))
    wait_for(opened, lambda: texts(opened, "figcaption") == ["1 of 2 detections"] * 2)
    assert texts(opened, ".box") == ["lamp 0.90"] * 2

    # The box lies on the lamp, whatever size the picture is shown at.
    shown = opened.find_element("css selector", ".stage img").rect
    box = opened.find_element("css selector", ".box").rect
    scale = shown["width"] / 200
    assert abs(box["x"] - shown["x"] - 100 * scale) < 4 * scale
    assert abs(box["y"] - shown["y"] - 25 * scale) < 4 * scale
    assert abs(box["width"] - 50 * scale) < 8 * scale

    set_threshold(opened, 0.2)
    assert (texts(opened, ".precision"), texts(opened, ".recall")) == (["0.20"] * 2, ["0.80"] * 2)
    assert texts(opened, "figcaption") == ["2 of 2 detections"] * 2
    # As text, not as a part of the page.
    assert sorted(texts(opened, ".box")) == ["<b>sun</b> 0.30"] * 2 + ["lamp 0.90"] * 2
    set_threshold(opened, 1)
    assert (texts(opened, ".precision"), texts(opened, ".recall")) == (["-"] * 2, ["0.00"] * 2)
    assert texts(opened, ".box") == []

    set_threshold(opened, 0)
    opened.find_element("css selector", "select option[value=soft]").click()
    assert texts(opened, ".meaning") == ["Not calibrated.", "Calibrated: the IoU to expect."]
    assert texts(opened, ".note")[0] == "Measured with hard NMS alone."
    wait_for(opened, lambda: texts(opened, "figcaption") == ["2 of 2 detections"] * 2)

    assert opened.get_log("browser") == []
    hosts = asked_hosts(opened)
    assert set(hosts) == {"127.0.0.1"} and len(hosts) >= 7  # page, style, script, list, 3 pictures


def test_what_is_no_picture_is_said_beside_its_name(opened):
    drop(opened, "notes.jpg", "dear diary")
    wait_for(opened, lambda: all(texts(opened, "figure .error")))
    assert texts(opened, ".picture h2") == ["notes.jpg"]
    for text in texts(opened, "figure .error"):
        assert text.startswith("notes.jpg: file = starts with") and "Convert it to JPEG" in text
    assert set(asked_hosts(opened)) == {"127.0.0.1"}

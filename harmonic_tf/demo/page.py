"""The page as a web application, and the server that it is on.

All that the page needs comes from here: its policy forbids the browser to ask anybody else.
"""

from __future__ import annotations

import ipaddress
import math
import os
import pathlib
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonic_tf.colors import class_colors
from harmonic_tf.data.example import DataError
from harmonic_tf.data.images.checking import MAX_PIXELS, upright_pixels
from harmonic_tf.demo.detectors import Choice, Detector

if TYPE_CHECKING:
    from flask import Flask
    from waitress.server import BaseWSGIServer

MAX_BYTES = 2**26
"""Most bytes of a picture's file, 64 MiB."""

_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_THREADS = 4  # of the server, so that the page answers while one of them detects


def build_app(
    detectors: Sequence[Detector],
    max_pixels: int = MAX_PIXELS,
    trusted_hosts: Sequence[str] | None = None,
) -> Flask:
    """The page with some detectors.

    `GET /` is the page; `GET /detectors` what there is to know about each, see `described`; `POST
    /detect/NUMBER/NMS?name=FILE`, with a picture's bytes, what is in it, see `found_in`. What goes
    wrong is answered with a status from 400 on and `{"error": TEXT}`. Pictures are
    decoded and looked at one at a time, whoever sends them.

    Args:
        detectors: side by side.
        max_pixels: most pixels of a picture; larger ones are refused without decoding them.
        trusted_hosts: names by which the server may be called; None for any.

    Raises:
        ImportError: Flask is not installed.
    """
    flask, exceptions = _flask()
    app = flask.Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BYTES, TRUSTED_HOSTS=trusted_hosts)
    one_at_a_time = threading.Lock()

    @app.get("/")
    def page():
        return app.send_static_file("index.html")

    @app.get("/detectors")
    def list_detectors():
        names = short_names([detector.name for detector in detectors])
        return flask.jsonify([described(*pair) for pair in zip(detectors, names)])

    @app.post("/detect/<int:number>/<nms>")
    def detect(number: int, nms: str):
        if number >= len(detectors) or nms not in detectors[number].choices:
            flask.abort(404)
        content = flask.request.get_data(cache=False)
        with one_at_a_time:
            image = upright_pixels(content, flask.request.args.get("name", "picture"), max_pixels)
            return flask.jsonify(found_in(image, detectors[number], nms))

    @app.errorhandler(DataError)
    def refused(error):
        return flask.jsonify(error=str(error)), 422

    @app.errorhandler(exceptions.RequestEntityTooLarge)
    def too_long(error):
        text = f"The file has more than {MAX_BYTES // 2**20} MiB. Scale the picture down."
        return flask.jsonify(error=text), error.code

    @app.errorhandler(exceptions.HTTPException)
    def failed(error):
        return flask.jsonify(error=f"{error.name}. {error.description}"), error.code

    @app.after_request
    def with_policy(response):
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    return app


def short_names(folders: Sequence[str]) -> list[str]:
    """The ends of paths, as much of them as tells them apart; of `scenes/1` never the number alone.

    Args:
        folders: of detectors; those that are one and the same have one name.
    """
    paths = [pathlib.Path(os.path.abspath(folder)).parts for folder in folders]
    names: list[str] = []
    for more in range(max(map(len, paths), default=0)):
        least = (2 if path[-1].isdecimal() else 1 for path in paths)
        names = ["/".join(path[-count - more :]) for path, count in zip(paths, least)]
        if len(set(names)) == len(set(paths)):
            break
    return names


def described(detector: Detector, name: str) -> dict[str, Any]:
    """What the page says of a detector.

    Args:
        detector: any.
        name: what it is called on the page.

    Returns:
        `name`; `choices`, a list with `nms`, `meaning` of its scores, `note` on its validation,
        and `precision` and `recall`, at `validation.THRESHOLDS`, None where not known.
    """
    choices = [{"nms": nms, **_described(choice)} for nms, choice in detector.choices.items()]
    return {"name": name, "choices": choices}


def _described(choice: Choice) -> dict[str, Any]:
    note, curve = choice.validation
    columns = {} if curve is None else curve._asdict()
    known = {name: list(map(_or_none, column)) for name, column in columns.items()}
    return {"meaning": choice.meaning, "note": note, "precision": None, "recall": None, **known}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def found_in(image: np.ndarray, detector: Detector, nms: str) -> Mapping[str, Any]:
    """What a detector finds in a picture, as JSON has it.

    Args:
        image: uint8 [H, W, 3].
        detector: which.
        nms: one of its `choices`.

    Returns:
        `width` and `height` of the picture, pixels; `detections`, by falling score, each with
        `name` and `color` of its class, `score` and `box`, xyxy in pixels.
    """
    found = detector.detect(image, nms)
    names, colors = detector.class_names, class_colors(len(detector.class_names))
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist())
    detections = [
        {"name": names[k], "color": _css(colors[k]), "score": score, "box": box}
        for k, score, box in rows
    ]
    return {"width": image.shape[1], "height": image.shape[0], "detections": detections}


def _css(color: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)


def listen(host: str, port: int) -> socket.socket:
    """Takes the port that the page is to be served on.

    Args:
        host: name or address of this machine.
        port: 0 for any that is free.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"--host={host} --port={port} cannot be listened on ({error.strerror}). Give another "
            "--port, 0 for any that is free, or another --host."
        ) from error


def url(listening: socket.socket) -> str:
    """What the page is called by, on this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(
    detectors: Sequence[Detector], max_pixels: int, listening: socket.socket
) -> BaseWSGIServer:
    """The server of the page: its `run` answers requests until Ctrl-C.

    On a loopback address calls by other names than the loopback's are refused, so that no web page
    reaches the server through a name of its own.

    Args:
        detectors: see `build_app`.
        max_pixels: see `build_app`.
        listening: see `listen`.

    Raises:
        ImportError: Flask or waitress is not installed.
    """
    local = ipaddress.ip_address(listening.getsockname()[0]).is_loopback
    app = build_app(detectors, max_pixels, _LOOPBACK if local else None)
    return _waitress().create_server(app, sockets=[listening], threads=_THREADS, ident=None)


def check_installed() -> None:
    """Makes sure that the extra is there, before anything is loaded; raises ImportError if not."""
    _flask()
    _waitress()


def _flask():
    try:
        import flask
        from werkzeug import exceptions
    except ImportError as error:
        raise _missing(error) from error
    return flask, exceptions


def _waitress():
    try:
        import waitress
    except ImportError as error:
        raise _missing(error) from error
    return waitress


def _missing(error: ImportError) -> ImportError:
    return ImportError(
        f"The page is served by {error.name}, which is an extra: pip install 'harmonic_tf[demo]'."
    )

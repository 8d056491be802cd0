"""Starts tensorflow_model_server, or what takes the same flags, and waits until it answers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

import urllib3

BINARY = "tensorflow_model_server"
GRPC, REST = "gRPC", "REST"

_START = 120.0  # seconds that a server may take


class ModelServer:
    """A server that can be killed and started again at the same ports.

    Args:
        program: how to start it, without its flags.
        folder: of the model's versions; its last part is the model's name.
    """

    def __init__(self, program: Sequence[str], folder: str):
        self.model, (grpc_port, rest_port) = os.path.basename(folder), _free_ports(2)
        self.urls = {GRPC: f"grpc://localhost:{grpc_port}", REST: f"http://localhost:{rest_port}"}
        self._command = [
            *program,
            f"--port={grpc_port}",
            f"--rest_api_port={rest_port}",
            f"--model_name={self.model}",
            f"--model_base_path={folder}",
        ]

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            RuntimeError: it ends, or does not answer in time; the text has what it wrote.
        """
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
            if not self._answers():
                self.kill()
                log.seek(0)
                raise RuntimeError(f"{self._command}: no answer. {log.read().decode()[-2000:]}")

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        """Waits for it to come up."""
        end, url = time.monotonic() + _START, f"{self.urls[REST]}/v1/models/{self.model}"
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if urllib3.request("GET", url, retries=False, timeout=1.0).status == 200:
                    return True
            time.sleep(0.1)
        return False


@contextlib.contextmanager
def running_server(program: Sequence[str], folder: str) -> Iterator[dict[str, str]]:
    """Serves a model for as long as the block runs.

    Args:
        program: see `ModelServer`.
        folder: likewise.

    Yields:
        The server's URLs, by interface.

    Raises:
        RuntimeError: see `ModelServer.start`.
    """
    server = ModelServer(program, folder)
    server.start()
    try:
        yield server.urls
    finally:
        server.kill()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("localhost", 0))
        return [probe.getsockname()[1] for probe in sockets]

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


@contextlib.contextmanager
def running_server(program: Sequence[str], folder: str) -> Iterator[dict[str, str]]:
    """Serves a model for as long as the block runs.

    Args:
        program: how to start the server, without its flags.
        folder: of the model's versions; its last part is the model's name.

    Yields:
        The server's URLs, by interface.

    Raises:
        RuntimeError: the server ends, or does not answer in time; the text has what it wrote.
    """
    name, (grpc_port, rest_port) = os.path.basename(folder), _free_ports(2)
    command = [
        *program,
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={name}",
        f"--model_base_path={folder}",
    ]
    urls = {GRPC: f"grpc://localhost:{grpc_port}", REST: f"http://localhost:{rest_port}"}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            if not _answers(server, f"{urls[REST]}/v1/models/{name}"):
                log.seek(0)
                raise RuntimeError(f"{command}: no answer. {log.read().decode()[-2000:]}")
            yield urls
        finally:
            server.kill()


def _answers(server: subprocess.Popen, url: str) -> bool:
    """Waits for a server to come up."""
    end = time.monotonic() + _START
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if urllib3.request("GET", url, retries=False, timeout=1.0).status == 200:
                return True
        time.sleep(0.1)
    return False


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("localhost", 0))
        return [probe.getsockname()[1] for probe in sockets]

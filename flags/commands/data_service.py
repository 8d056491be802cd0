"""Starts a server of a tf.data service, which makes training batches on other machines.

harmonic-tf data_service dispatcher --port=5050
harmonic-tf data_service worker --dispatcher=HOST:5050 --address=THIS_HOST:5051 --port=5051
harmonic-tf train --tf_data_service=HOST:5050 ...

It runs until it is stopped.
"""

from __future__ import annotations

from absl import flags

from harmonic_tf.data.pipeline.service import start_dispatcher, start_worker, wait_for

from .. import common
from ..running import Command, UsageError

_DISPATCHER = flags.DEFINE_string("dispatcher", None, "Worker: HOST:PORT of the dispatcher.")
_ADDRESS = flags.DEFINE_string(
    "address", None, "Worker: HOST:PORT at which trainers reach it; by default localhost."
)


def main(*roles: str) -> None:
    """Starts one server, says where it is and waits for its end."""
    if roles not in (("dispatcher",), ("worker",)):
        raise UsageError("Say which server: harmonic-tf data_service dispatcher, or worker.")
    if roles == ("dispatcher",):
        server = start_dispatcher(common.PORT.value or 0)
        where = server.target.partition("://")[2]
    else:
        if not _DISPATCHER.value:
            raise UsageError("A worker needs --dispatcher=HOST:PORT.")
        wait_for(_DISPATCHER.value)
        server = start_worker(_DISPATCHER.value, common.PORT.value or 0, _ADDRESS.value)
        where = _ADDRESS.value or server._address
    print(f"{roles[0]} at {where}", flush=True)
    server.join()


COMMAND = Command(main, ["port", "dispatcher", "address"], arguments="dispatcher | worker")

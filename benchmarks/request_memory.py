"""What becomes of a process's memory while an exported model answers good and broken requests."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from harmonic_tf.backend import quiet, tf

_SAMPLES = 10  # how often memory is looked at


def requests(count: int, max_batch: int) -> Iterator[list[bytes]]:
    """Requests of pictures of all kinds and sizes, about half of which are broken somewhere."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        request = [_picture(rng) for _ in range(rng.integers(1, 4))]
        if rng.random() < 0.5:
            place = rng.integers(len(request))
            request[place] = _broken(rng, request[place])
        if rng.random() < 0.02:
            request *= max_batch
        yield request


def _picture(rng: np.random.Generator) -> bytes:
    height, width = rng.integers(1, 300, 2)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    mode = rng.choice(["RGB", "L", "P", "RGBA"])
    kind = "PNG" if mode in ("P", "RGBA") else str(rng.choice(["JPEG", "PNG"]))
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, kind)
    return file.getvalue()


def _broken(rng: np.random.Generator, content: bytes) -> bytes:
    """Cut off, changed in some bytes, changed in its header, or of something else."""
    kind = rng.integers(4)
    if kind == 0:
        return content[: rng.integers(len(content))]
    if kind == 1:
        return rng.bytes(rng.integers(100))
    changed = bytearray(content)
    end = len(changed) if kind == 2 else min(200, len(changed))
    for place in rng.integers(0, end, rng.integers(1, 20)):
        changed[place] = rng.integers(256)
    return bytes(changed)


def memory_over_time(folder: str, count: int, max_batch: int) -> dict[str, object]:
    """Sends requests to a model in this process, through a session as TensorFlow Serving does.

    Calling a signature from Python instead loses about 1 kB with every request that is refused,
    which is TensorFlow's: a `tf.function` of a failing `tf.debugging.Assert` loses as much.

    Args:
        folder: of the SavedModel.
        count: how many requests.
        max_batch: most pictures of a request.

    Returns:
        How many were answered and how many refused; and the resident memory in MiB after each
        tenth of them.
    """
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], folder)
    signature = loaded.signature_def["serving_default"]
    images = signature.inputs["images"].name
    outputs = [output.name for output in signature.outputs.values()]
    answered, mib = 0, []
    with quiet():  # TensorFlow's decoders complain of every picture
        for number, request in enumerate(requests(count, max_batch), start=1):
            with contextlib.suppress(tf.errors.InvalidArgumentError):
                session.run(outputs, {images: request})
                answered += 1
            if number % max(count // _SAMPLES, 1) == 0:
                mib.append(_resident_mib())
    return {"answered": answered, "refused": count - answered, "mib": mib}


def _resident_mib() -> float:
    """Memory that is in use: free memory that the allocator (glibc's) keeps is given back first."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

"""Tensors out of a file that PyTorch saved, without PyTorch and without running what is in it.

Of the layout that PyTorch wrote before version 1.6: five pickles (a magic number, a version, the
machine's number formats, the tensors, the keys of their storages), then every storage, in that
order, as a count and its raw numbers.
"""

from __future__ import annotations

import collections
import math
import os
import pickle
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_REASON_LENGTH = 200  # characters; the file may name anything
# What reading raises where bytes are not what they should be; MemoryError of lengths that are not.
_MALFORMED = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
    MemoryError,
)
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_tensors(path: str) -> dict[str, np.ndarray]:
    """Reads a saved dictionary of tensors.

    Args:
        path: the file.

    Returns:
        Arrays by name, in the file's order.

    Raises:
        ValueError: the file is of another layout, holds anything but tensors, or is cut off.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except (pickle.UnpicklingError, EOFError, *_MALFORMED) as error:
            reason = f"{error!s:.{_REASON_LENGTH}}"
            raise ValueError(f"{path} is not a file of PyTorch's tensors: {reason}") from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, version, _ = (_Tensors(file).load() for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise pickle.UnpicklingError("it does not begin as such a file does")
    entries = _Tensors(file).load()
    types = {key: dtype for (_, dtype, key, *_), *_ in entries.values()}
    storages = {}
    for key in _Tensors(file).load():
        count = int(_numbers(file, np.dtype("<i8"), 1)[0])
        storages[key] = _numbers(file, types[key], count)
    return {
        name: _strided(storages[key], offset, shape, strides)
        for name, ((_, _, key, *_), offset, shape, strides, *_) in entries.items()
    }


def _numbers(file: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    if not 0 <= count * dtype.itemsize <= os.fstat(file.fileno()).st_size - file.tell():
        raise EOFError("it is cut off")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)


def _strided(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    """The part of a storage that a tensor shows; kernels are not always stored in order."""
    steps = [(size - 1) * stride for size, stride in zip(shape, strides)]
    inside = min([offset, *steps]) >= 0 and offset + sum(steps) < len(storage)
    if not inside or math.prod(shape) > len(storage):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [stride * storage.itemsize for stride in strides]
    )
    return view.copy()


class _Tensors(pickle.Unpickler):
    """Builds numbers, texts, and the descriptions of tensors; whatever else is named is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *description: description
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: Any) -> Any:
        return pid

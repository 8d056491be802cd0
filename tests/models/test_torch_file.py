"""Files of PyTorch's tensors: what they hold, and nothing else."""

import io
import os
import pickle
import struct
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonic_tf.models.torch_file import read_tensors

MAGIC = 0x1950A86A20F9469CFC6C


class Named:
    """Stands for something of PyTorch's in a pickle, where it is named by module and name."""

    def __init__(self, module, name):
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def __reduce__(self):
        return self.__name__


class Tensor:
    def __init__(self, rebuild, storage, offset, shape, strides):
        self.parts = (storage, offset, shape, strides, False, {})
        self.rebuild = rebuild

    def __reduce__(self):
        return self.rebuild, self.parts


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None


@pytest.fixture
def torch(monkeypatch):
    """As much of PyTorch as a pickle has to name."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    def _rebuild_tensor_v2(*_):
        raise AssertionError("not called by reading")

    class FloatStorage:
        pass

    class LongStorage:
        pass

    for module, value in (
        ("torch._utils", _rebuild_tensor_v2),
        ("torch", FloatStorage),
        ("torch", LongStorage),
    ):
        value.__module__, value.__qualname__ = module, value.__name__
        setattr(modules[module], value.__name__, value)
    modules["torch"].rebuild = _rebuild_tensor_v2
    return modules["torch"]


def dump(*values):
    file = io.BytesIO()
    for value in values:
        Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def saved(torch, arrays, magic=MAGIC, offset=0):
    """A file's bytes, written from strided arrays as their storage lies in memory."""
    entries, storages = {}, []
    for key, (name, array) in enumerate(arrays.items()):
        base = array if array.base is None else array.base
        kind = torch.LongStorage if array.dtype == np.int64 else torch.FloatStorage
        storage = ("storage", kind, str(key), "cpu", base.size, None)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        entries[name] = Tensor(torch.rebuild, storage, offset, array.shape, strides)
        storages.append(struct.pack("<q", base.size) + base.tobytes())
    keys = [str(key) for key in range(len(arrays))]
    return dump(magic, 1001, {"little_endian": True}, entries, keys) + b"".join(storages)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 5, 4)).astype(np.float32)
    return {
        "in order": kernel.copy(),
        "channels last": kernel.copy().transpose(3, 2, 0, 1),
        "count": np.array(7, np.int64),
    }


def test_tensors_are_read_by_their_strides(torch, arrays, tmp_path):
    (tmp_path / "a.pth").write_bytes(saved(torch, arrays))
    read = read_tensors(str(tmp_path / "a.pth"))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_a_file_cut_off_anywhere_is_refused(torch, arrays, tmp_path):
    content, path = saved(torch, arrays), tmp_path / "a.pth"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.pth is not a file of PyTorch's tensors"):
            read_tensors(str(path))


@given(st.integers(min_value=0), st.integers(0, 255))
def test_changed_bytes_give_arrays_or_a_clear_error(torch_bytes, position, value):
    content, path = bytearray(torch_bytes[0]), torch_bytes[1]
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        read = read_tensors(str(path))
    except ValueError as error:
        assert "a.pth is not a file of PyTorch's tensors" in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in read.values())


@pytest.fixture(scope="module")
def torch_bytes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        content = saved(torch.__wrapped__(patch), arrays.__wrapped__())
    return content, tmp_path_factory.mktemp("torch") / "a.pth"


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path):
    path, made = tmp_path / "a.pth", tmp_path / "made"
    path.write_bytes(dump(MAGIC, 1001, {}, Command(str(made))))
    with pytest.raises(ValueError, match=r"mkdir, which no tensor needs"):
        read_tensors(str(path))
    assert not made.exists()


def test_other_files_are_refused(torch, arrays, tmp_path):
    path = tmp_path / "a.pth"
    for content, said in (
        (saved(torch, arrays, magic=1), "does not begin"),
        (saved(torch, arrays, offset=1), "beyond its storage"),
        (saved(torch, arrays, offset=-1), "beyond its storage"),
        (b"PK\3\4 the layout of later versions", "is not a file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_tensors(str(path))


def test_a_long_name_is_cut_in_the_message(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"c" + b"a" * 60_000 + b"\nb\n.")
    with pytest.raises(ValueError, match="it asks for aaa") as caught:
        read_tensors(str(path))
    assert len(str(caught.value)) < 1000


def test_a_length_that_no_memory_has_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.")
    with pytest.raises(ValueError, match="is not a file of PyTorch's tensors"):
        read_tensors(str(path))

"""Detectors out of `.keras` files, without running what a stranger may have written into one.

Such a file names classes and functions, which Keras looks up and calls. Keras 2 looks in any module
that can be imported, so that a file can run any program; Keras 3 in its own alone. Here a file may
name what is registered with Keras, as all of this package and of keras-cv is, and those layers and
further parts of Keras that neither hold code nor read other files.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import h5py

from harmonic_tf.backend import before_each_weight, keras, plain
from harmonic_tf.models.joint.detector import JointDetector

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIG, _WEIGHTS}

# What Keras writes for values that JSON does not know.
_VALUES = ("__tensor__", "__numpy__", "__bytes__", "__keras_tensor__", "__ellipsis__", "__slice__")
_MODULES = ("layers", "initializers", "regularizers", "constraints", "activations", "optimizers")
_POLICIES = ("keras.DTypePolicy", "keras.mixed_precision.Policy")
# Layers that hold code, run a model of another file, or read a file that the configuration names.
_REFUSED_LAYERS = (
    "DenseFeatures",
    "FlaxLayer",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "SequenceFeatures",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
)
# Operations of TensorFlow that Keras 2 makes layers of.
_WRAPPERS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")
_PURE_OPERATIONS = ("math.", "nn.", "__operators__.", "linalg.")
_PURE_FUNCTIONS = ("cast", "concat", "expand_dims", "reshape", "shape", "squeeze", "stack")
# Weights that are not in the file are few: counters and states of random numbers.
_SPARE_NUMBERS = 2**16
_DEPTH = re.compile("depth|blocks|repeats")
_VALUE_LENGTH = 160  # characters of a bad value that a message shows


class ModelFileError(ValueError):
    """A file that holds no detector that can be used; names file, field, value and remedy."""


@plain
def load_detector(path: str) -> JointDetector:
    """Loads a detector from a `.keras` file, which may come from anybody.

    Args:
        path: the file, as `model.save` writes it.

    Returns:
        The detector, not compiled, in the precision policy that is in force.

    Raises:
        ModelFileError: the file is damaged, asks for what no detector needs or for more memory than
            its weights take, or holds something else.
        OSError: it cannot be read.
    """
    size = _check(path)
    most, count = size + _SPARE_NUMBERS, 0

    def count_weight(shape: Sequence[int]) -> None:
        nonlocal count
        count += math.prod(shape)
        if count > most:
            raise MemoryError

    try:
        with before_each_weight(count_weight):
            model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a wrong value may show in any line of Keras or of a layer
        if count > most:  # whatever Keras made of that error
            value = f"at least {count:,} numbers, of which the file, with {size:,} bytes, has none"
            _refuse(path, _CONFIG, value, "describes a larger network than the file has weights of")
        _refuse(path, "model", f"{type(error).__name__}: {error}", "does not load", cause=error)
    if not isinstance(model, JointDetector):
        _refuse(path, "model", type(model).__name__, "is not a detector of harmonic_tf")
    return model


def check_config(config: Any, path: str) -> None:
    """Makes sure that a configuration names nothing that could run what a stranger wrote.

    Args:
        config: of a model or a layer, as `keras.saving.serialize_keras_object` gives it.
        path: the file that it is from, for the message.

    Raises:
        ModelFileError: it names a class or a function that is neither registered with Keras nor a
            harmless part of Keras.
    """
    for entry in (found for found in _objects(config) if "class_name" in found):
        if not _is_harmless(entry):
            keys = ("module", "class_name", "registered_name")
            shown = {key: entry[key] for key in keys if entry.get(key) is not None}
            if entry["class_name"] == "function" or entry["class_name"] in _WRAPPERS:
                shown["config"] = entry.get("config")
            _refuse(
                path,
                _CONFIG,
                shown,
                "is not registered with Keras, or could run what the file brings",
                "Import the module that registers it before loading, by "
                "`keras.saving.register_keras_serializable`; do not use files of people whose "
                "programs you would not run",
            )


def _check(path: str) -> int:
    """Checks a file without building anything; gives the size of its weights in bytes."""
    if not path.endswith(".keras") or not os.path.isfile(path):
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: no such file. Name a .keras file.")
        _refuse(path, "file", os.path.basename(path), "is not a .keras file")
    members = _members(path)
    try:
        config = json.loads(members[_CONFIG])
    except (ValueError, RecursionError) as error:
        _refuse(path, _CONFIG, error, "is not JSON")
    if not isinstance(config, dict):
        _refuse(path, _CONFIG, type(config).__name__, "does not describe a model")
    # How it was trained is not looked at when it is loaded for use.
    config["compile_config"] = None
    check_config(config, path)
    weights = _count_weights(path, members[_WEIGHTS])
    for name, value in _depths(config):
        if not 0 <= value <= weights:
            problem = f"is not the depth of a network whose file has {weights} weights"
            _refuse(path, f"{_CONFIG}, {name}", value, problem)
    return len(members[_WEIGHTS])


def _members(path: str) -> Mapping[str, bytes]:
    """What is in the archive, which is stored as it is: so it takes no more than the file does."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = sorted(member.filename for member in members)
            if names != sorted(_MEMBERS):
                _refuse(path, "members", names, f"are not {', '.join(sorted(_MEMBERS))}")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                _refuse(path, "members", "compressed", "are not stored as Keras stores them")
            return {name: archive.read(name) for name in names}
    except ModelFileError:
        raise
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise
        _refuse(path, "file", error, "is not a whole .keras file", cause=error)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        _refuse(path, "file", error, "is not a whole .keras file", cause=error)


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a configuration, however deep."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _depths(config: Any) -> Iterator[tuple[str, float]]:
    """Every number of layers in a configuration, by the names that detectors and keras-cv have."""
    for found in _objects(config):
        for name, value in found.items():
            if _DEPTH.search(name):
                numbers = value if isinstance(value, list) else [value]
                yield from ((name, n) for n in numbers if isinstance(n, (int, float)))


def _is_harmless(entry: Mapping[str, Any]) -> bool:
    name, module = entry["class_name"], entry.get("module")
    if not isinstance(name, str) or not isinstance(module, (str, type(None))):
        return False
    if name in _VALUES:
        return True
    if name == "function":
        return _is_harmless_function(entry.get("config"), module)
    if _is_registered(entry.get("registered_name") or name):
        return True
    if name in _WRAPPERS:
        return _is_pure_operation(entry.get("config"))
    return bool(module) and _is_of_keras(module, name)


def _is_of_keras(module: str, name: str) -> bool:
    """Whether it is a layer, an initializer and so on, and none of those that are refused."""
    if f"{module}.{name}" in _POLICIES:
        return True
    package, _, rest = module.partition(".")
    if package != "keras" or name in _REFUSED_LAYERS or not name.isidentifier():
        return False
    if rest in _MODULES:
        return isinstance(getattr(getattr(keras, rest), name, None), type)
    graph = name in ("Functional", "Sequential") and rest.split(".")[-1] == name.lower()
    sequential = rest in ("", "models") and name == "Sequential"
    return graph or sequential or rest.startswith("src.ops.")  # of Keras 3: classes of operations


def _is_harmless_function(name: Any, module: str | None) -> bool:
    if not isinstance(name, str):
        return False
    of_keras = module in ("builtins", "keras.activations") and name.isidentifier()
    return _is_registered(name) or (of_keras and callable(getattr(keras.activations, name, None)))


def _is_pure_operation(config: Any) -> bool:
    function = config.get("function") if isinstance(config, dict) else None
    return isinstance(function, str) and (
        function.startswith(_PURE_OPERATIONS) or function in _PURE_FUNCTIONS
    )


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _count_weights(path: str, content: bytes) -> int:
    """Makes sure that all weights are in the file itself, and no more than fit into it."""
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            sizes = [dataset.nbytes for dataset in _datasets(file, path)]
    except ModelFileError:
        raise
    except Exception as error:  # h5py has one for each kind of damage
        _refuse(path, _WEIGHTS, error, "is damaged", cause=error)
    if sum(sizes) > len(content):
        value = f"{sum(sizes):,} bytes of weights in {len(content):,}"
        _refuse(path, _WEIGHTS, value, "describes more than it holds")
    return len(sizes)


def _datasets(file: h5py.File, path: str) -> Iterator[h5py.Dataset]:
    """Every dataset in a file of weights, none of which is elsewhere; each once."""
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                _refuse(path, _WEIGHTS, f"{group.name}/{name}", "is a link to another place")
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                waiting.append(found)
            elif isinstance(found, h5py.Dataset):
                if found.external or found.is_virtual:
                    _refuse(path, _WEIGHTS, found.name, "is kept in another file")
                yield found


_REMEDY = "Name a .keras file that a training run left in its checkpoints folder"


def _refuse(
    path: str,
    field: str,
    value: Any,
    problem: str,
    remedy: str = _REMEDY,
    cause: Exception | None = None,
) -> NoReturn:
    text = str(value)
    shown = text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."
    raise ModelFileError(f"{path}: {field} = {shown}: {problem}. {remedy}.") from cause

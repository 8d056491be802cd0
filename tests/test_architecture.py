"""The house rules of docs/architecture.md: which layer may import which, and who may use what."""

from __future__ import annotations

import ast
import re

import pytest

# Layer -> the layers it may import, lowest first. `harmonic_tf` is the package itself
# (its __init__.py), which importing registers losses and models with Keras.
ALLOWED = {
    "backend": set(),
    "files": set(),
    "tables": set(),
    "colors": set(),
    "shell": set(),
    "memory": set(),
    "boxes": {"backend"},
    "anchors": {"backend", "boxes"},
    "losses": {"backend", "boxes"},
    "models": {"backend", "boxes", "anchors", "losses"},
    "harmonic_tf": {"losses", "models"},
    "data": {"backend", "files", "memory", "tables", "colors", "shell", "boxes", "anchors"},
    "evaluation": {"files", "tables", "colors", "boxes"},
    "training": {
        *("backend", "boxes", "anchors", "losses", "models", "harmonic_tf"),
        *("files", "memory", "tables", "shell", "data", "evaluation"),
    },
    "export": {
        *("backend", "boxes", "anchors", "losses", "models", "harmonic_tf"),
        *("files", "data"),
    },
    "demo": {
        *("backend", "files", "colors", "shell", "models"),
        *("data", "evaluation", "training", "export"),
    },
    "flags": {
        *("backend", "files", "shell", "anchors", "losses", "models"),
        *("data", "evaluation", "training", "export", "demo"),
    },
    "train": {"flags"},
    "evaluate": {"flags"},
    "setup": set(),
}
OUTSIDE_THE_PACKAGE = {"flags", "train", "evaluate", "setup"}

FRAMEWORKS = {"tensorflow", "keras", "keras_cv"}  # loud at import: harmonic_tf.backend quiets them
COMMAND_LINE = ("absl.flags", "absl.app")


def layer_of_file(file: str) -> str:
    parts = file[: -len(".py")].split("/")
    if parts[0] == "harmonic_tf" and parts[1] != "__init__":
        return parts[1]
    return parts[0]


def layer_of_module(module: str) -> str | None:
    """The layer that an imported name belongs to; None for everybody else's modules."""
    parts = module.split(".")
    if parts[0] != "harmonic_tf":
        return parts[0] if parts[0] in OUTSIDE_THE_PACKAGE else None
    named = parts[1] if len(parts) > 1 else ""
    return named if named in ALLOWED else "harmonic_tf"


def violations(source_tree, file: str, source: str) -> list[str]:
    """Every rule that `source` would break if it stood in `file`, with its line."""
    layer = layer_of_file(file)
    if layer not in ALLOWED:
        return [f"{file}: `{layer}` is no layer: give it a place in ALLOWED and in BUILD"]
    found, lines = [], source.splitlines()
    for module, line, deferred in source_tree.imports(file, source):
        where, root, below = f"{file}:{line}", module.split(".")[0], layer_of_module(module)
        if below not in (None, layer, *ALLOWED[layer]):
            found.append(f"{where}: `{layer}` may not import `{below}`")
        if root in FRAMEWORKS and layer != "backend":
            found.append(f"{where}: take {root} from harmonic_tf.backend")
        if layer == "flags" and re.match(r"\s*(import|from) flags\b", lines[line - 1]):
            found.append(f"{where}: flags/ is installed under another name: import relatively")
        if root == "tensorflow_addons" and not deferred:
            found.append(f"{where}: import tensorflow_addons inside the function that uses it")
        if module.startswith(COMMAND_LINE) and layer not in OUTSIDE_THE_PACKAGE:
            found.append(f"{where}: the package knows no command line ({module})")
    if layer not in OUTSIDE_THE_PACKAGE:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        found += [
            f"{file}:{call.lineno}: the package does not print"
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id == "print"
        ]
    return found


def test_every_layer_stands_on_those_named_before_it():
    layers = list(ALLOWED)
    for number, (layer, below) in enumerate(ALLOWED.items()):
        assert below <= set(layers[:number]), f"`{layer}` may only stand on layers named before it"


def test_the_project_keeps_the_rules(source_tree):
    files = source_tree.files("harmonic_tf/**/*.py", "flags/**/*.py", "*.py")
    broken = [v for file in files for v in violations(source_tree, file, source_tree.read(file))]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("file", "source", "rule"),
    [
        # an arrow turned back, in every way to write it
        ("harmonic_tf/losses/a.py", "from harmonic_tf.models import X", "may not import `models`"),
        ("harmonic_tf/losses/a.py", "from harmonic_tf import models", "may not import `models`"),
        ("harmonic_tf/losses/a.py", "import harmonic_tf.models.b", "may not import `models`"),
        ("harmonic_tf/losses/a.py", "from .. import models", "may not import `models`"),
        ("harmonic_tf/losses/a.py", "from ..models.b import X", "may not import `models`"),
        ("harmonic_tf/losses/a.py", "def f():\n from harmonic_tf import models", "`models`"),
        ("harmonic_tf/losses/a.py", "if True:\n  import harmonic_tf.models", "`models`"),
        # the walls between the layers
        ("harmonic_tf/boxes.py", "import harmonic_tf.anchors", "may not import `anchors`"),
        ("harmonic_tf/data/a.py", "import harmonic_tf.losses", "may not import `losses`"),
        ("harmonic_tf/data/a.py", "import harmonic_tf", "may not import `harmonic_tf`"),
        ("harmonic_tf/evaluation/a.py", "from harmonic_tf import data", "may not import `data`"),
        ("harmonic_tf/models/a.py", "from harmonic_tf import training", "import `training`"),
        ("harmonic_tf/export/a.py", "from harmonic_tf import training", "import `training`"),
        ("harmonic_tf/export/a.py", "import flags", "may not import `flags`"),
        ("flags/a.py", "import flags", "import relatively"),
        ("flags/a.py", "from flags import data", "import relatively"),
        ("flags/commands/a.py", "from flags.data import dataset", "import relatively"),
        ("harmonic_tf/training/a.py", "import flags", "may not import `flags`"),
        ("flags/a.py", "import train", "may not import `train`"),
        ("train.py", "import harmonic_tf.losses", "may not import `losses`"),
        ("harmonic_tf/news.py", "", "`news` is no layer"),
        # who may use what
        ("harmonic_tf/boxes.py", "import tensorflow as tf", "from harmonic_tf.backend"),
        ("harmonic_tf/boxes.py", "from tensorflow.keras import layers", "harmonic_tf.backend"),
        ("harmonic_tf/models/a.py", "def f():\n  import keras_cv", "from harmonic_tf.backend"),
        ("train.py", "from keras import layers", "from harmonic_tf.backend"),
        ("harmonic_tf/training/a.py", "import tensorflow_addons as tfa", "inside the function"),
        ("harmonic_tf/training/a.py", "class A:\n import tensorflow_addons", "inside the function"),
        ("harmonic_tf/training/a.py", "from absl import flags", "no command line"),
        ("harmonic_tf/training/a.py", "from absl.app import run", "no command line"),
        ("harmonic_tf/data/a.py", "def f():\n  print(1)", "does not print"),
    ],
)
def test_a_broken_rule_is_seen(source_tree, file, source, rule):
    (seen,) = violations(source_tree, file, source)
    assert rule in seen


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("harmonic_tf/backend/a.py", "import tensorflow as tf, keras_cv"),
        ("harmonic_tf/losses/a.py", "from harmonic_tf import boxes as b\nfrom . import functional"),
        ("harmonic_tf/models/a.py", "from ..losses.harmonic import X\nfrom .b import Y"),
        ("harmonic_tf/__init__.py", "from harmonic_tf import losses, models"),
        ("harmonic_tf/training/a.py", "def f():\n  import tensorflow_addons as tfa"),
        ("harmonic_tf/training/a.py", "from harmonic_tf import __version__\nimport data, numpy"),
        ("harmonic_tf/training/a.py", "from absl import logging\nlog.print('x')"),
        ("flags/commands/a.py", "from .. import data\nfrom ..data import dataset"),
        ("flags/a.py", "from absl import flags\nprint(1)"),
        ("train.py", "import sys\nfrom flags.command import main"),
    ],
)
def test_what_is_allowed_is_not_refused(source_tree, file, source):
    assert violations(source_tree, file, source) == []

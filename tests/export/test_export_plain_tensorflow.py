"""What is exported needs TensorFlow and nothing else."""

import json
import os
import subprocess
import sys

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from harmonic_tf.backend import tf

PROGRAM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("harmonic_tf", "keras_cv", "tensorflow_addons"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

model, pictures, answers = sys.argv[1:]
content = list(np.load(pictures, allow_pickle=True))
answer = tf.saved_model.load(model).signatures["serving_default"](images=tf.constant(content))
np.savez(answers, **{name: value.numpy() for name, value in answer.items()})
"""


def test_the_same_numbers_without_this_package(exported, predict, serving, tmp_path):
    content = np.array(serving.pictures(), object)
    np.save(tmp_path / "pictures.npy", content, allow_pickle=True)
    paths = [exported[1], tmp_path / "pictures.npy", tmp_path / "answers.npz"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with np.load(paths[2], allow_pickle=True) as found:
        rows = serving.answered({name: tf.constant(found[name]) for name in found.files})
    expected = serving.detected(exported[0], list(content), tmp_path, predict)
    serving.assert_same(rows, expected)


def test_only_built_in_operations(exported):
    with open(os.path.join(exported[1], "saved_model.pb"), "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    operations = {node.op for node in nodes} - functions
    assert {"DecodeImage", "ExtractJpegShape", "CombinedNonMaxSuppression"} <= operations
    assert not [name for name in operations if "PyFunc" in name]
    # Listed by TensorFlow itself, in a process that has loaded no other library.
    listing = (
        "import json, tensorflow as tf; from tensorflow.python.framework import op_def_registry"
    )
    listing += (
        f"; print(json.dumps([n for n in {sorted(operations)} if not op_def_registry.get(n)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, timeout=300, check=True
    )
    assert json.loads(done.stdout) == []

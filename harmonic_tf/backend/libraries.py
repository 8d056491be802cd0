"""TensorFlow, Keras and keras-cv, imported in silence.

Importing them prints dozens of lines (CPU features, missing GPU libraries, the chosen backend)
before a program has said its first word; here they are held back, and shown only when an import
fails.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what native code and Python write to stdout and stderr; replays it on error."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as held:
        try:
            os.dup2(held.fileno(), 1)
            os.dup2(held.fileno(), 2)
            yield
        except BaseException:
            held.seek(0)
            os.write(saved[1], held.read())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), saved):
                os.dup2(descriptor, number)
                os.close(descriptor)


# What goes wrong in native code reaches Python as an exception; its log adds only noise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's convolutions, which TensorFlow takes by itself only where there is AVX-512 VNNI or AMX.
# With AVX2 alone they, too, are faster, in training most of all.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# keras-cv lists all attributes of a model to save it, deprecated ones of Keras among them.
warnings.filterwarnings("ignore", message="`(Model.state_updates|layer.updates)` will be removed")
with quiet():
    import keras
    import keras_cv
    import tensorflow as tf

KERAS_3 = not keras.__version__.startswith("2.")
if not KERAS_3:
    keras = tf.keras  # which keras-cv means by Keras there

__all__ = ["KERAS_3", "keras", "keras_cv", "plain", "quiet", "tf", "traced"]

# Keeps AutoGraph off a function and all that it calls, for functions that tf.data or Keras trace.
# This package writes no control flow that would need it. It would write each function that it
# meets into a file in the temporary folder, which stays there when the process is killed.
plain = tf.autograph.experimental.do_not_convert


def traced(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A `tf.function` without AutoGraph, see `plain`.

    Args:
        function: what to trace.
        **options: of `tf.function`.
    """
    return tf.function(plain(function), autograph=False, **options)

"""Iterators of tf.data are not tuned where this is imported.

TensorFlow 2.21 sometimes wakes the thread that tunes them too late: who deletes one waits, idle, up
to a minute.
"""

from harmonic_tf.backend import tf


def _without_autotune(dataset):
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


# What iterators ask of their data set; elsewhere for the debug mode of tf.data.
tf.data.Dataset._apply_debug_options = _without_autotune

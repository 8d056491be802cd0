"""The one place that knows which TensorFlow and which Keras are underneath.

Everything else takes `tf`, `keras` and `keras_cv` from here, and what differs between their
versions under one name.
"""

from harmonic_tf.backend.libraries import KERAS_3, keras, keras_cv, plain, quiet, tf, traced

if KERAS_3:
    from harmonic_tf.backend.keras3 import (
        OnePassStep,
        SteppedModel,
        apply_summed,
        before_each_weight,
        build_optimizer_state,
        fuse_batch_norms,
        lamb,
        layers_in,
        mean_over_replicas,
        name_of,
        state_of,
        value_of,
        warped,
        without_loss_scaling,
    )
else:
    from harmonic_tf.backend.keras2 import (
        OnePassStep,
        SteppedModel,
        apply_summed,
        before_each_weight,
        build_optimizer_state,
        fuse_batch_norms,
        lamb,
        layers_in,
        mean_over_replicas,
        name_of,
        state_of,
        value_of,
        warped,
        without_loss_scaling,
    )

__all__ = [
    "OnePassStep",
    "SteppedModel",
    "apply_summed",
    "before_each_weight",
    "build_optimizer_state",
    "fuse_batch_norms",
    "keras",
    "keras_cv",
    "lamb",
    "layers_in",
    "mean_over_replicas",
    "name_of",
    "plain",
    "quiet",
    "state_of",
    "tf",
    "traced",
    "value_of",
    "warped",
    "without_loss_scaling",
]

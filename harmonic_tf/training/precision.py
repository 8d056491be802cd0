"""Which number format the network computes in. Targets, losses and boxes stay in float32."""

from __future__ import annotations

from harmonic_tf.backend import keras, tf

PRECISIONS = ("auto", "float32", "mixed_bfloat16")

# Compute capability of NVIDIA Ampere, the first GPUs with bfloat16.
_AMPERE = (8, 0)

# CPU features, as Linux names them, that make bfloat16 faster than float32.
_BFLOAT16_FEATURES = {"amx_bf16", "avx512_bf16"}


def _cpu_features() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            lines = [line for line in info if line.startswith("flags")]
    except OSError:
        return set()
    return set(lines[0].split(":", 1)[1].split()) if lines else set()


def resolve_precision(precision: str) -> str:
    """Names the precision policy to use on this machine.

    Args:
        precision: one of `PRECISIONS`; `"auto"` picks mixed_bfloat16 where the GPU is Ampere or
            newer or, without a GPU, the CPU has AMX or AVX512 instructions for it, else float32.

    Returns:
        `"float32"` or `"mixed_bfloat16"`.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        capable = all(d.get("compute_capability", (0, 0)) >= _AMPERE for d in details)
    else:
        capable = bool(_BFLOAT16_FEATURES & _cpu_features())
    return "mixed_bfloat16" if capable else "float32"


def set_precision(precision: str) -> str:
    """Makes layers built from now on compute in a precision.

    Args:
        precision: one of `PRECISIONS`.

    Returns:
        The name of the policy that is now in force.
    """
    policy = resolve_precision(precision)
    keras.mixed_precision.set_global_policy(policy)
    return policy

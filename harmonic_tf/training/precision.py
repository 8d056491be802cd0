"""Which number format the network computes in. Targets, losses and boxes stay in float32."""

from __future__ import annotations

from harmonic_tf.backend import keras, tf

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

# Compute capabilities of NVIDIA's first GPUs with tensor cores for each format: Ampere and Volta.
_BFLOAT16_CAPABILITY = (8, 0)
_FLOAT16_CAPABILITY = (7, 0)

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
        precision: one of `PRECISIONS`; `"auto"` picks mixed_bfloat16 where the GPUs are Ampere or
            newer or, without a GPU, the CPU has AMX or AVX512 instructions for it; mixed_float16
            on GPUs from Volta on; else float32.

    Returns:
        `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "mixed_bfloat16" if _BFLOAT16_FEATURES & _cpu_features() else "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
    if capability >= _BFLOAT16_CAPABILITY:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= _FLOAT16_CAPABILITY else "float32"


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

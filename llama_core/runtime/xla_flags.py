"""What XLA reads from the environment, once, when it starts: `llama_core` sets it before it imports anything else."""

import importlib.metadata
import os

from packaging.version import InvalidVersion, Version

from llama_core.runtime.cores import usable_cores

# Versions of jaxlib that are known to have the flag; pre-releases of the last are not.
FIRST, AFTER = Version("0.10.1"), Version("0.13.dev0")


def take_gpu_memory_as_needed() -> None:
    """On GPUs, take memory when it is needed, up to nine tenths of the card. Without this JAX takes three quarters at
    once, whatever the model needs, and never more. What the environment says stays. Must run before jax is imported.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # its older name; JAX refuses both at once
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.9")


def use_our_cores_only() -> None:
    """On CPUs, compute with as many threads as there are cores for this process. XLA counts the cores of the machine,
    and where a container may keep fewer of them busy, the system stops all threads for the rest of each period. It
    reads NPROC when the first device is asked for; what the environment says stays.
    """
    os.environ.setdefault("NPROC", str(usable_cores()))


def choose_cpu_kernels() -> None:
    """On CPUs, have YNNPACK compute the matrix products and nothing else.

    With it several rows cost little more than one (four rows of 8192×2048: 31.8 instead of 11.8 GB/s). Its sums are
    wrong in jaxlib 0.10.2 (jax-ml/jax#39103). Must run before jax is imported, and only with versions that are known to
    have the flag: others abort on unknown flags.
    """
    try:
        version = Version(importlib.metadata.version("jaxlib"))
    except InvalidVersion:  # a build of one's own
        return
    if FIRST <= version < AFTER:
        flag = "--xla_cpu_experimental_ynn_fusion_type=individual_dot"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()

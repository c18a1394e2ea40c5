"""Native kernels for CPUs behind `jax.ffi`: C++ sources, how they are compiled and registered, and their calls as
functions of arrays. Without them everything runs, slower."""

from llama_core.kernels.library import NATIVE, KernelError, prepare_kernels

__all__ = ["NATIVE", "KernelError", "prepare_kernels"]

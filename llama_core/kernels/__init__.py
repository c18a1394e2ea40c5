"""Native kernels for CPUs behind `jax.ffi`: C++ sources, how they are compiled and registered, and their calls as
functions of arrays. Without them everything runs, slower."""

from llama_core.kernels.library import NATIVE, OFF, KernelError, can_have_kernels, prepare_kernels

__all__ = ["NATIVE", "OFF", "KernelError", "can_have_kernels", "prepare_kernels"]

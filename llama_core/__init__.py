"""A Llama in JAX: configuration, weights, the forward pass, sampling and the engine that serves it. No Gradio here."""

import importlib
from typing import TYPE_CHECKING, Any

from llama_core.runtime.xla_flags import choose_cpu_kernels, take_gpu_memory_as_needed, use_our_cores_only

choose_cpu_kernels()  # all of it before jax is imported
take_gpu_memory_as_needed()
use_our_cores_only()

if TYPE_CHECKING:
    from llama_core.checkpoint import load_checkpoint, save_checkpoint
    from llama_core.engine import Engine
    from llama_core.model import LlamaConfig, init_model_params, model_forward
    from llama_core.sampling import SamplingParams

# Each public name and the folder that has it, imported when it is asked for: settings and errors are read in
# milliseconds, without jax, and who only loads, samples or trains does not import the server.
_HOMES = {
    "Engine": "engine",
    "LlamaConfig": "model",
    "SamplingParams": "sampling",
    "init_model_params": "model",
    "load_checkpoint": "checkpoint",
    "model_forward": "model",
    "save_checkpoint": "checkpoint",
}

__all__ = [
    "Engine",
    "LlamaConfig",
    "SamplingParams",
    "init_model_params",
    "load_checkpoint",
    "model_forward",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"llama_core.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""A Llama in JAX: configuration, weights, the forward pass, sampling and the engine that serves it. No Gradio here."""

import importlib
from typing import TYPE_CHECKING, Any

from llama_core.runtime.xla_flags import choose_cpu_kernels

choose_cpu_kernels()  # before jax is imported

from llama_core.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from llama_core.model import LlamaConfig, init_model_params, model_forward  # noqa: E402
from llama_core.sampling import SamplingParams  # noqa: E402

if TYPE_CHECKING:
    from llama_core.engine import Engine

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
    # Imported when it is asked for: who only loads, samples or trains does not import the server.
    if name == "Engine":
        return importlib.import_module("llama_core.engine").Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

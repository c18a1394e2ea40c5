"""A Llama in JAX: configuration, weights, the forward pass, sampling and the engine that serves it. No Gradio here."""

import importlib.metadata
import os


def _choose_cpu_kernels() -> None:
    """On CPUs, let YNNPACK do the matrix products, with which several rows cost little more than one
    (benchmarks/NOTES.md), and nothing else: its sums are wrong in jaxlib 0.10.2 (jax-ml/jax#39103).

    Must run before jax is imported. Only in the versions known to have the flag: others abort on unknown flags.
    """
    version = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:3])
    if (0, 10, 1) <= version < (0, 13):
        flag = "--xla_cpu_experimental_ynn_fusion_type=individual_dot"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


_choose_cpu_kernels()

from llama_core.checkpoint import load_checkpoint  # noqa: E402
from llama_core.config import LlamaConfig  # noqa: E402
from llama_core.engine import Engine  # noqa: E402
from llama_core.model import model_forward  # noqa: E402
from llama_core.params import init_model_params  # noqa: E402
from llama_core.sampling import SamplingParams  # noqa: E402
from llama_core.saving import save_checkpoint  # noqa: E402

__all__ = [
    "Engine", "LlamaConfig", "SamplingParams", "init_model_params", "load_checkpoint", "model_forward",
    "save_checkpoint",
]

"""A Llama in JAX: configuration, weights, the forward pass, sampling and the engine that serves it. No Gradio here."""

import importlib.metadata
import os


def _avoid_wrong_sums() -> None:
    """Switch off a fusion with which jaxlib 0.10.2 computes wrong numbers on CPUs (jax-ml/jax#39103).

    Must run before jax is imported. Only in the versions known to have the flag: others abort on unknown flags.
    """
    version = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:3])
    if (0, 10, 1) <= version < (0, 13):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_experimental_ynn_fusion_type=".strip()


_avoid_wrong_sums()

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

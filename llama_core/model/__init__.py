"""The textbook: configuration, the parameter table, and the transformer as pure functions, read top to bottom."""

from llama_core.model.config import LlamaConfig
from llama_core.model.llama import model_forward
from llama_core.model.params import init_model_params

__all__ = ["LlamaConfig", "init_model_params", "model_forward"]

"""A folder, a file or a Hub id ⇄ a `Model`, and whether it will fit into memory. Knows nothing of the engine."""

from llama_core.checkpoint.load import Model, load_checkpoint
from llama_core.checkpoint.save import save_checkpoint

__all__ = ["Model", "load_checkpoint", "save_checkpoint"]

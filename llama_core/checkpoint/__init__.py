"""A folder or Hub id ⇄ a `Model`, and whether it will fit into memory. Independent of the engine."""

from llama_core.checkpoint.load import load_checkpoint
from llama_core.checkpoint.model import Model
from llama_core.checkpoint.save import save_checkpoint

__all__ = ["Model", "load_checkpoint", "save_checkpoint"]

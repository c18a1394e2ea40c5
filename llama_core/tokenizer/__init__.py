"""Text ⇄ token ids, and messages → prompt ids by the chat template of the checkpoint. Independent of the engine."""

from llama_core.tokenizer.loading import load_tokenizer
from llama_core.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]

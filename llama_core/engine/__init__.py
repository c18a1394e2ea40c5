"""Who runs when: requests, slots of the key/value cache, and the compiled programs. Knows token ids; `text` alone turns
them into words."""

from llama_core.engine.engine import Engine

__all__ = ["Engine"]

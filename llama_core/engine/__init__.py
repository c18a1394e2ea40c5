"""Who runs when: requests, slots of the key/value cache, and the compiled programs. Knows token ids; `text` alone turns
them into words."""

from llama_core.engine.engine import Engine
from llama_core.engine.errors import BadRequest, EngineDead, EngineError, QueueFull
from llama_core.engine.prefix_cache import CacheScope
from llama_core.engine.request import Request, RequestStatus, Token, TokenAlternative

__all__ = [
    "BadRequest",
    "CacheScope",
    "Engine",
    "EngineDead",
    "EngineError",
    "QueueFull",
    "Request",
    "RequestStatus",
    "Token",
    "TokenAlternative",
]

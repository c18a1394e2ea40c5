"""What can go wrong with a request, told apart: the request itself, too many of them, an engine that no longer runs."""

from llama_core.errors import UserError


class EngineError(UserError):
    """A request that cannot be served, or an engine that no longer can; the message says which and what to do."""


class BadRequest(EngineError):
    """A prompt or parameters that this model and engine cannot serve; another request may be."""


class QueueFull(EngineError):
    """So many requests wait already that no more are taken; try again later."""


class EngineDead(EngineError):
    """The engine is closed or has failed; no request is served any more."""

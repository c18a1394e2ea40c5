"""What can go wrong with a request, told apart: the request itself, too many of them, an engine that no longer runs."""

from llama_core.errors import UserError


class EngineError(UserError):
    """A request that cannot be served, or an engine that no longer can; the message says which and what to do."""


class BadRequest(EngineError):
    """A prompt or parameters that this model and engine cannot serve; another request may be."""


class QueueFull(EngineError):
    """So many requests wait already that no more are taken; try again later."""


class NotFinite(EngineError):
    """The model computed NaN or infinity for this request; others may still be served."""

    @classmethod
    def at(cls, position: int) -> "NotFinite":
        """The error of a token at this position."""
        return cls(
            f"the model's scores for token {position} are not finite numbers; in float16 they may be too large: start "
            "the app with --dtype float32, or bfloat16 where the card has it. If it is so in float32, the checkpoint "
            "is damaged"
        )


class EngineDead(EngineError):
    """The engine is closed or has failed; no request is served any more."""

"""How a request is refused: below /v1 in OpenAI's form (platform.openai.com/docs/guides/error-codes), elsewhere with a
sentence."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Scope

PREFIX = "/v1"
KINDS = {401: "authentication_error", 429: "rate_limit_error"}


def is_api(scope: Scope) -> bool:
    """Whether a program asks, and not the page."""
    return f"{scope['path']}/".startswith(f"{PREFIX}/")


def error_body(words: str, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's form."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


def refusal(
    scope: Scope, words: str, status: int, code: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to a request that is refused for these reasons. Gradio's scripts show what stands in "detail"."""
    return JSONResponse(error_body(words, status, code) if is_api(scope) else {"detail": words}, status, headers)

"""Errors as OpenAI's clients expect them (platform.openai.com/docs/guides/error-codes)."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from llama_core.engine.errors import EngineDead, NotFinite, QueueFull
from llama_core.errors import UserError

PREFIX = "/v1"
RETRY_SECONDS = 5  # when the queue is full
KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A refusal with its HTTP status; `code` tells programs apart what `message` tells people. `retry_after` is in
    seconds."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param
        self.retry_after = RETRY_SECONDS if retry_after is None and status == 503 else retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def as_api_error(problem: UserError) -> ApiError:
    """What the engine, a template or a parameter refuses, with the status that programs act upon."""
    match problem:
        case QueueFull():
            return ApiError(str(problem), 503, "queue_full")
        case EngineDead():
            return ApiError(str(problem), 503, "engine_failed")
        case NotFinite():
            return ApiError(str(problem), 500, "not_finite")
        case _:
            return ApiError(str(problem))


def add_error_handlers(app: FastAPI) -> None:
    """Has the app answer in OpenAI's form to whatever goes wrong below `PREFIX`, and as before elsewhere."""

    async def of_api(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ApiError)
        request.state.notes["code"] = problem.code or str(problem.status)
        headers = None if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
        return JSONResponse(problem.body, problem.status, headers)

    async def of_user(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, UserError)
        return await of_api(request, as_api_error(problem))

    async def of_validation(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, RequestValidationError)
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return await of_api(request, ApiError(f"{place or 'body'}: {first['msg']}", param=place or None))

    async def of_http(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        if not request.url.path.startswith(PREFIX):
            return JSONResponse({"detail": problem.detail}, problem.status_code, problem.headers)
        return await of_api(request, ApiError(str(problem.detail), problem.status_code))

    app.add_exception_handler(ApiError, of_api)
    app.add_exception_handler(UserError, of_user)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)

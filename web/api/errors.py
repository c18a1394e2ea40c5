"""Errors as OpenAI's clients expect them."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from llama_core.engine.errors import EngineDead, NotFinite, QueueFull
from llama_core.errors import UserError
from web.limits import LimitReached
from web.refusals import PREFIX, error_body, is_api, refusal

RETRY_SECONDS = 5  # when the queue is full
UNEXPECTED = "an unexpected error, see the console of the server"


class Problem(BaseModel):
    """What is wrong: `message` for people, the others for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class Refusal(BaseModel):
    """The JSON of every answer that is no success."""

    error: Problem


# For the description of the API.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "What was asked cannot be done"},
    "5XX": {"model": Refusal, "description": "The server cannot answer now"},
}


class ApiError(HTTPException):
    """A refusal with its HTTP status; `code` tells programs apart what `detail` tells people. `retry_after` is in
    seconds."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(status, message)
        self.code, self.param = code, param
        self.retry_after = RETRY_SECONDS if retry_after is None and status == 503 else retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return error_body(self.detail, self.status_code, self.code, self.param)

    def __str__(self) -> str:
        return self.detail


def as_api_error(problem: UserError) -> ApiError:
    """What the engine, a template or a parameter refuses, with the status that programs act upon."""
    match problem:
        case QueueFull():
            return ApiError(str(problem), 503, "queue_full")
        case EngineDead():
            return ApiError(str(problem), 503, "engine_failed")
        case LimitReached():
            return ApiError(str(problem), 429, problem.code, retry_after=problem.retry_after)
        case NotFinite():
            return ApiError(str(problem), 500, "not_finite")
        case _:
            return ApiError(str(problem))


def invalid(found: Sequence[Any]) -> ApiError:
    """The first of the errors that pydantic `found` in a request, with its place."""
    first = found[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return ApiError(f"{place or 'body'}: {first['msg']}", param=place or None)


def add_error_handlers(app: FastAPI) -> None:
    """Has the app answer in OpenAI's form to whatever goes wrong below `PREFIX`, and as before elsewhere."""

    async def of_api(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ApiError)
        request.state.notes["code"] = problem.code or str(problem.status_code)
        headers = None if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
        return JSONResponse(problem.body, problem.status_code, headers)

    async def of_user(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, UserError)
        return await of_api(request, as_api_error(problem))

    async def of_validation(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, RequestValidationError)
        return await of_api(request, invalid(problem.errors()))

    async def of_http(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        if not is_api(request.scope):
            return refusal(request.scope, problem.detail, problem.status_code, headers=problem.headers)
        answer = await of_api(request, ApiError(str(problem.detail), problem.status_code))
        answer.headers.update(problem.headers or {})
        return answer

    async def of_unexpected(request: Request, problem: Exception) -> Response:
        # Whoever runs the server finds it in the console; strangers learn nothing of the inside.
        return JSONResponse(ApiError(UNEXPECTED, 500, "unexpected").body, 500)

    app.add_exception_handler(ApiError, of_api)
    app.add_exception_handler(UserError, of_user)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, of_unexpected)


def nothing_here(known: APIRouter) -> ASGIApp:
    """Refuses what is asked below `PREFIX` and is none of the `known` routes."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        asked = {**scope, "root_path": scope["app_root_path"]}  # this app itself is mounted at the prefix
        routes = [route for route in known.routes if isinstance(route, Route)]
        others = [route for route in routes if route.matches(asked)[0] is Match.PARTIAL]
        if others:
            allowed = ", ".join(sorted(set().union(*(route.methods or () for route in others))))
            raise HTTPException(405, f"{scope['method']} is not possible here; use {allowed}", {"Allow": allowed})
        raise HTTPException(404, f"there is nothing at {scope['path']}; see {PREFIX}/openapi.json")

    return refuse

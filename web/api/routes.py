"""The routes of the API: /v1/models, /v1/chat/completions, /v1/completions."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llama_core.checkpoint import Model
from web.access import api_keys, is_one_of
from web.api import prompts
from web.api.answers import Answer, finish_of
from web.api.clients import Clients
from web.api.errors import PREFIX, REFUSALS, ApiError
from web.api.run import Run
from web.api.schema import ChatRequest, CompletionRequest, Generation
from web.models.manager import ModelManager
from web.settings import Settings

# Proxies and the Hub's own would otherwise hold events back until the end.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
# For the description of the API: with `stream` the answer comes as events.
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

Prompts = Callable[[Any, Model, int], Sequence[prompts.Asked]]


def api_routes(manager: ModelManager, settings: Settings, clients: Clients) -> APIRouter:
    """The API over whatever `manager` serves at the time of a request."""
    keys = api_keys(settings)
    replies = Replies(manager, settings, bool(keys), clients)
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(_key_check(keys))], responses=REFUSALS)
    began = 0  # of /v1/models: when the model was made is not known

    def described(served_name: str) -> dict[str, Any]:
        return {"id": served_name, "object": "model", "created": began, "owned_by": "glass-llama"}

    @router.get("/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [described(manager.served.model.name)]}

    @router.get("/models/{name:path}")
    def model(name: str) -> dict[str, Any]:
        prompts.require_model(name, manager.served.model.name)
        return described(manager.served.model.name)

    @router.post("/chat/completions", response_model=None, responses=STREAMED)
    async def chat_completions(http: Request, asked: ChatRequest) -> Response | dict[str, Any]:
        return await replies.answer(http, asked, True, prompts.of_chat)

    @router.post("/completions", response_model=None, responses=STREAMED)
    async def completions(http: Request, asked: CompletionRequest) -> Response | dict[str, Any]:
        return await replies.answer(http, asked, False, prompts.of_completion)

    return router


class Replies:
    """Answers requests within the limits of the settings. With `has_keys` each key has its own, else each address."""

    def __init__(self, manager: ModelManager, settings: Settings, has_keys: bool, clients: Clients):
        self._manager, self._settings, self._has_keys, self._clients = manager, settings, has_keys, clients

    async def answer(self, http: Request, asked: Generation, is_chat: bool, make: Prompts) -> Any:
        """The JSON of an answer, or its stream. Raises `UserError`, `ApiError`."""
        served, settings, who = self._manager.served, self._settings, _client(http, self._has_keys)
        prompts.require_model(asked.model, served.model.name)
        prompts.within_limits(asked, settings)
        self._clients.limits.admit(who)
        with ExitStack() as ends:
            ends.enter_context(self._clients.limits.turn(who))
            context = settings.max_reply_tokens or served.engine.max_seq_len
            made = await asyncio.to_thread(make, asked, served.model, context)
            prompts.require_size(made, settings.max_prompt_tokens)
            run = Run(served, made, asked.n, _scope(http), Answer(is_chat, served.model.name))
            ends.callback(self._count, run, who, http)
            ends.callback(run.cancel)
            if not asked.stream:
                return await run.whole(http)
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return Stream(run.events(usage), ends.pop_all())

    def _count(self, run: Run, who: str, http: Request) -> None:
        usage = run.usage()
        self._clients.count(who, usage["total_tokens"], run.requests)
        first = min((one.time_to_first_token for one in run.requests if one.time_to_first_token), default=None)
        http.state.notes |= {
            "prompt_tokens": usage["prompt_tokens"],
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "first_token_seconds": None if first is None else round(first, 4),
            "finish": [finish_of(one.finish_reason) if one.finish_reason else "cancelled" for one in run.requests],
        }


class Stream(StreamingResponse):
    """Server-sent events. What is in `ends` is done at the end, also if the client left before the first event."""

    def __init__(self, events: AsyncIterator[str], ends: ExitStack):
        super().__init__(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        self._ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._ends:
            await super().__call__(scope, receive, send)


def _key_check(keys: Sequence[str]) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        # Headers are decoded as latin-1; a key may have other letters, in UTF-8.
        if keys and not is_one_of(_key(request).encode("latin-1").decode("utf-8", "surrogateescape"), keys):
            raise ApiError(
                "the API key is missing or wrong; send it as Authorization: Bearer KEY", 401, "invalid_api_key"
            )

    return check


def _key(request: Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _client(request: Request, has_keys: bool) -> str:
    """Whose limits count: those of a key, or else of an address, which cannot be made up."""
    if has_keys:
        return hashlib.sha256(_key(request).encode()).hexdigest()
    return request.client.host if request.client else ""


def _scope(request: Request) -> str:
    """Whose prompts are found again: those of who sent the same key, or else came from the same address."""
    return request.headers.get("Authorization") or (request.client.host if request.client else "")

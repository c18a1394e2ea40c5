"""The routes of the API: /v1/models, /v1/chat/completions, /v1/completions."""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from llama_core.checkpoint import Model
from web.api import prompts
from web.api.answers import Answer
from web.api.errors import PREFIX, ApiError
from web.api.run import Run
from web.api.schema import ChatRequest, CompletionRequest, Generation
from web.models.manager import ModelManager
from web.settings import Settings

# Proxies and the Hub's own would otherwise hold events back until the end.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Prompts = Callable[[Any, Model, int], Sequence[prompts.Asked]]


def api_routes(manager: ModelManager, settings: Settings) -> APIRouter:
    """The API over whatever `manager` serves at the time of a request."""
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(_key_check(settings.api_key))])
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

    async def answer(http: Request, asked: Generation, is_chat: bool, make: Prompts) -> Any:
        served = manager.served
        prompts.require_model(asked.model, served.model.name)
        made = await asyncio.to_thread(make, asked, served.model, served.engine.max_seq_len)
        run = Run(served, made, asked.n, _client(http), Answer(is_chat, served.model.name))
        if not asked.stream:
            return await run.whole(http)
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return StreamingResponse(run.events(usage), media_type="text/event-stream", headers=STREAM_HEADERS)

    @router.post("/chat/completions", response_model=None)
    async def chat_completions(http: Request, asked: ChatRequest) -> Response | dict[str, Any]:
        return await answer(http, asked, True, prompts.of_chat)

    @router.post("/completions", response_model=None)
    async def completions(http: Request, asked: CompletionRequest) -> Response | dict[str, Any]:
        return await answer(http, asked, False, prompts.of_completion)

    return router


def _key_check(key: str) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key and not hmac.compare_digest(given.encode("latin-1"), key.encode()):
            raise ApiError(
                "the API key is missing or wrong; send it as Authorization: Bearer KEY", 401, "invalid_api_key"
            )

    return check


def _client(request: Request) -> str:
    """Who asks: whoever has the key, or else an address."""
    return request.headers.get("Authorization") or (request.client.host if request.client else "")

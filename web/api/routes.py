"""The routes of the API: OpenAI's /v1/models, /v1/chat/completions and /v1/completions, and ours, /v1/replies and
/v1/tokens/alternatives."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from web.api import prompts
from web.api.doorkeeper import checked_route
from web.api.errors import REFUSALS
from web.api.replies import Replies
from web.api.schema import AlternativesRequest, ChatRequest, CompletionRequest, SamplingChange
from web.models.manager import ModelManager
from web.refusals import PREFIX

# For the description of the API: with `stream` the answer comes as events.
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


def api_routes(manager: ModelManager, replies: Replies, keys: Sequence[str]) -> APIRouter:
    """The API over whatever `manager` serves at the time of a request, for those who have one of the `keys`; without
    keys for everybody."""
    router = APIRouter(prefix=PREFIX, route_class=checked_route(keys), responses=REFUSALS)
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

    @router.patch("/replies/{reply_id}")
    async def change_reply(reply_id: str, change: SamplingChange) -> dict[str, Any]:
        return replies.change(reply_id, change)

    @router.post("/tokens/alternatives")
    async def alternatives(http: Request, asked: AlternativesRequest) -> dict[str, Any]:
        return await replies.alternatives(http, asked)

    return router

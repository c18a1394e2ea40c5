"""Answers to programs within their limits: what each request has in common from its arrival to its end."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llama_core.checkpoint import Model
from web.access import address_of, key_name
from web.api import prompts
from web.api.answers import Answer, finish_of
from web.api.clients import Clients
from web.api.errors import ApiError
from web.api.run import INTERVAL, Run
from web.api.schema import AlternativesRequest, ChatRequest, Generation, Sampled, SamplingChange
from web.beside import beside
from web.models.manager import ModelManager
from web.settings import Settings

# Proxies and the Hub's own would otherwise hold events back until the end.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Prompts = Callable[[Any, Model, int], Sequence[prompts.Asked]]


class Replies:
    """Answers requests within the limits of the settings. With `has_keys` each key has its own, else each address."""

    def __init__(self, manager: ModelManager, settings: Settings, has_keys: bool, clients: Clients):
        self._manager, self._settings, self._has_keys, self._clients = manager, settings, has_keys, clients
        self._running: dict[str, Run] = {}  # by the id that is known to whoever asked

    async def answer(self, http: Request, asked: Generation, is_chat: bool, make: Prompts) -> Any:
        """The JSON of an answer, or its stream. Raises `UserError`, `ApiError`."""
        with ExitStack() as ends:
            run = await self._begin(http, asked, is_chat, make, asked.n, ends)
            if not asked.stream:
                return await run.whole(http)
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return Stream(run.events(usage), ends.pop_all())

    async def texts(self, http: Request, asked: ChatRequest) -> AsyncIterator[str]:
        """The text of one reply so far, again and again as it grows. Raises `UserError`, `ApiError`."""
        with ExitStack() as ends:
            [choice] = (await self._begin(http, asked, True, prompts.of_chat, 1, ends)).choices
            text = ""
            async for batch in choice.reply.batches(INTERVAL):
                text += choice.take(batch)[0]
                yield text
            yield text + choice.rest()

    async def alternatives(self, http: Request, asked: AlternativesRequest) -> dict[str, Any]:
        """What could come next. Raises `UserError`, `ApiError`."""
        with ExitStack() as ends:
            run = await self._begin(http, asked, True, prompts.of_alternatives, 1, ends)
            return {"object": "token.alternatives", "model": run.served.model.name, **await run.next_token()}

    def change(self, reply_id: str, change: SamplingChange) -> dict[str, Any]:
        """How a reply is sampled from now on. Raises `ApiError` if it is not being written."""
        run = self._running.get(reply_id)
        if run is None:
            raise ApiError(f"no reply {reply_id[:100]!r} is being written", 404, "reply_not_found")
        return {"id": reply_id, "object": "reply", "sampling": run.sample(**change.model_dump(exclude_none=True))}

    async def _begin(
        self, http: Request, asked: Sampled, is_chat: bool, make: Prompts, count: int, ends: ExitStack
    ) -> Run:
        """The replies to a request within the limits; `ends` gets what has to be done at their end."""
        served, settings, who = self._manager.served, self._settings, _client(http, self._has_keys)
        prompts.require_model(asked.model, served.model.name)
        prompts.within_limits(asked, settings)
        prompts.require_room(asked, served.model.tokenizer, served.engine.max_seq_len)
        ends.enter_context(self._clients.limits.turn(who))
        context = settings.max_reply_tokens or served.engine.max_seq_len
        made = await beside(make, asked, served.model, context)
        prompts.require_size(made, settings.max_prompt_tokens)
        run = Run(served, made, count, _scope(http), Answer(is_chat, served.model.name))
        self._running[run.answer.id] = run
        ends.callback(self._running.pop, run.answer.id)
        ends.callback(self._count, run, who, http)
        ends.callback(run.cancel)
        return run

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


def _client(request: Request, has_keys: bool) -> str:
    """Whose limits count: those of a key, or else of an address, which cannot be made up."""
    return key_name(request) if has_keys else address_of(request.client)


def _scope(request: Request) -> str:
    """Whose prompts are found again: those of who sent the same key, or else came from the same address."""
    return key_name(request) or address_of(request.client)

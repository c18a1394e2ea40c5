"""Replies for one request of the API: submitted together, read together, cancelled together."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request as HttpRequest

from llama_core.engine.prefix_cache import CacheScope
from llama_core.engine.request import Request
from llama_core.engine.text import Reply, TextToken
from llama_core.errors import UserError
from llama_core.sampling.params import SamplingParams
from web.api.answers import Answer, Logprobs, finish_of, usage_of
from web.api.errors import ApiError, as_api_error
from web.api.prompts import Asked, seeded
from web.api.schema import SamplingChange
from web.api.tools import Call, CertainCall, ToolCallParser
from web.models.manager import Served

INTERVAL = 0.02  # seconds between two pieces of a stream
DISCONNECT_SECONDS = 0.5  # how often it is looked whether the client is still there
DONE = "data: [DONE]\n\n"


@dataclass
class Choice:
    """One reply: its place in the answer, what is told of it, and the request that writes it."""

    index: int
    asked: Asked
    params: SamplingParams
    request: Request
    reply: Reply
    logprobs: Logprobs | None
    parser: ToolCallParser | CertainCall | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def finish(self) -> str:
        """OpenAI's word for its end."""
        return finish_of(self.reply.finish_reason, bool(self.calls))

    def take(self, batch: Sequence[TextToken]) -> tuple[str, list[tuple[int, Call]]]:
        """The text of these tokens, and what is new of calls, each with its number among them."""
        tools = self.asked.tools
        if tools is None or self.parser is None:
            return "".join(text for _, text in batch), []
        text, parts = self.parser.push("".join(text or tools.markers.get(token.id, "") for token, text in batch))
        told = []
        for part in parts:
            if "id" not in part:
                self.calls[-1]["function"]["arguments"] += part["function"]["arguments"]
            elif tools.is_parallel or not self.calls:
                self.calls.append({**part, "function": {**part["function"]}})
            else:
                break
            told.append((len(self.calls) - 1, part))
        return text, told

    def rest(self) -> str:
        """At the end of the reply: text that might have become a call."""
        return self.parser.end() if self.parser else ""


class Run:
    """The replies to one HTTP request. Leaving it cancels what is not written yet."""

    def __init__(self, served: Served, asked: Sequence[Asked], count: int, client: str, answer: Answer):
        self.served, self.answer = served, answer
        self.choices: list[Choice] = []
        scope = CacheScope(hashlib.sha256(client.encode()).hexdigest())  # clients do not learn of each other's prompts
        try:
            for one in asked:
                for number in range(count):
                    self.choices.append(self._submit(one, number, scope))
        except UserError:
            self.cancel()
            raise

    def _submit(self, asked: Asked, number: int, scope: CacheScope) -> Choice:
        params, tokenizer = seeded(asked.params, number), self.served.model.tokenizer
        request = self.served.engine.submit(asked.ids, params, asked.begun, scope, asked.grammar)
        logprobs = None if params.logprobs is None else Logprobs(tokenizer, self.answer.is_chat, len(asked.echo))
        reply, parser = Reply(request, tokenizer, asked.begun), asked.tools.parser() if asked.tools else None
        return Choice(len(self.choices), asked, params, request, reply, logprobs, parser)

    def cancel(self) -> None:
        """End all replies that are not at their end."""
        for choice in self.choices:
            choice.request.cancel()

    def sample(self, **changes: Any) -> dict[str, Any]:
        """Draw the rest of all replies with these parameters; all of those that may be changed."""
        for choice in self.choices:
            choice.params = dataclasses.replace(choice.params, **changes)
            choice.request.update(choice.params)
        return {name: getattr(self.choices[0].params, name) for name in SamplingChange.model_fields}

    async def next_token(self) -> dict[str, Any]:
        """The only token of the only reply, and what could have come instead. Raises what iterating the request does,
        and `ApiError` where the engine ended before it."""
        [choice] = self.choices
        tokens = [token async for token in choice.request]
        if not tokens:
            raise ApiError("the engine was closed before it answered; start the app again", 503, "engine_failed")
        assert choice.logprobs is not None, "they were asked for"
        return choice.logprobs.alternatives(tokens[0]) | {"reply_ids": list(choice.asked.begun), "usage": self.usage()}

    @property
    def requests(self) -> list[Request]:
        """Those of the engine."""
        return [choice.request for choice in self.choices]

    def usage(self) -> dict[str, Any]:
        """Tokens read and written."""
        return usage_of(self.requests)

    async def whole(self, http: HttpRequest) -> dict[str, Any]:
        """The answer in one piece. Raises what `Reply.batches` does; stops writing when the client is gone."""
        reading = asyncio.gather(*(self._read(choice) for choice in self.choices))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=DISCONNECT_SECONDS)
                if await http.is_disconnected():
                    break
            choices = await reading if reading.done() else []
            return self.answer.whole(choices, self.usage())
        finally:
            self.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)  # else it would be logged as an error nobody read

    async def _read(self, choice: Choice) -> dict[str, Any]:
        pieces, shown = [choice.asked.echo], []
        async for batch in choice.reply.batches(INTERVAL):
            shown += self._said(batch)
            pieces.append(choice.take(batch)[0])
        pieces.append(choice.rest())
        logprobs = None if choice.logprobs is None else choice.logprobs.of(shown)
        return self.answer.choice(choice.index, "".join(pieces), choice.finish, logprobs, choice.calls)

    def _said(self, batch: Sequence[TextToken]) -> list[TextToken]:
        """Without the token that ends the reply, which is no part of it."""
        ends = self.served.model.config.eos_token_id
        return [shown for shown in batch if shown.text or shown.token.id not in ends]

    async def events(self, include_usage: bool) -> AsyncIterator[str]:
        """The answer as server-sent events, the pieces of all choices as they come. Errors are events too: the status
        is sent already."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=64)
        tasks = [asyncio.create_task(self._write(choice, queue)) for choice in self.choices]
        try:
            for _ in tasks:
                while (part := await queue.get()) is not None:
                    yield event(self.answer.chunk([part]) if "index" in part else part)
            if include_usage:
                yield event(self.answer.chunk([]) | {"usage": self.usage()})
            yield DONE
        finally:
            self.cancel()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, choice: Choice, queue: asyncio.Queue[dict[str, Any] | None]) -> None:
        try:
            for part in self._beginning(choice):
                await queue.put(part)
            async for batch in choice.reply.batches(INTERVAL):
                said = self._said(batch)
                logprobs = None if choice.logprobs is None else choice.logprobs.of(said)
                text, parts = choice.take(batch)
                if text or (logprobs is not None and said):
                    await queue.put(self.answer.part(choice.index, text, None, logprobs))
                for number, part in parts:
                    await queue.put(self.answer.call(choice.index, number, part))
            if rest := choice.rest():
                await queue.put(self.answer.part(choice.index, rest))
            await queue.put(self.answer.part(choice.index, "", choice.finish))
        except UserError as problem:
            await queue.put(as_api_error(problem).body)
        await queue.put(None)

    def _beginning(self, choice: Choice) -> Iterator[dict[str, Any]]:
        if self.answer.is_chat:
            yield self.answer.beginning(choice.index)
        elif choice.asked.echo:
            yield self.answer.part(choice.index, choice.asked.echo)


def event(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"

"""The replies being written: from a `PendingReply` to what the page shows next, view by view, until it ends."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from llama_core.engine.engine import EngineError
from llama_core.engine.text import Reply, TextToken
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import ChatError
from web.chat import status
from web.chat.actions import Controls, PendingReply, moved, prompt_for, sampling_params
from web.chat.conversation import Conversation, HistoryError, write_conversation
from web.chat.stream import Labels, Stream, record_of
from web.strings import TEXT

# First token at once, then one view per 45 ms: faster, and browsers fall behind. With many replies at once slower.
INTERVAL, INTERVAL_A_REPLY = 0.045, 0.005
PATIENCE = 0.3  # how often the place in line is looked up


@dataclass(frozen=True)
class PageUpdate:
    """What the page shows next. None leaves that part as it is."""

    chat: str | None = None
    stream: str | None = None
    status: str | None = None
    running: bool | None = None
    draft: str | None = None


@dataclass
class ReplyManager:
    """The replies being written, at most one a browser tab (`session`). `manager` has the `engine` and the `model`."""

    manager: Any
    running: dict[str, Any] = field(default_factory=dict)

    def stop(self, session: str) -> PageUpdate:
        """End the reply of this tab. Its stream then ends by itself, with what was written so far."""
        generation = self.running.get(session)
        if generation is None:
            return PageUpdate(running=False)
        generation.cancel()
        return PageUpdate()

    def abandon(self, session: str) -> None:
        """End the reply of this tab unseen: the conversation that it belongs to is about to change."""
        generation = self.running.pop(session, None)
        if generation is not None:
            generation.cancel()

    def update(self, session: str, controls: Controls) -> None:
        """The controls were moved: the reply of this tab goes on with them."""
        generation = self.running.get(session)
        if generation is not None:
            with contextlib.suppress(ValueError, EngineError):  # half-typed numbers
                params = sampling_params(controls)
                generation.update(dataclasses.replace(params, stop=generation.params.stop))

    async def respond(self, session: str, start: PendingReply, controls: Controls) -> AsyncIterator[PageUpdate]:
        """Stream the reply. Never raises: problems are shown in the conversation.

        Closing this generator (the tab was closed, another question came) frees the engine's slot.
        """
        conversation, stream, generation = start.conversation, None, None
        try:
            params = sampling_params(controls)
            engine, model = self.manager.engine, self.manager.model
            conversation, ids = self._prompt(start, params)
            stream = Stream(conversation, start.node)
            generation = self.running[session] = engine.submit(ids, params)
            yield PageUpdate(
                write_conversation(conversation), stream.text, status.waiting(generation, engine), True, start.draft
            )
            begun = conversation.nodes[start.node].records
            reply = Reply(generation, model.tokenizer, [record.id for record in begun])
            writer = Writer(generation, stream, Labels(model.tokenizer))
            async for batch in _batches(reply, max(INTERVAL, INTERVAL_A_REPLY * len(self.running))):
                if self.running.get(session) is not generation:
                    return
                writer.write(batch)
                yield PageUpdate(stream=stream.text if batch else None, status=self._status(generation))
            if self.running.get(session) is generation:
                yield self._ended(reply, stream)
        except (ChatError, EngineError, HistoryError, ValueError) as problem:
            yield _failed(conversation, start, stream, str(problem))
        except Exception as problem:
            logging.getLogger(__name__).exception("a reply failed")
            yield _failed(conversation, start, stream, TEXT["unexpected"].format(kind=type(problem).__name__))
        finally:
            if generation is not None:
                generation.cancel()
                if self.running.get(session) is generation:
                    del self.running[session]

    def _prompt(self, start: PendingReply, params: SamplingParams) -> tuple[Conversation, list[int]]:
        begun = len(start.conversation.nodes[start.node].records)
        prompt = prompt_for(
            start.conversation,
            start.node,
            begun,
            self.manager.model,
            self.manager.engine.max_seq_len,
            params.max_new_tokens,
        )
        return dataclasses.replace(start.conversation, context_start=prompt.context_start), prompt.ids

    def _status(self, generation: Any) -> str:
        if not generation.token_ids:
            return status.waiting(generation, self.manager.engine)
        return status.progress(generation, self.manager.engine.max_seq_len)

    def _ended(self, reply: Reply, stream: Stream) -> PageUpdate:
        generation, context = reply.request, self.manager.engine.max_seq_len
        finish, words = status.reason(generation.finish_reason or "error", generation, context)
        if reply.stopped:
            finish, words = "cut", TEXT["cut_reason"]
        facts = " · ".join(part for part in (*status.facts(generation), words) if part)
        stream.end(finish=finish, facts=facts, drop=finish == "cancelled" and not generation.token_ids)
        used = generation.prompt_tokens + len(generation.token_ids)
        return PageUpdate(stream=stream.text, status=status.line(words) + status.gauge(used, context), running=False)


class Writer:
    """Puts the tokens of a reply into its stream, with marks where the controls were moved."""

    def __init__(self, request: Any, stream: Stream, labels: Labels):
        self._request, self._stream, self._labels = request, stream, labels
        self._params, self._changes = request.params, 0

    def write(self, batch: list[TextToken]) -> None:
        """The next tokens."""
        for token, text in batch:
            self._mark()
            self._stream.add(record_of(token, text, self._labels))

    def _mark(self) -> None:
        for place, params in self._request.changes[self._changes :]:
            if place > self._stream.count:
                break
            self._stream.mark(moved(self._params, params))
            self._params, self._changes = params, self._changes + 1


def _failed(conversation: Conversation, start: PendingReply, stream: Stream | None, problem: str) -> PageUpdate:
    """The problem stands where the reply would, or below what there is of it."""
    stream = stream or Stream(conversation, start.node)
    stream.end(finish="error", problem=problem)
    return PageUpdate(
        write_conversation(conversation), stream.text, status.line(TEXT["error_reason"]), False, start.draft
    )


async def _batches(reply: Reply, interval: float) -> AsyncIterator[list[TextToken]]:
    """The reply's batches, and an empty one now and then while none comes."""
    batches = reply.batches(interval)
    try:
        while True:
            coming = asyncio.ensure_future(anext(batches))
            try:
                while not (await asyncio.wait({coming}, timeout=PATIENCE))[0]:
                    yield []
                yield coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()
    finally:
        await batches.aclose()

"""The replies being written: from a `Start` to what the page shows next, view by view, until it ends."""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from llama_core.chat import ChatError
from llama_core.engine import EngineError
from llama_core.sampling import SamplingParams
from web import status
from web.conversation import Conversation, HistoryError, write_conversation
from web.handlers import Controls, Start, moved, prompt_for, sampling_params
from web.stream import Labels, Stream, record_of
from web.strings import TEXT

# First token at once, then one view per 45 ms: faster, and browsers fall behind. With many replies at once slower.
INTERVAL, INTERVAL_A_REPLY = 0.045, 0.005
PATIENCE = 0.3  # how often the place in line is looked up


@dataclass(frozen=True)
class View:
    """What the page shows next. None leaves that part as it is."""

    chat: str | None = None
    stream: str | None = None
    status: str | None = None
    running: bool | None = None
    draft: str | None = None


@dataclass
class Live:
    """A reply under way: its `Generation`, and what was moved meanwhile (after how many tokens, in words)."""

    generation: Any
    moves: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Desk:
    """The replies being written, at most one a browser tab (`session`). `host` has the `engine` and the `model`."""

    host: Any
    running: dict[str, Live | None] = field(default_factory=dict)

    def stop(self, session: str) -> View:
        """End the reply of this tab. Its stream then ends by itself, with what was written so far."""
        live = self.running.get(session)
        if live is None:
            return View(running=False)
        live.generation.cancel()
        return View()

    def abandon(self, session: str) -> None:
        """End the reply of this tab unseen: the conversation that it belongs to is about to change."""
        live = self.running.pop(session, None)
        if live is not None:
            live.generation.cancel()

    def update(self, session: str, controls: Controls) -> None:
        """The controls were moved: the reply of this tab goes on with them."""
        live = self.running.get(session)
        if live is None:
            return
        try:
            wanted = sampling_params(controls)
        except ValueError:  # half-typed numbers
            return
        wanted = dataclasses.replace(wanted, seed=live.generation.params.seed)
        words = moved(live.generation.params, wanted)
        if words:
            live.moves.append((len(live.generation.tokens), words))
            live.generation.update(wanted)

    async def respond(self, session: str, start: Start, controls: Controls) -> AsyncIterator[View]:
        """Stream the reply. Never raises: problems are shown in the conversation.

        Closing this generator (the tab was closed, another question came) frees the engine's slot.
        """
        conversation, stream, live = start.conversation, None, None
        try:
            params = sampling_params(controls)
            engine, model = self.host.engine, self.host.model
            conversation, ids = self._prompt(start, params)
            stream = Stream(conversation, start.node)
            live = self.running[session] = Live(engine.submit(ids, params))
            yield View(write_conversation(conversation), stream.text, status.waiting(live.generation), running=True,
                       draft=start.draft)
            async for view in self._write(session, live, stream, conversation.nodes[start.node].records, model):
                yield view
            if self.running.get(session) is live:
                yield self._ended(live, stream)
        except (ChatError, EngineError, HistoryError, ValueError) as problem:
            yield _failed(conversation, start, stream, str(problem))
        except Exception as problem:
            logging.getLogger(__name__).exception("a reply failed")
            yield _failed(conversation, start, stream, TEXT["unexpected"].format(kind=type(problem).__name__))
        finally:
            if live is not None:
                live.generation.cancel()
                if self.running.get(session) is live:
                    del self.running[session]

    def _prompt(self, start: Start, params: SamplingParams) -> tuple[Conversation, list[int]]:
        begun = len(start.conversation.nodes[start.node].records)
        prompt = prompt_for(start.conversation, start.node, begun, self.host.model, self.host.engine.max_seq_len,
                            params.max_new_tokens)
        return dataclasses.replace(start.conversation, told_from=prompt.told_from), prompt.ids

    async def _write(self, session: str, live: Live, stream: Stream, begun: tuple, model: Any) -> AsyncIterator[View]:
        decoder, labels = model.tokenizer.stream(), Labels(model.tokenizer)
        for record in begun:
            decoder.push(record.id)
        async for batch in _batches(live.generation, max(INTERVAL, INTERVAL_A_REPLY * len(self.running))):
            if self.running.get(session) is not live:
                return
            for token in batch:
                while live.moves and live.moves[0][0] <= stream.count:
                    stream.mark(live.moves.pop(0)[1])
                stream.add(record_of(token, decoder.push(token.id), labels))
            yield View(stream=stream.text, status=self._status(live)) if batch else View(status=self._status(live))

    def _status(self, live: Live) -> str:
        if not live.generation.tokens:
            return status.waiting(live.generation)
        return status.progress(live.generation, self.host.engine.max_seq_len)

    def _ended(self, live: Live, stream: Stream) -> View:
        generation, context = live.generation, self.host.engine.max_seq_len
        finish, words = status.reason(generation.finish_reason or "error", generation, context)
        facts = " · ".join(part for part in (*status.facts(generation), words) if part)
        stream.end(finish=finish, facts=facts, drop=finish == "cancelled" and not generation.tokens)
        used = generation.prompt_tokens + len(generation.tokens)
        return View(stream=stream.text, status=status.line(words) + status.gauge(used, context), running=False)


def _failed(conversation: Conversation, start: Start, stream: Stream | None, problem: str) -> View:
    """The problem stands where the reply would, or below what there is of it."""
    stream = stream or Stream(conversation, start.node)
    stream.end(finish="error", problem=problem)
    return View(write_conversation(conversation), stream.text, status.line(TEXT["error_reason"]), False, start.draft)


async def _batches(generation: Any, interval: float) -> AsyncIterator[list]:
    """The generation's batches, and an empty one now and then while none comes."""
    batches = generation.batches(interval)
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



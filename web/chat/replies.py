"""The replies that are being written: from a `PendingReply` to what the page shows next, update by update."""

import asyncio
import contextlib
import dataclasses
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from llama_core.engine import Engine
from llama_core.engine.request import Request
from llama_core.engine.text import Reply, TextToken
from llama_core.errors import UserError
from llama_core.sampling.params import SamplingParams
from web.beside import beside
from web.chat import status
from web.chat.actions import Controls, KnobError, PendingReply, moved, sampling_params, stop_at_markers
from web.chat.codec import dump, write_conversation
from web.chat.conversation import Conversation, Record
from web.chat.prompt import Prompt, prompt_for
from web.chat.stream import Labels, Stream, record_of
from web.models.manager import Served
from web.strings import TEXT

# The first token at once, then one update per 45 ms: browsers fall behind if they come faster. Slower while many
# replies are written.
INTERVAL, INTERVAL_PER_REPLY = 0.045, 0.005
POLL_SECONDS = 0.3  # how often the place in the queue is looked up
SIDES = ("", "left", "right")  # a reply by itself, and two that are written side by side

Count = Callable[[Request], None]


@dataclass(frozen=True)
class PageUpdate:
    """What the page shows next. None leaves that part as it is. `chat` has the messages that are new, or why there are
    none."""

    chat: str | None = None
    stream: str | None = None
    status: str | None = None
    plot: str | None = None
    lens: str | None = None


@dataclass
class Starting:
    """A reply whose prompt is being made. `is_warm`: it need not wait for programs to be compiled; `is_stopped`: Stop
    was pressed meanwhile."""

    is_warm: bool
    is_stopped: bool = False


class ReplyManager:
    """The replies that are being started or written, each at its `seat`. A conversation in a browser tab has one, or
    two for replies side by side; one may ask in another conversation meanwhile."""

    def __init__(self) -> None:
        self.starting: dict[str, Starting] = {}
        self.running: dict[str, Request] = {}
        self._lock = threading.Lock()  # replies are streamed on the event loop and stopped in worker threads

    def is_busy(self, seat: str) -> bool:
        """Whether a reply is being started or written there."""
        return seat in self.running or seat in self.starting

    def of_tab(self, session: str) -> list[str]:
        """The seats of a tab at which a reply is being started or written."""
        return [seat for seat in (*self.starting, *self.running) if seat.startswith(f"{session}/")]

    def stop(self, seat: str) -> None:
        """End the reply. Its stream then ends by itself, with what was written so far."""
        request, starting = self.running.get(seat), self.starting.get(seat)
        if request is not None:
            request.cancel()
        elif starting is not None:
            starting.is_stopped = True

    def abandon(self, seat: str) -> None:
        """Cancel the reply without showing its end: its conversation is about to change."""
        with self._lock:
            self.starting.pop(seat, None)
            request = self.running.pop(seat, None)
        if request is not None:
            request.cancel()

    def update(self, seat: str, controls: Controls) -> None:
        """The controls were moved: the reply goes on with them."""
        request = self.running.get(seat)
        if request is not None:
            with contextlib.suppress(UserError):  # half-typed numbers
                params = sampling_params(controls)
                ends = {name: getattr(request.params, name) for name in ("stop", "stop_token_ids")}
                request.update(dataclasses.replace(params, **ends))

    async def respond(
        self, seat: str, pending: PendingReply, controls: Controls, served: Served, count: Count = lambda request: None
    ) -> AsyncGenerator[PageUpdate, None]:
        """Stream the reply, and `count` it at its end. Never raises: a problem stands below what was written, and if
        that is nothing, the page is told why and keeps the question in its box.

        The reply keeps the engine and model that it began with. Closing this generator (the tab was closed, another
        question came) frees the engine's slot.
        """
        conversation, stream, request = pending.conversation, None, None
        starting = self.starting[seat] = Starting(served.engine.ready)
        try:
            params = stop_at_markers(sampling_params(controls), served.model.tokenizer)
            conversation, prompt, written = await beside(_prompt, pending, params, served)
            if not self._is_started(seat, starting):
                return  # abandoned
            request = self.running[seat] = served.engine.submit(
                prompt.ids[: prompt.prompt_tokens], params, prompt.ids[prompt.prompt_tokens :], prompt.cache_scope
            )
            stream = Stream(conversation, pending.node)
            if starting.is_stopped:
                request.cancel()
            yield PageUpdate(written, stream.text, status.waiting(request, served.engine))
            begun = conversation.nodes[pending.node].records
            writing = self._write(seat, request, begun, stream, served, starting.is_warm)
            async with contextlib.aclosing(writing) as updates:
                async for update in updates:
                    yield update
        except UserError as problem:
            yield _failed(conversation, stream, problem)
        except Exception as problem:
            logging.getLogger(__name__).exception("a reply failed")
            words = UserError(TEXT["unexpected"].format(kind=type(problem).__name__))
            yield _failed(conversation, stream, words)
        finally:
            self._is_started(seat, starting)
            if request is not None:
                request.cancel()
                self._forget(seat, request)
                count(request)

    async def _write(
        self, seat: str, request: Request, begun: Sequence[Record], stream: Stream, served: Served, is_warm: bool
    ) -> AsyncGenerator[PageUpdate, None]:
        model = served.model
        reply = Reply(request, model.tokenizer, [record.id for record in begun], is_start=model.chat.has_template)
        writer = Writer(request, stream, Labels(model.tokenizer))
        interval = max(INTERVAL, INTERVAL_PER_REPLY * len(self.running))
        async with contextlib.aclosing(_batches(reply, interval)) as batches:
            async for batch in batches:
                if self.running.get(seat) is not request:
                    return  # abandoned
                writer.write(batch)
                said = _status(request, served.engine, is_warm)
                yield PageUpdate(stream=stream.text if batch else None, status=said)
        if self.running.get(seat) is request:
            yield _ended(request, reply.stopped, stream, served.engine.max_seq_len, is_warm)

    def _is_started(self, seat: str, starting: Starting) -> bool:
        """The prompt is made; false if the reply was abandoned meanwhile."""
        with self._lock:
            if self.starting.get(seat) is not starting:
                return False
            del self.starting[seat]
            return True

    def _forget(self, seat: str, request: Request) -> None:
        with self._lock:
            if self.running.get(seat) is request:
                del self.running[seat]


def seat_of(session: str, chat: str, side: str = "") -> str:
    """Where the replies of a conversation are written in a browser tab; `side` is one of `SIDES`."""
    return f"{session}/{chat}/{side}"


class Writer:
    """Puts the tokens of a reply into its stream, with marks where the controls were moved."""

    def __init__(self, request: Request, stream: Stream, labels: Labels):
        self._request, self._stream, self._labels = request, stream, labels
        self._params, self._changes = request.params, 0

    def write(self, batch: list[TextToken]) -> None:
        """The next tokens."""
        for token, text in batch:
            self._mark()
            self._stream.add(record_of(token, text, self._labels))

    def _mark(self) -> None:
        for index, params in self._request.changes[self._changes :]:
            if index > self._stream.count:
                break
            self._stream.mark(moved(self._params, params))
            self._params, self._changes = params, self._changes + 1


def _prompt(pending: PendingReply, params: SamplingParams, served: Served) -> tuple[Conversation, Prompt, str]:
    """The prompt, the conversation as it then is, and what of it is new to the page."""
    conversation, node = pending.conversation, pending.node
    begun, context = len(conversation.nodes[node].records), served.engine.max_seq_len
    prompt = prompt_for(conversation, node, begun, served.model, context, params.max_new_tokens)
    conversation = dataclasses.replace(conversation, context_start=prompt.context_start)
    return conversation, prompt, write_conversation(conversation, pending.first)


def _status(request: Request, engine: Engine, is_warm: bool) -> str:
    if request.token_ids:
        return status.progress(request, engine.max_seq_len, is_warm)
    return status.waiting(request, engine)


def _ended(request: Request, at_stop_sequence: bool, stream: Stream, context: int, is_warm: bool) -> PageUpdate:
    finish, words = status.reason(request.finish_reason or "error", request, context)
    if at_stop_sequence:
        finish, words = "cut", TEXT["cut_reason"]
    facts = " · ".join(part for part in (*status.facts(request, is_warm), words) if part)
    is_empty = finish == "cancelled" and not request.token_ids
    stream.end(finish=finish, facts=facts, seed=str(request.params.seed), drop=is_empty)
    used = request.prompt_tokens + len(request.token_ids)
    return PageUpdate(stream=stream.text, status=status.line(words) + status.gauge(used, context))


def _failed(conversation: Conversation, stream: Stream | None, problem: UserError) -> PageUpdate:
    """The problem stands below what there is of the reply; without a stream nothing has begun."""
    if stream is None:
        return refused(conversation.request, problem)
    stream.end(finish="error", problem=status.without_paths(str(problem)))
    return PageUpdate(stream=stream.text, status=status.line(TEXT["error_reason"]))


def refused(request: int, problem: UserError) -> PageUpdate:
    """Why the page's request of that number (0: the one that cannot be read) is not followed: nothing has changed.
    `field` is the control that has to be corrected, if it is one."""
    answer = {"request": request, "problem": status.sentence(status.without_paths(str(problem)))}
    if isinstance(problem, KnobError):
        answer["field"] = problem.field
    return PageUpdate(chat=dump(answer))


async def _batches(reply: Reply, interval: float) -> AsyncGenerator[list[TextToken], None]:
    """The reply's batches, and an empty one every `POLL_SECONDS` while none comes."""
    batches = reply.batches(interval)
    assert isinstance(batches, AsyncGenerator)
    try:
        while True:
            coming = asyncio.ensure_future(anext(batches))
            try:
                while not (await asyncio.wait({coming}, timeout=POLL_SECONDS))[0]:
                    yield []
                yield coming.result()
            except StopAsyncIteration:
                return
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})  # a generator that still runs cannot be closed
    finally:
        await batches.aclose()

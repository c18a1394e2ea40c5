"""One request, one object: what was asked, how far it is, and its tokens as they come. The engine's thread moves it on;
any other thread or event loop can read it meanwhile."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from jaxtyping import Float32

from llama_core.engine.device_work import DeviceResult, PrefillChunk
from llama_core.engine.prefix_cache import EVERYBODY, CacheScope, Slot
from llama_core.engine.records import Records
from llama_core.runtime.arrays import AnyArray
from llama_core.sampling.constraint import Constraint
from llama_core.sampling.params import SamplingParams

# A prompt with at most this many new tokens does not wait behind a longer one and is prefilled a whole chunk per turn:
# the others' words come late once or twice, its own first word much sooner (eight chats at once: 94 → 121 tokens/s).
SHORT_PROMPT = 64


class RequestStatus(Enum):
    """Where a request is in its life; it only moves forward."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    FINISHED = "finished"


@dataclass(frozen=True)
class TokenAlternative:
    """A token that could have come. Natural logarithms of its probability: as the model gave it, and after penalties,
    temperature and cuts (-inf: cut away)."""

    id: int
    logprob: float
    final_logprob: float


@dataclass(frozen=True)
class Token:
    """One generated token. If `SamplingParams.logprobs` asked for them: its own log-probabilities, and the likeliest
    alternatives (itself among them if it was one), the likeliest first."""

    id: int
    logprob: float | None = None
    final_logprob: float | None = None
    top: tuple[TokenAlternative, ...] = ()


class Request:
    """A reply under way, from `Engine.submit`. Iterate it (`for` or `async for`) to get each `Token` as it is chosen,
    the end-of-text token included; every iteration starts at the first token.

    The last `begun_tokens` of the prompt are the beginning of the reply itself; `cached_tokens` of it were found in the
    prefix cache, where `cache_scope` says who may find it. A `constraint` follows the reply's grammar. `queue_position`
    is the place in the queue, from 1; None once a slot is found. `changes` lists, for each `update`, the number of
    tokens before it took effect and the new parameters. Iteration raises `error` when `finish_reason` is "error"; the
    others are "stop", "length", "cancelled", "time_limit" and "shutdown", None before.

    The second half of the attributes is the scheduler's: `slot`, how many tokens of the prompt are `prefilled` or on
    their way, how many tokens the reply may have (`max_tokens`) and how many at most were `dispatched`, and the `chunk`
    of the prompt that is between two groups of layers.
    """

    def __init__(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        wake_engine: Callable[[], None],
        check_params: Callable[[SamplingParams], None] = lambda params: None,
        begun_tokens: int = 0,
        keeps_logits: bool = False,
        cache_scope: CacheScope = EVERYBODY,
        constraint: Constraint | None = None,
    ):
        self.prompt_ids = prompt_ids
        self.begun_tokens, self.cache_scope, self.constraint = begun_tokens, cache_scope, constraint
        self.params = params
        self.status = RequestStatus.WAITING
        self.finish_reason: str | None = None
        self.error: Exception | None = None
        self.cancel_requested = False
        self.cached_tokens = 0
        self.queue_position: int | None = None
        self.changes: list[tuple[int, SamplingParams]] = []
        self.keeps_logits = keeps_logits
        self.logits: Float32[np.ndarray, "V"] | None = None
        self.token_ids: list[int] = []
        self.submitted = time.perf_counter()

        self.slot: Slot | None = None
        self.prefilled = 0
        self.max_tokens = 0
        self.dispatched = 0
        self.chunk: PrefillChunk | None = None

        self._records: list[Records] = []
        self._tokens: list[Token] = []
        self._new_params: SamplingParams | None = None
        self._wake_engine, self._check_params = wake_engine, check_params
        self._changed = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()
        self._first: float | None = None
        self._latest: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.prompt_ids)

    @property
    def is_short(self) -> bool:
        """Whether there is little of the prompt to prefill."""
        return self.prompt_tokens - self.cached_tokens <= SHORT_PROMPT

    @property
    def remaining(self) -> int:
        """How many tokens of the reply may still be dispatched; none before the prompt is prefilled."""
        return self.max_tokens - self.dispatched if self.status is RequestStatus.DECODING else 0

    @property
    def dispatchable(self) -> int:
        """How many of them may be dispatched now: of a constrained reply one, once its mask was sent."""
        return self.remaining if self.constraint is None else min(self.remaining, int(self.constraint.is_sent))

    @property
    def tokens(self) -> Sequence[Token]:
        """The tokens so far. They are made from the device's records when somebody looks."""
        with self._changed:
            for records in self._records:
                self._tokens += [self._token(records, step) for step in range(len(records.rows))]
            self._records.clear()
            return self._tokens

    def _token(self, records: Records, step: int) -> Token:
        token_id, count = int(records.rows[step, 1]), self.params.logprobs
        if count is None:
            return Token(token_id)
        top = tuple(TokenAlternative(*row) for row in records.alternatives(step, count))
        return Token(token_id, *records.logprobs(step), top)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from submission to the first token, waiting included; None before it."""
        return None if self._first is None else self._first - self.submitted

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token; None until there are two."""
        count = len(self.token_ids)
        if count < 2 or self._first is None or self._latest is None or self._latest == self._first:
            return None
        return (count - 1) / (self._latest - self._first)

    def add_dispatched(self, steps: int) -> None:
        """The engine dispatched a block of so many steps, of which a constrained reply takes the first."""
        if self.constraint is None:
            self.dispatched += steps
        else:
            self.dispatched, self.constraint.is_sent = self.dispatched + 1, False

    def cancel(self) -> None:
        """Ask for an early end; the engine frees the slot before its next step. Safe from any thread, and twice."""
        self.cancel_requested = True
        self._wake_engine()

    def update(self, params: SamplingParams) -> None:
        """Sample the rest of this reply, from the next block on, in another way. Seed and `logprobs` stay as they were;
        stop sequences are the reader's. Raises `BadRequest` for parameters that the model cannot serve."""
        params = replace(params, seed=self.params.seed, logprobs=self.params.logprobs)
        self._check_params(params)
        with self._changed:
            self._new_params = params
        self._wake_engine()

    def take_update(self, tokens_before: int) -> bool:
        """The engine lets the newest update take effect; whether there was one."""
        with self._changed:
            new, self._new_params = self._new_params, None
        if new is None or new == self.params:
            return False
        self.params = new
        self.changes.append((tokens_before, new))
        return True

    def add(self, records: Records) -> None:
        """The engine generated these tokens."""
        self._latest = time.perf_counter()
        if self._first is None:
            self._first = self._latest
        with self._changed:
            self.token_ids += records.token_ids
            self._records.append(records)
            self._notify()

    def finish(self, reason: str, error: Exception | None = None) -> None:
        """The engine ends the reply. Only the first reason counts."""
        with self._changed:
            if self.status is not RequestStatus.FINISHED:
                self.status, self.queue_position = RequestStatus.FINISHED, None
                self.error, self.finish_reason = error, reason
                self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            with contextlib.suppress(RuntimeError):  # the reader's event loop was closed meanwhile
                listener()

    def __iter__(self) -> Iterator[Token]:
        count = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self.token_ids) > count or self.finish_reason is not None)  # noqa: B023
            new = self.tokens[count:]
            if not new:
                break
            yield from new
            count += len(new)
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[Token]:
        async for batch in self.batches():
            for token in batch:
                yield token

    async def batches(self, interval: float = 0.0) -> AsyncIterator[list[Token]]:
        """Whatever tokens have come: the first as soon as there is one, then what came meanwhile, at least `interval`
        seconds apart."""
        loop, changed, count, latest = asyncio.get_running_loop(), asyncio.Event(), 0, -math.inf

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._listeners.add(listener)
        try:
            while True:
                changed.clear()
                ended = self.finish_reason is not None  # before looking for tokens: none comes after it
                early = latest + interval - loop.time()
                if len(self.token_ids) == count:
                    if ended:
                        break
                    await changed.wait()
                elif early > 0 and not ended:
                    await asyncio.sleep(early)
                else:
                    batch = list(self.tokens[count:])
                    count += len(batch)
                    yield batch
                    latest = loop.time()
                    await asyncio.sleep(0)
        finally:
            with self._changed:
                self._listeners.discard(listener)
        if self.error is not None:
            raise self.error


@dataclass
class PendingWork:
    """Dispatched and not read yet: a chunk's next groups of layers, or a block of decoded tokens. `requests` are those
    that it gives tokens to, by slot."""

    result: DeviceResult
    requests: dict[int, Request]
    size: int = 0
    groups: int = 0
    steps: int = 0
    logits: AnyArray | None = None


def slot_of(request: Request) -> Slot:
    """The slot of a request that was admitted."""
    assert request.slot is not None, "a request has a slot from its admission on"
    return request.slot

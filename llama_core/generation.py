"""One reply while it is written: what the engine's thread adds, any other thread or event loop can read as it comes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from llama_core.sampling import SamplingParams


@dataclass(frozen=True)
class Token:
    """One generated token."""

    id: int


class Generation:
    """A reply under way, from `Engine.submit`. Iterate it (`for` or `async for`) to get each `Token` as it is chosen,
    the end-of-text token included; every iteration starts at the first token.

    Iteration raises `error` when `finish_reason` is "error".
    """

    def __init__(self, prompt_ids: list[int], params: SamplingParams, wake_engine: Callable[[], None]):
        self.prompt_ids = prompt_ids
        self.params = params
        self.tokens: list[Token] = []
        self.finish_reason: str | None = None
        self.error: Exception | None = None
        self.cancel_requested = False
        self._wake_engine = wake_engine
        self._changed = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()
        self.submitted = time.perf_counter()
        self._first: float | None = None
        self._latest: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.prompt_ids)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from submission to the first token, waiting in line included; None before it."""
        return None if self._first is None else self._first - self.submitted

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token; None until there are two."""
        count = len(self.tokens)
        return None if count < 2 or self._latest == self._first else (count - 1) / (self._latest - self._first)

    def cancel(self) -> None:
        """Ask for an early end; the engine frees the slot before its next step. Safe from any thread, and twice."""
        self.cancel_requested = True
        self._wake_engine()

    def add(self, token_id: int) -> None:
        """The engine chose a token."""
        self._latest = time.perf_counter()
        if self._first is None:
            self._first = self._latest
        with self._changed:
            self.tokens.append(Token(token_id))
            self._notify()

    def finish(self, reason: str, error: Exception | None = None) -> None:
        """The engine ends the reply: "stop", "length", "cancelled" or "error". Only the first reason counts."""
        with self._changed:
            if self.finish_reason is None:
                self.error, self.finish_reason = error, reason
                self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def __iter__(self) -> Iterator[Token]:
        count = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self.tokens) > count or self.finish_reason is not None)  # noqa: B023
            if count == len(self.tokens):
                break
            yield self.tokens[count]
            count += 1
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[Token]:
        async for batch in self.batches():
            for token in batch:
                yield token

    async def batches(self, interval: float = 0.0) -> AsyncIterator[list[Token]]:
        """Whatever tokens have come: the first as soon as there is one, then what came meanwhile, at least `interval`
        seconds apart."""
        loop, changed, count = asyncio.get_running_loop(), asyncio.Event(), 0

        def listener():
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._listeners.add(listener)
        try:
            while True:
                changed.clear()
                ended = self.finish_reason is not None  # before looking for tokens: none comes after it
                batch = self.tokens[count:]
                if batch:
                    count += len(batch)
                    yield batch
                    await asyncio.sleep(0 if ended else interval)
                elif ended:
                    break
                else:
                    await changed.wait()
        finally:
            with self._changed:
                self._listeners.discard(listener)
        if self.error is not None:
            raise self.error

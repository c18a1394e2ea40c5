"""Who runs when: requests wait in line for a slot, are read chunk by chunk, then decode side by side, a token a turn.

One thread owns the device. Each turn it dispatches the next programs before it reads the tokens of the last turn, so
that the device never waits for Python. The engine knows token ids, never text.
"""

import dataclasses
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from llama_core.generation import Generation
from llama_core.programs import compile_programs, split_prompt
from llama_core.sampling import SamplingParams

STATS_SECONDS = 5.0


class EngineError(RuntimeError):
    """A request that cannot be served, or an engine that no longer can; the message says which and what to do."""


@dataclasses.dataclass(frozen=True)
class EngineStats:
    """What the engine is doing now. `tokens_per_second` is of all chats together over the last seconds."""

    slots: int
    busy: int
    queued: int
    requests: int
    tokens_in: int
    tokens_out: int
    tokens_per_second: float


@dataclasses.dataclass
class Running:
    """A generation in a slot: what of its prompt is still to be read, and how many tokens have been dispatched."""

    generation: Generation
    chunks: deque[int]
    limit: int
    start: int = 0
    dispatched: int = 0

    @property
    def position(self) -> int:
        """Where the newest dispatched token stands."""
        return self.start + self.dispatched - 1

    @property
    def wants_decode(self) -> bool:
        """Whether the prompt is read and tokens are still to come."""
        return not self.chunks and self.dispatched < self.limit


class Engine:
    """Serves many generations at once from one model. A context manager: leaving it ends the thread.

    `max_seq_len` (prompt and reply together, in tokens) is lowered to what the model was made for. `progress(done,
    total)` reports the programs compiled; `compile` makes them.

    Raises `EngineError` for impossible sizes.
    """

    def __init__(
        self, model: Any, slots: int = 4, max_seq_len: int = 2048, progress: Callable[[int, int], None] | None = None,
        compile: Callable = compile_programs,
    ):
        if slots < 1 or max_seq_len < 2:
            raise EngineError(f"slots is {slots} and max_seq_len {max_seq_len}; expected at least 1 slot and 2 tokens")
        self.max_seq_len = min(max_seq_len, model.config.max_position_embeddings)
        self._vocab_size, self._eos_ids = model.config.vocab_size, frozenset(model.config.eos_token_id)
        self._programs = compile(model.params, model.config, slots, self.max_seq_len, progress)
        self._slots: list[Running | None] = [None] * slots
        self._queue: deque[Generation] = deque()
        self._unread: list[tuple[Running, Any, int]] = []
        self._lock = threading.Condition()
        self._closed = False
        self._failure: EngineError | None = None
        self._requests = self._tokens_in = self._tokens_out = 0
        self._recent: deque[float] = deque()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()

    @property
    def slots(self) -> int:
        """S: how many generations run at the same time."""
        return len(self._slots)

    @property
    def device(self) -> str:
        """The device in words, such as "CPU, 2 cores"."""
        device = jax.devices()[0]
        return f"CPU, {_cpu_cores()} cores" if device.platform == "cpu" else device.device_kind

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return not self._closed and self._failure is None

    def stats(self) -> EngineStats:
        """What the engine is doing now."""
        with self._lock:
            since = time.perf_counter() - STATS_SECONDS
            recent = sum(when > since for when in self._recent)
            busy = sum(running is not None for running in self._slots)
            return EngineStats(
                self.slots, busy, len(self._queue), self._requests, self._tokens_in, self._tokens_out,
                recent / STATS_SECONDS,
            )

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams) -> Generation:
        """Put a request in line. Returns at once; iterate the `Generation` for its tokens.

        Raises `EngineError` for a prompt that is empty, too long or holds unknown ids, and from an engine that is
        closed or has failed.
        """
        ids = [int(token_id) for token_id in prompt_ids]
        self._check_prompt(ids)
        if params.seed is None:
            params = dataclasses.replace(params, seed=secrets.randbits(32))
        generation = Generation(ids, params, self._wake)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise EngineError("the engine is closed; start the app again")
            self._requests += 1
            self._queue.append(generation)
            self._lock.notify()
        return generation

    def _check_prompt(self, ids: list[int]) -> None:
        if not ids:
            raise EngineError("the prompt is empty; give at least one token")
        if len(ids) >= self.max_seq_len:
            raise EngineError(
                f"the prompt has {len(ids)} tokens, and prompt and reply together may have {self.max_seq_len}; "
                "shorten it, begin a new conversation, or start the app with a larger --max-seq-len if the model allows"
            )
        unknown = next((token_id for token_id in ids if not 0 <= token_id < self._vocab_size), None)
        if unknown is not None:
            raise EngineError(f"the prompt holds token id {unknown}; the model knows 0 to {self._vocab_size - 1}")

    def _wake(self) -> None:
        with self._lock:
            self._lock.notify()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._take_turn()
            self._end_all("cancelled")
        except Exception as problem:
            self._failure = EngineError(f"the engine failed ({type(problem).__name__}: {problem}); start the app again")
            self._failure.__cause__ = problem
            self._end_all("error", self._failure)

    def _wait_for_work(self) -> bool:
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._queue or any(self._slots) or self._unread)
            return not self._closed

    def _end_all(self, reason: str, error: Exception | None = None) -> None:
        with self._lock:
            generations = [*(running.generation for running in self._slots if running), *self._queue]
            self._slots = [None] * len(self._slots)
            self._queue.clear()
        for generation in generations:
            generation.finish(reason, error)

    def _take_turn(self) -> None:
        self._drop_cancelled()
        self._admit()
        earlier, self._unread = self._unread, []
        self._dispatch_prefill()
        self._dispatch_decode()
        for running, tokens, index in earlier:
            self._deliver(running, int(np.asarray(tokens)[index]))

    def _drop_cancelled(self) -> None:
        for running in self._slots:
            if running is not None and running.generation.cancel_requested:
                self._finish(running, "cancelled")
        with self._lock:
            cancelled = [generation for generation in self._queue if generation.cancel_requested]
            self._queue = deque(generation for generation in self._queue if not generation.cancel_requested)
        for generation in cancelled:
            generation.finish("cancelled")

    def _admit(self) -> None:
        """First come, first served."""
        with self._lock:
            for slot, running in enumerate(self._slots):
                if running is None and self._queue:
                    generation = self._queue.popleft()
                    limit = min(generation.params.max_new_tokens, self.max_seq_len - generation.prompt_tokens)
                    self._slots[slot] = Running(generation, deque(split_prompt(generation.prompt_tokens)), limit)

    def _dispatch_prefill(self) -> None:
        """One chunk a turn, of the request that came first: a long prompt never makes the others wait for all of it."""
        reading = [(slot, running) for slot, running in enumerate(self._slots) if running and running.chunks]
        if not reading:
            return
        slot, running = min(reading, key=lambda pair: pair[1].generation.submitted)
        size = running.chunks.popleft()
        generation, start = running.generation, running.start
        token = self._programs.prefill(slot, generation.prompt_ids[start : start + size], start, generation.params)
        running.start += size
        self._tokens_in += size
        if not running.chunks:
            running.dispatched = 1
            self._unread.append((running, token, 0))

    def _dispatch_decode(self) -> None:
        slots = {slot: running for slot, running in enumerate(self._slots) if running and running.wants_decode}
        if not slots:
            return
        tokens = self._programs.decode(
            {slot: (running.generation.params, running.position) for slot, running in slots.items()}
        )
        for slot, running in slots.items():
            running.dispatched += 1
            self._unread.append((running, *tokens[slot]))

    def _deliver(self, running: Running, token_id: int) -> None:
        """Hand out a token that was dispatched a turn ago; what came after the end of a reply is dropped."""
        generation = running.generation
        if generation.finish_reason is not None:
            return
        generation.add(token_id)
        self._count_token()
        if token_id in self._eos_ids and not generation.params.ignore_eos:
            self._finish(running, "stop")
        elif len(generation.tokens) == running.limit:
            self._finish(running, "length")

    def _count_token(self) -> None:
        now = time.perf_counter()
        with self._lock:
            self._tokens_out += 1
            self._recent.append(now)
            while self._recent[0] < now - STATS_SECONDS:
                self._recent.popleft()

    def _finish(self, running: Running, reason: str) -> None:
        """Free the slot first: whoever learns that the reply has ended finds it free."""
        with self._lock:
            self._slots = [None if other is running else other for other in self._slots]
        running.generation.finish(reason)


def _cpu_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

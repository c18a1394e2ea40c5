"""Who runs when: requests wait in line for a slot, are read chunk by chunk, then are written side by side in blocks.

A turn dispatches the next programs before it reads the records of the last turn, so that the device never waits for
Python; when a reply ends is decided on the device. Only the engine's thread takes turns.
"""

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np

from llama_core.engine.compiled import Chunk, Dispatched
from llama_core.engine.device_state import slot_row
from llama_core.engine.metrics import EngineStats, Meter
from llama_core.engine.pacing import TURNS_TO_A_LOOK, Pace
from llama_core.engine.prefix_cache import Slot, place
from llama_core.engine.records import Records, Status
from llama_core.engine.request import Generation
from llama_core.sampling.params import SamplingParams

# A prompt with at most this many new tokens does not wait behind a longer one, and is read a whole chunk a turn: the
# others' words come late once or twice, its own first word much sooner.
SHORT_PROMPT = 64


@dataclasses.dataclass(eq=False)
class Running:
    """A generation in a slot: how much of its prompt has been dispatched, how many tokens its reply may have and how
    many at most have been dispatched, and the chunk of the prompt that is on its way through the layers."""

    generation: Generation
    slot: Slot
    start: int
    limit: int
    dispatched: int = 0
    chunk: Chunk | None = None

    @property
    def is_reading(self) -> bool:
        """Whether some of the prompt is still to be read."""
        return self.start < self.generation.prompt_tokens

    @property
    def is_short(self) -> bool:
        """Whether there was little of the prompt to read."""
        return self.generation.prompt_tokens - self.generation.cached_tokens <= SHORT_PROMPT

    @property
    def remaining(self) -> int:
        """How many tokens may still be asked for."""
        return 0 if self.is_reading else self.limit - self.dispatched


@dataclasses.dataclass
class Dispatch:
    """Parts of a chunk of a prompt, or a block of replies, that the device was asked for and nobody has read yet."""

    dispatched: Dispatched
    owners: dict[int, Running]
    size: int = 0
    parts: int = 0
    steps: int = 0
    scores: Any = None


class Scheduler:
    """The slots of `programs`, which are given before the first turn, and the line of requests before them.
    `vocab_size` and `eos_ids` are the model's; a reply that takes longer than `time_limit` seconds is cancelled."""

    def __init__(self, slots: int, max_seq_len: int, vocab_size: int, eos_ids: Collection[int], time_limit: float):
        self.lock = threading.Condition()
        self.slots = [Slot(index) for index in range(slots)]
        self.queue: deque[Generation] = deque()
        self.programs: Any = None
        self._vocab_size, self._eos_ids = vocab_size, tuple(eos_ids)
        self._max_seq_len, self._time_limit = max_seq_len, time_limit
        self._unread: list[Dispatch] = []
        self._meter = Meter()
        self._turns = 0
        self._pace = Pace()

    def add(self, generation: Generation) -> None:
        """Put a request at the end of the line. The caller holds the lock."""
        self._meter.requests += 1
        self.queue.append(generation)
        self._number_queue()

    def has_work(self) -> bool:
        """Whether a turn would do something."""
        return bool(self.queue or self._unread or self._running())

    def stats(self) -> EngineStats:
        """What is going on now."""
        with self.lock:
            return self._meter.stats(self.slots, len(self.queue), self._max_seq_len)

    def stops(self, params: SamplingParams) -> list[int]:
        """The token ids that end a reply."""
        return [*params.stop_token_ids, *(() if params.ignore_eos else self._eos_ids)]

    def _number_queue(self) -> None:
        for place_in_line, generation in enumerate(self.queue, start=1):
            generation.queue_position = place_in_line

    def _running(self) -> list[Running]:
        return [slot.tenant for slot in self.slots if slot.tenant is not None]

    def end_all(self, reason: str, error: Exception | None = None) -> None:
        """Everybody's reply ends here."""
        with self.lock:
            generations = [*(running.generation for running in self._running()), *self.queue]
            self.queue.clear()
            for slot in self.slots:
                slot.tenant = None
        for generation in generations:
            generation.finish(reason, error)

    def take_turn(self) -> None:
        """Let the cancelled go and the waiting in, dispatch what comes next, hand out what came of the last turn."""
        self._turns += 1
        self._drop_cancelled()
        self._admit()
        self._apply_updates()
        earlier, self._unread = self._unread, []
        started = time.perf_counter()
        self._dispatch_prefill()
        self._dispatch_decode()
        for dispatch in earlier:
            self._read(dispatch)
        if earlier and self._unread:  # the device was busy all the time
            steps, parts = sum(one.steps for one in earlier), sum(one.parts for one in earlier)
            alone = all(len(one.owners) == 1 for one in earlier if one.steps)
            sizes = {one.size for one in earlier if one.parts}
            self._pace.observe(time.perf_counter() - started, steps, alone, sizes, parts)

    def _drop_cancelled(self) -> None:
        for running in self._running():
            if self._is_over(running.generation):
                self._finish(running, "cancelled")
        with self.lock:
            cancelled = [generation for generation in self.queue if self._is_over(generation)]
            if cancelled:
                self.queue = deque(generation for generation in self.queue if generation not in cancelled)
                self._number_queue()
        for generation in cancelled:
            generation.finish("cancelled")

    def _is_over(self, generation: Generation) -> bool:
        return generation.cancel_requested or time.perf_counter() - generation.submitted > self._time_limit

    def _admit(self) -> None:
        """First come, first served."""
        while True:
            with self.lock:
                placement = place(self.slots, self.queue[0].prompt_ids) if self.queue else None
                if placement is None:
                    return
                generation = self.queue.popleft()
                generation.queue_position = None
                self._number_queue()
                running = Running(generation, placement.slot, placement.prefix, 0)
                placement.slot.tenant = running
            generation.take_update(0)
            self._prepare(running, is_new=True)
            if placement.source is not None:
                self.programs.copy_prefix(placement.source.index, placement.slot.index, placement.prefix)
                placement.slot.ids = placement.source.ids[: placement.prefix]
            generation.cached_tokens = placement.prefix
            self._meter.tokens_cached += placement.prefix

    def _apply_updates(self) -> None:
        for running in self._running():
            if running.generation.take_update(running.dispatched):
                self._prepare(running, is_new=False)

    def _prepare(self, running: Running, is_new: bool) -> None:
        generation = running.generation
        limit = min(generation.params.max_new_tokens, self._max_seq_len - generation.prompt_tokens)
        # Lowered below what has been asked for already, it takes one more token for the device to see.
        running.limit = max(limit, running.dispatched + 1)
        row = slot_row(
            generation.prompt_ids,
            running.start,
            generation.prompt_tokens + limit,
            self.stops(generation.params),
            generation.params,
            self._vocab_size,
        )
        self.programs.prepare(running.slot.index, row, is_new)

    def _dispatch_prefill(self) -> None:
        """Some parts of chunks: the others' words do not wait for a long prompt."""
        writing = sum(running.remaining > 0 for running in self._running())
        if writing and self._turns % TURNS_TO_A_LOOK == 0:
            return
        share = used = 1.0  # of what this turn may read
        while used and share > 0 and (reading := [running for running in self._running() if running.is_reading]):
            used = self._read_parts(self._whose_turn(reading), share, writing)
            share -= used

    def _whose_turn(self, reading: list[Running]) -> Running:
        """The request that came first; in every other turn one that is short, if there is any."""
        short = [running for running in reading if running.is_short] if self._turns % 2 else []
        return min(short or reading, key=lambda running: running.generation.submitted)

    def _read_parts(self, running: Running, share: float, writing: int) -> float:
        """As many parts of this request's chunk as fit into this share of a turn; the share that they take."""
        careful = writing if not running.is_short else 0
        chunk = running.chunk = running.chunk or self._begin_chunk(running, careful)
        most = self._pace.parts(chunk.size, careful) if careful else self.programs.parts
        parts = min(int(share * most + 1e-6), self.programs.parts - chunk.done)
        if parts == 0:
            return 0.0
        dispatch = Dispatch(self.programs.read(chunk, parts), {}, chunk.size, parts)
        if chunk.done == self.programs.parts:
            self._end_chunk(running, chunk, dispatch)
        self._unread.append(dispatch)
        return parts / most

    def _begin_chunk(self, running: Running, writing: int) -> Chunk:
        generation, start = running.generation, running.start
        size = self._pace.chunk(generation.prompt_tokens - start, writing)
        ids = generation.prompt_ids[start : start + size]
        running.slot.keep(start, ids)
        return self.programs.begin_chunk(running.slot.index, ids, start)

    def _end_chunk(self, running: Running, chunk: Chunk, dispatch: Dispatch) -> None:
        generation, slot = running.generation, running.slot
        running.chunk, running.start = None, chunk.start + chunk.length
        slot.write(chunk.start, generation.prompt_ids[chunk.start : running.start])
        with self.lock:
            self._meter.read_tokens(chunk.length)
        if not running.is_reading:
            dispatch.dispatched, scores = self.programs.draw_first(chunk)
            dispatch.owners[slot.index] = running
            dispatch.scores = scores if generation.keeps_logits else None
            running.dispatched = 1

    def _dispatch_decode(self) -> None:
        writing = {running.slot.index: running for running in self._running() if running.remaining > 0}
        if not writing:
            return
        # First words are not held back for more, nor are anybody's while a prompt is read.
        hurried = any(running.is_reading or not running.generation.token_ids for running in self._running())
        pace = self._pace.steps(len(writing) == 1, hurried)
        steps = min(pace, max(running.remaining for running in writing.values()))
        for running in writing.values():
            if running.dispatched == 1:  # from now on, tokens of the reply are written behind the prompt
                del running.slot.ids[running.generation.prompt_tokens :]
        self._unread.append(Dispatch(self.programs.decode(list(writing), steps), writing, steps=steps))
        for running in writing.values():
            running.dispatched += steps

    def _read(self, dispatch: Dispatch) -> None:
        """Hand out what came of it. Of a reply that was cancelled meanwhile, it is dropped."""
        for index, rows in dispatch.dispatched.read().items():
            running = dispatch.owners[index]
            if running.slot.tenant is running:
                try:
                    self._deliver(running, Records.of(rows), dispatch.scores)
                except Exception as problem:  # a reader's fault: the others go on
                    self._finish(running, "error", problem)

    def _deliver(self, running: Running, records: Records, scores: Any) -> None:
        generation = running.generation
        if scores is not None:
            generation.logits = np.asarray(scores)
        new = records.token_ids
        if not new:
            return
        # All but the newest token have been read back into the model.
        fed = [*generation.token_ids[-1:], *new[:-1]]
        if fed:
            running.slot.write(len(running.slot.ids), fed)
        is_first = not generation.token_ids
        generation.add(records)
        with self.lock:
            self._meter.wrote_tokens(len(new), generation.time_to_first_token if is_first else None)
        if records.last_status in (Status.STOP, Status.LENGTH):
            self._finish(running, records.last_status.name.lower())

    def _finish(self, running: Running, reason: str, error: Exception | None = None) -> None:
        """Free the slot first: whoever learns that the reply has ended finds it free."""
        with self.lock:
            running.slot.tenant, running.slot.last_used = None, self._turns
        running.generation.finish(reason, error)

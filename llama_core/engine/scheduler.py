"""Who runs when: requests wait for a slot, are prefilled chunk by chunk, then decoded side by side in blocks.

A turn dispatches the next programs before it reads the results of the last turn, so that the device never waits for
Python; the device itself decides when a reply ends. Only the engine's thread takes turns.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from llama_core.engine.device_state import Drawable, new_slot_state
from llama_core.engine.device_work import PrefillChunk, Programs
from llama_core.engine.errors import NotFinite
from llama_core.engine.metrics import EngineMetrics, EngineStats
from llama_core.engine.pacing import TURNS_TO_A_LOOK, BatchSizer
from llama_core.engine.prefix_cache import Slot, SlotChoice, choose_slot
from llama_core.engine.records import Records, Status
from llama_core.engine.request import PendingWork, Request, RequestStatus, slot_of
from llama_core.runtime.arrays import AnyArray
from llama_core.runtime.cores import usable_cores
from llama_core.runtime.forms import Form
from llama_core.sampling.constraint import wait_for_a_search
from llama_core.sampling.params import SamplingParams


class Scheduler:
    """The queue of requests and the slots. `programs` are set before the first turn. `drawable` and `eos_ids` are the
    model's; a reply that takes longer than `time_limit` seconds ends."""

    programs: Programs

    def __init__(
        self, slots: int, max_seq_len: int, drawable: Drawable, eos_ids: Collection[int], time_limit: float, form: Form
    ):
        self.lock = threading.Condition()
        self.slots = [Slot(index) for index in range(slots)]
        self.queue: deque[Request] = deque()
        self._running: list[Request] = []  # those with a slot
        self._drawable, self._eos_ids = drawable, tuple(eos_ids)
        self._max_seq_len, self._time_limit = max_seq_len, time_limit
        self._pending: list[PendingWork] = []
        self._metrics, self._grammar_threads = EngineMetrics(), ThreadPoolExecutor(usable_cores(), "grammars")
        self._form, self._sizer, self._turns = form, BatchSizer(form), 0

    def add(self, request: Request) -> None:
        """Put a request at the end of the queue. The caller holds the lock."""
        self._metrics.requests += 1
        self.queue.append(request)
        self._number_queue()

    def has_work(self) -> bool:
        """Whether a turn would do something."""
        return bool(self.queue or self._pending or self._running)

    def stats(self) -> EngineStats:
        """What is going on now."""
        with self.lock:
            return self._metrics.stats(self.slots, len(self.queue), self._max_seq_len, self._form.attention)

    def stop_ids(self, params: SamplingParams) -> list[int]:
        """The token ids that end a reply."""
        return [*params.stop_token_ids, *(() if params.ignore_eos else self._eos_ids)]

    def drop_cancelled_from_queue(self) -> None:
        """Finish the requests in the queue that were cancelled or waited too long."""
        with self.lock:
            dropped = {request: reason for request in self.queue if (reason := self._stop_reason(request))}
            if dropped:
                self.queue = deque(request for request in self.queue if request not in dropped)
                self._number_queue()
        for request, reason in dropped.items():
            request.finish(reason)

    def end_all(self, reason: str, make_error: Callable[[], Exception] | None = None) -> None:
        """Finish every request, each with an error of its own if there is one."""
        with self.lock:
            requests = [*self._running, *self.queue]
            self.queue.clear()
            self._running.clear()
            for slot in self.slots:
                slot.in_use = False
        for request in requests:
            request.finish(reason, make_error() if make_error else None)

    def drop_programs(self) -> None:
        """Let go of the threads and the programs, and with them of weights and cache; no turn can be taken any more."""
        self._grammar_threads.shutdown(wait=False)
        with self.lock:
            self._pending.clear()
            self.__dict__.pop("programs", None)

    def _number_queue(self) -> None:
        for position, request in enumerate(self.queue, start=1):
            request.queue_position = position

    def _stop_reason(self, request: Request) -> str | None:
        if request.cancel_requested:
            return "cancelled"
        return "time_limit" if time.perf_counter() - request.submitted > self._time_limit else None

    def take_turn(self) -> None:
        """Drop cancelled requests, admit waiting ones, dispatch the next programs, deliver the previous results."""
        self._turns += 1
        for request in list(self._running):
            if reason := self._stop_reason(request):
                self._finish(request, reason)
        self.drop_cancelled_from_queue()
        self._admit()
        self._apply_updates()
        self._send_masks()
        previous, self._pending = self._pending, []
        started = time.perf_counter()
        self._dispatch_prefill()
        self._dispatch_decode()
        for work in previous:
            self._read(work)
        if previous and self._pending:  # the device was busy all the time
            self._measure(time.perf_counter() - started, previous)
        elif not previous and not self._pending:  # at most some constrained replies go on, and all pause
            wait_for_a_search([request.constraint for request in self._running])

    def _measure(self, seconds: float, done: list[PendingWork]) -> None:
        alone = all(len(work.requests) == 1 for work in done if work.steps)
        sizes = {work.size for work in done if work.groups}
        steps, groups = sum(work.steps for work in done), sum(work.groups for work in done)
        self._sizer.observe(seconds, steps, alone, sizes, groups)

    def _admit(self) -> None:
        """Give free slots to the requests that came first."""
        while True:
            with self.lock:
                first = self.queue[0] if self.queue else None
                choice = choose_slot(self.slots, first.prompt_ids, first.cache_scope) if first else None
                if choice is None:
                    return
                request = self.queue.popleft()
                request.queue_position = None
                self._number_queue()
                choice.slot.in_use = True
                self._running.append(request)
            self._start(request, choice)

    def _start(self, request: Request, choice: SlotChoice) -> None:
        request.status, request.slot = RequestStatus.PREFILLING, choice.slot
        request.prefilled = request.cached_tokens = choice.prefix
        request.take_update(0)
        self._prepare(request, choice.slot, is_new=True)
        if choice.source is not None:
            self.programs.copy_prefix(choice.source.index, choice.slot.index, choice.prefix)
            choice.slot.ids = choice.source.ids[: choice.prefix]
        choice.slot.belong_to(request.cache_scope, choice.prefix)
        self._metrics.tokens_cached += choice.prefix

    def _apply_updates(self) -> None:
        for request in self._running:
            if request.take_update(request.dispatched):
                self._prepare(request, slot_of(request), is_new=False)

    def _send_masks(self) -> None:
        """Let constrained replies go on whose next mask was found, and end those whose grammar has come to its end."""
        for request, constraint in [(request, request.constraint) for request in self._running if request.constraint]:
            try:
                mask = constraint.take_mask(self._drawable, self.stop_ids(request.params))
            except Exception as problem:  # this grammar's fault: the others go on
                self._finish(request, "error", problem)
            else:
                if mask is not None:
                    self.programs.allow(slot_of(request).index, mask)
                elif constraint.finish_reason is not None:
                    self._finish(request, constraint.finish_reason)

    def _prepare(self, request: Request, slot: Slot, is_new: bool) -> None:
        max_tokens = min(request.params.max_new_tokens, self._max_seq_len - request.prompt_tokens)
        # Lowered below what was dispatched already, it takes one more token for the device to see.
        request.max_tokens = max(max_tokens, request.dispatched + 1)
        limit, stop_ids = request.prompt_tokens + max_tokens, self.stop_ids(request.params)
        begin = request.prompt_tokens - request.begun_tokens
        ids = request.prompt_ids[:begin], request.prompt_ids[begin:]
        told = *ids, request.prefilled, limit, stop_ids, request.params
        mask = request.constraint.newest_mask(self._drawable, stop_ids) if request.constraint else None
        row = new_slot_state(*told, len(self._drawable), self._drawable, mask)
        self.programs.prepare(slot.index, row, is_new)

    def _dispatch_prefill(self) -> None:
        """Some groups of layers of the waiting prompts' chunks: the others' words do not wait for a long prompt."""
        decoding = sum(request.remaining > 0 for request in self._running)
        if decoding and self._turns % TURNS_TO_A_LOOK == 0:
            return
        share = used = 1.0  # of what this turn may prefill
        while used and share > 0 and (prefilling := self._prefilling()):
            used = self._prefill(self._next_to_prefill(prefilling), share, decoding)
            share -= used

    def _prefilling(self) -> list[Request]:
        return [request for request in self._running if request.status is RequestStatus.PREFILLING]

    def _next_to_prefill(self, prefilling: list[Request]) -> Request:
        """The request that came first; in every other turn the first short one, if there is any."""
        short = [request for request in prefilling if request.is_short] if self._turns % 2 else []
        return min(short or prefilling, key=lambda request: request.submitted)

    def _prefill(self, request: Request, share: float, decoding: int) -> float:
        """Take this request's chunk through as many groups of layers as fit into this share of a turn. The share that
        was used."""
        careful = decoding if not request.is_short else 0
        chunk = request.chunk = request.chunk or self._start_chunk(request, careful)
        all_groups = self.programs.num_layer_groups
        most = self._sizer.groups_per_turn(chunk.size, careful) if careful else all_groups
        groups = min(int(share * most + 1e-6), all_groups - chunk.groups_done)
        if groups == 0:
            return 0.0
        work = PendingWork(self.programs.prefill_layers(chunk, groups), {}, chunk.size, groups)
        if chunk.groups_done == all_groups:
            self._end_chunk(request, chunk, work)
        self._pending.append(work)
        return groups / most

    def _start_chunk(self, request: Request, decoding: int) -> PrefillChunk:
        start, slot = request.prefilled, slot_of(request)
        length = self._sizer.chunk_length(request.prompt_tokens - start, decoding)
        ids = request.prompt_ids[start : start + length]
        slot.invalidate_from(start, ids)
        return self.programs.start_prefill(slot.index, ids, start)

    def _end_chunk(self, request: Request, chunk: PrefillChunk, work: PendingWork) -> None:
        slot = slot_of(request)
        request.chunk, request.prefilled = None, chunk.start + chunk.length
        slot.extend(chunk.start, request.prompt_ids[chunk.start : request.prefilled])
        with self.lock:
            self._metrics.add_prefilled(chunk.length)
        if request.prefilled == request.prompt_tokens:
            request.status = RequestStatus.DECODING
            work.result, logits = self.programs.sample_first(chunk)
            work.requests[slot.index] = request
            work.logits = logits if request.keeps_logits else None
            request.dispatched = 1

    def _dispatch_decode(self) -> None:
        decoding = {slot_of(request).index: request for request in self._running if request.dispatchable > 0}
        if not decoding:
            return
        # First words are not held back for longer blocks, nor are anybody's while a prompt is prefilled.
        hurried = bool(self._prefilling()) or any(not request.token_ids for request in self._running)
        steps = self._sizer.decode_steps(len(decoding) == 1, hurried)
        steps = min(steps, max(request.dispatchable for request in decoding.values()))
        for request in decoding.values():
            if request.dispatched == 1:  # from now on, tokens of the reply are written behind the prompt
                del slot_of(request).ids[request.prompt_tokens :]
        self._pending.append(PendingWork(self.programs.decode(list(decoding), steps), decoding, steps=steps))
        for request in decoding.values():
            request.add_dispatched(steps)

    def _read(self, work: PendingWork) -> None:
        """Wait for the results and deliver them. Those of a request that finished meanwhile are dropped."""
        for index, rows in work.result.to_host().items():
            request = work.requests[index]
            if request in self._running:
                try:
                    self._deliver(request, Records.of(rows), work.logits)
                except Exception as problem:  # this request's fault: the others go on
                    self._finish(request, "error", problem)

    def _deliver(self, request: Request, records: Records, logits: AnyArray | None) -> None:
        if logits is not None:
            request.logits = np.asarray(logits)
        if records.token_ids:
            self._deliver_tokens(request, records)
        if records.is_broken:
            self.programs.clear_slot(slot_of(request).index)
            slot_of(request).ids.clear()
            raise NotFinite.at(request.prompt_tokens + len(request.token_ids))

    def _deliver_tokens(self, request: Request, records: Records) -> None:
        new = records.token_ids
        # All but the newest token went through the model again, so their keys and values are in the cache.
        cached = [*request.token_ids[-1:], *new[:-1]]
        if cached:
            slot = slot_of(request)
            slot.extend(len(slot.ids), cached)
        is_first = not request.token_ids
        request.add(records)
        with self.lock:
            self._metrics.add_decoded(len(new), request.time_to_first_token if is_first else None)
        is_full = records.last_status is Status.LENGTH
        if request.constraint and records.last_status is not Status.STOP:  # it may be complete without room for more
            request.constraint.accept(new[-1], is_full, self._grammar_threads)
        elif records.last_status is Status.STOP or is_full:
            self._finish(request, records.last_status.name.lower())

    def _finish(self, request: Request, reason: str, error: Exception | None = None) -> None:
        """Free the slot first: whoever learns that the reply has ended finds it free."""
        with self.lock:
            slot = slot_of(request)
            slot.in_use, slot.last_used = False, self._turns
            self._running.remove(request)
        request.finish(reason, error)

"""The engine: one thread that owns the device and takes turns for everybody (scheduler.py), and the door through which
requests come. It knows token ids, never text.
"""

import dataclasses
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from llama_core.engine.compiled import compile_programs
from llama_core.engine.metrics import EngineStats
from llama_core.engine.request import Generation
from llama_core.engine.scheduler import Scheduler
from llama_core.sampling.params import MAX_STOP_TOKENS, SamplingParams


class EngineError(RuntimeError):
    """A request that cannot be served, or an engine that no longer can; the message says which and what to do."""


class QueueFull(EngineError):
    """So many requests wait already that no more are taken; try again later."""


class Engine:
    """Serves many generations at once from one model. It takes requests from the beginning; they wait until `warm_up`
    has compiled the programs. A context manager: entering it warms it up, leaving it ends the thread.

    `max_seq_len` (prompt and reply together, in tokens) is lowered to what the model was made for. At most `max_queue`
    requests wait; a reply that takes longer than `time_limit` seconds is cancelled. `compile` makes the programs.
    `slots` is how many replies are written at the same time.

    Raises `EngineError` for impossible sizes.
    """

    def __init__(
        self,
        model: Any,
        slots: int = 4,
        max_seq_len: int = 2048,
        compile: Callable = compile_programs,
        max_queue: int = 64,
        time_limit: float = 3600.0,
    ):
        if slots < 1 or max_seq_len < 2:
            raise EngineError(f"slots is {slots} and max_seq_len {max_seq_len}; expected at least 1 slot and 2 tokens")
        self.max_seq_len = min(max_seq_len, model.config.max_position_embeddings)
        self.slots, self.max_queue = slots, max_queue
        self._vocab_size = model.config.vocab_size
        self._compile = lambda advance: compile(model.params, model.config, slots, self.max_seq_len, advance)
        self._scheduler = Scheduler(slots, self.max_seq_len, self._vocab_size, model.config.eos_token_id, time_limit)
        self._lock = self._scheduler.lock
        self.compiled = 0, 0
        self._closed = False
        self._failure: EngineError | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> "Engine":
        self.warm_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compile the programs and begin to answer. `progress(done, total)` counts them, as `compiled` does; what it
        raises ends the warm-up.

        Raises `EngineError` when it did not come to its end; then the engine has failed, and so have its requests.
        """

        def advance(done: int, total: int) -> None:
            if self._closed:
                raise EngineError("the engine is closed; start the app again")
            self.compiled = done, total
            if progress is not None:
                progress(done, total)

        try:
            self._scheduler.programs = self._compile(advance)
        except Exception as problem:
            self._fail(
                problem,
                "the model's programs cannot be compiled ({}); if memory is short, start the app with "
                "fewer --slots or a smaller --max-seq-len",
            )
            raise self._failure from problem
        with self._lock:
            if not self._closed:
                self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the programs are compiled: a request need not wait for them."""
        return self.healthy and self._thread.ident is not None

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._thread.ident is None:
            self._scheduler.end_all("cancelled")
        else:
            self._thread.join()

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
        return self._scheduler.stats()

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams | None = None) -> Generation:
        """Ask for the continuation of `prompt_ids`. Returns at once; the tokens come as the generation is iterated.

        Raises `EngineError` for a prompt that is empty, does not fit or has unknown ids, for parameters that name
        unknown ids, and when the engine is closed or has failed; `QueueFull` when too many wait.
        """
        return self._enqueue(prompt_ids, params or SamplingParams(), keeps_logits=False)

    def next_token_logits(self, prompt_ids: Sequence[int]) -> Float32[np.ndarray, "V"]:
        """What the model says of the token after `prompt_ids`, before any penalty or cut. What the cache holds of them
        is not computed again. Raises as `submit` does."""
        generation = self._ask_for_logits(prompt_ids)
        list(generation)
        return self._logits_of(generation)

    async def next_token_logits_async(self, prompt_ids: Sequence[int]) -> Float32[np.ndarray, "V"]:
        """`next_token_logits` for event loops."""
        generation = self._ask_for_logits(prompt_ids)
        async for _ in generation:
            pass
        return self._logits_of(generation)

    def _ask_for_logits(self, prompt_ids: Sequence[int]) -> Generation:
        return self._enqueue(prompt_ids, SamplingParams(temperature=0.0, max_new_tokens=1), keeps_logits=True)

    def _logits_of(self, generation: Generation) -> Float32[np.ndarray, "V"]:
        if generation.logits is None:
            raise EngineError("the engine was closed before it answered; start the app again")
        return generation.logits

    def _enqueue(self, prompt_ids: Sequence[int], params: SamplingParams, keeps_logits: bool) -> Generation:
        ids = [int(token_id) for token_id in prompt_ids]
        self._check_prompt(ids)
        self._check_params(params)
        if params.seed is None:
            params = dataclasses.replace(params, seed=secrets.randbits(32))
        generation = Generation(ids, params, self._wake, self._check_params, keeps_logits)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise EngineError("the engine is closed; start the app again")
            if len(self._scheduler.queue) >= self.max_queue:
                raise QueueFull(f"{self.max_queue} requests wait already, the most there may be; try again later")
            self._scheduler.add(generation)
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
        self._check_ids("the prompt", ids)

    def _check_params(self, params: SamplingParams) -> None:
        self._check_ids("logit_bias", [token_id for token_id, _ in params.logit_bias])
        self._check_ids("stop_token_ids", params.stop_token_ids)
        stops = len(self._scheduler.stops(params))
        if stops > MAX_STOP_TOKENS:
            raise EngineError(
                f"stop_token_ids and the model's end-of-text tokens are {stops} ids; at most {MAX_STOP_TOKENS} may be"
            )

    def _check_ids(self, what: str, ids: Sequence[int]) -> None:
        unknown = next((token_id for token_id in ids if not 0 <= token_id < self._vocab_size), None)
        if unknown is not None:
            raise EngineError(f"{what} holds token id {unknown}; the model knows 0 to {self._vocab_size - 1}")

    def _wake(self) -> None:
        with self._lock:
            over = [] if self.ready else [one for one in self._scheduler.queue if one.cancel_requested]
            for generation in over:  # before the first turn nobody else lets them go
                self._scheduler.queue.remove(generation)
            self._lock.notify()
        for generation in over:
            generation.finish("cancelled")

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._scheduler.take_turn()
            self._scheduler.end_all("cancelled")
        except Exception as problem:
            self._fail(problem, "the engine failed ({}); start the app again")

    def _fail(self, problem: Exception, sentence: str) -> None:
        first_line = str(problem).strip().partition("\n")[0]
        self._failure = EngineError(sentence.format(f"{type(problem).__name__}: {first_line}"))
        self._failure.__cause__ = problem
        self._scheduler.end_all("error", self._failure)

    def _wait_for_work(self) -> bool:
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._scheduler.has_work())
            return not self._closed


def _cpu_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

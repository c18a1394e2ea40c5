"""The engine: one thread that owns the device and takes turns for everybody (scheduler.py), and the door through which
requests come. It knows token ids, never text."""

import dataclasses
import functools
import secrets
import threading
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from llama_core.checkpoint.memory_plan import Plan, no_room
from llama_core.engine.compiled import compile_programs
from llama_core.engine.device_work import EngineModel, Programs
from llama_core.engine.errors import BadRequest, EngineDead, EngineError, QueueFull
from llama_core.engine.metrics import EngineStats
from llama_core.engine.prefix_cache import EVERYBODY, CacheScope
from llama_core.engine.request import Request
from llama_core.engine.scheduler import Scheduler
from llama_core.model.config import LlamaConfig
from llama_core.model.mesh.sharding import describe_devices, devices_of
from llama_core.model.params import Params
from llama_core.runtime.forms import Form, form_here
from llama_core.sampling.constraint import Constraint
from llama_core.sampling.grammar import Grammar
from llama_core.sampling.params import MAX_STOP_TOKENS, SamplingParams

Progress = Callable[[int, int], None]

LAST_PROGRAM_SECONDS = 1  # after a failure the device may never come to its end

# (params, config, slots, max_seq_len, form, progress) → the programs, ready to run.
Compile = Callable[[Params, LlamaConfig, int, int, Form, Progress], Programs]


class Engine:
    """Serves many requests at once from one model. It takes requests from the beginning; they wait until `warm_up` has
    compiled the programs. A context manager: entering it warms it up, leaving it ends the thread.

    `max_seq_len` (prompt and reply together, in tokens) is lowered to what the model was made for. `slots` is how many
    replies are generated at the same time; at most `max_queue` requests wait; a reply that takes longer than
    `time_limit` seconds is cancelled. `compile` makes the programs, in this `form` (None: that of this device).

    Raises `BadRequest` for impossible sizes.
    """

    def __init__(
        self,
        model: EngineModel,
        slots: int = 4,
        max_seq_len: int = 2048,
        compile: Compile = compile_programs,
        max_queue: int = 64,
        time_limit: float = 3600.0,
        form: Form | None = None,
    ):
        if slots < 1 or max_seq_len < 2:
            raise BadRequest(f"slots is {slots} and max_seq_len {max_seq_len}; expected at least 1 slot and 2 tokens")
        config = model.config
        self.max_seq_len = min(max_seq_len, config.longest_context)
        self.slots, self.max_queue = slots, max_queue
        self.compiled = 0, 0
        self._vocab_size = config.vocab_size
        dtype, size = str(model.params.dtype), model.params.nbytes
        form = form or form_here(model.params.dtype, config.head_dim)
        self._devices = devices_of(model.params)
        self._plan = functools.partial(
            Plan, config, dtype, slots, self.max_seq_len, weight_bytes=size, form=form, devices=self._devices
        )
        # Not a function of this engine: in a reference cycle the weights would outlive it until the next collection.
        self._compile: Callable[[Progress], Programs] | None = functools.partial(
            compile, model.params, config, slots, self.max_seq_len, form
        )
        drawable = getattr(model, "drawable", np.ones(config.vocab_size, bool))  # all ids where there is no tokenizer
        self._scheduler = Scheduler(slots, self.max_seq_len, drawable, config.eos_token_id, time_limit, form)
        self._lock = self._scheduler.lock
        self._closed = False
        self._failure: str | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Engine":
        self.warm_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm_up(self, progress: Progress | None = None) -> None:
        """Compile the programs and begin to answer. `progress(done, total)` counts them, as `compiled` does; what it
        raises ends the warm-up. Does nothing when the engine is warm.

        Raises `EngineDead` if it cannot come to its end; then the engine has failed, and so have its requests.
        """

        def advance(done: int, total: int) -> None:
            if self._closed:
                raise self._closed_error()
            self.compiled = done, total
            if progress is not None:
                progress(done, total)

        if self._thread is not None:
            return
        if self._compile is None:
            raise self._closed_error()
        try:
            self._scheduler.programs = self._compile(advance)
        except Exception as problem:
            self.fail(
                problem,
                "the model's programs cannot be compiled ({}); if memory is short, start the app with "
                "fewer --slots or a smaller --max-seq-len",
            )
            raise self._failed_error() from problem
        with self._lock:
            self._compile = None
            if self._closed:
                self._scheduler.drop_programs()
            else:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the programs are compiled: a request need not wait for them."""
        return self.healthy and self._thread is not None

    def close(self) -> None:
        """End every reply ("shutdown") and the thread, and let go of the weights, the cache and the programs."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._thread is None:
            self._scheduler.end_all("shutdown")
        else:
            self._thread.join(None if self._failure is None else LAST_PROGRAM_SECONDS)
        self._compile = None
        self._scheduler.drop_programs()

    @property
    def device(self) -> str:
        """The device in words, such as "CPU, 2 cores", or the devices that share the model."""
        return describe_devices(self._devices)

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return not self._closed and self._failure is None

    @property
    def failure(self) -> str | None:
        """What the engine failed of, in words; None while it works, and after it was closed."""
        return self._failure

    def stats(self) -> EngineStats:
        """What the engine is doing now."""
        return self._scheduler.stats()

    def submit(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams | None = None,
        reply_ids: Sequence[int] = (),
        cache_scope: CacheScope = EVERYBODY,
        grammar: Grammar | None = None,
    ) -> Request:
        """Ask for the continuation of `prompt_ids`, or of a reply to them that was begun with `reply_ids`: presence and
        frequency penalties count those. `cache_scope` says whose prompts may find these tokens in the prefix cache. The
        text of the whole reply follows the `grammar`, from the model's own `GrammarCompiler`.
        Returns at once; the tokens come as the request is iterated.

        The same seed gives the same reply, in float32 whatever else is asked, unless a cut like top-p hangs by a last
        bit. In lower precision it does for a request alone: beside others another program rounds differently.

        Raises `BadRequest` for a prompt that is empty, does not fit or has unknown ids, and for parameters that name
        unknown ids; `GrammarError` for a grammar that does not fit the begun reply; `QueueFull` when too many wait;
        `EngineDead` when the engine is closed or has failed.
        """
        return self._enqueue(prompt_ids, params or SamplingParams(), reply_ids, False, cache_scope, grammar)

    def next_token_logits(
        self, prompt_ids: Sequence[int], cache_scope: CacheScope = EVERYBODY
    ) -> Float32[np.ndarray, "V"]:
        """The model's logits for the token after `prompt_ids`, before any penalty or cut; -inf for ids that are not
        drawable. What the prefix cache holds is not computed again. Raises as `submit` does."""
        request = self._ask_for_logits(prompt_ids, cache_scope)
        list(request)
        return self._logits_of(request)

    async def next_token_logits_async(
        self, prompt_ids: Sequence[int], cache_scope: CacheScope = EVERYBODY
    ) -> Float32[np.ndarray, "V"]:
        """`next_token_logits` for event loops."""
        request = self._ask_for_logits(prompt_ids, cache_scope)
        async for _ in request:
            pass
        return self._logits_of(request)

    def _ask_for_logits(self, prompt_ids: Sequence[int], cache_scope: CacheScope) -> Request:
        return self._enqueue(prompt_ids, SamplingParams(temperature=0.0, max_new_tokens=1), (), True, cache_scope)

    def _logits_of(self, request: Request) -> Float32[np.ndarray, "V"]:
        if request.logits is None:
            raise EngineDead("the engine was closed before it answered; start the app again")
        return request.logits

    def _enqueue(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        reply_ids: Sequence[int],
        keeps_logits: bool,
        cache_scope: CacheScope,
        grammar: Grammar | None = None,
    ) -> Request:
        ids = self._checked_prompt(prompt_ids, reply_ids)
        self._check_params(params)
        if params.seed is None:
            params = dataclasses.replace(params, seed=secrets.randbits(32))
        constraint = self._constraint(grammar, reply_ids) if grammar else None
        asked = ids, params, self._wake, self._check_params, len(reply_ids), keeps_logits, cache_scope, constraint
        request = Request(*asked)
        with self._lock:
            if self._failure is not None:
                raise self._failed_error()
            if self._closed:
                raise self._closed_error()
            if len(self._scheduler.queue) >= self.max_queue:
                raise QueueFull(f"{self.max_queue} requests wait already, the most there may be; try again later")
            self._scheduler.add(request)
            self._lock.notify()
        return request

    def _constraint(self, grammar: Grammar, reply_ids: Sequence[int]) -> Constraint:
        if grammar.vocab_size != self._vocab_size:
            raise BadRequest("the grammar was compiled for another model; use the GrammarCompiler of this one")
        return Constraint(grammar.begin(reply_ids))

    def _checked_prompt(self, prompt_ids: Sequence[int], reply_ids: Sequence[int]) -> list[int]:
        count = len(prompt_ids) + len(reply_ids)  # before anything is done with each of them
        if not count:
            raise BadRequest("the prompt is empty; give at least one token")
        if count >= self.max_seq_len:
            raise BadRequest(
                f"the prompt has {count} tokens, and prompt and reply together may have {self.max_seq_len}; "
                "shorten it, begin a new conversation, or start the app with a larger --max-seq-len if the model allows"
            )
        ids = [int(token_id) for token_id in (*prompt_ids, *reply_ids)]
        self._check_ids("the prompt", ids)
        return ids

    def _check_params(self, params: SamplingParams) -> None:
        self._check_ids("logit_bias", [token_id for token_id, _ in params.bias_pairs])
        self._check_ids("stop_token_ids", params.stop_token_ids)
        if (stops := len(self._scheduler.stop_ids(params))) > MAX_STOP_TOKENS:
            words = f"stop_token_ids and the model's end-of-text tokens are {stops} ids"
            raise BadRequest(f"{words}; at most {MAX_STOP_TOKENS} may be")

    def _check_ids(self, what: str, ids: Sequence[int]) -> None:
        unknown = next((token_id for token_id in ids if not 0 <= token_id < self._vocab_size), None)
        if unknown is not None:
            raise BadRequest(f"{what} holds token id {unknown}; the model knows 0 to {self._vocab_size - 1}")

    def _wake(self) -> None:
        if not self.ready:  # before the first turn nobody else lets the cancelled leave the queue
            self._scheduler.drop_cancelled_from_queue()
        with self._lock:
            self._lock.notify()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._scheduler.take_turn()
            self._scheduler.end_all("shutdown")
        except BaseException as problem:  # whatever it is, without this thread nobody gets an answer any more
            self.fail(problem)

    def fail(self, problem: BaseException, sentence: str = "the engine failed ({}); start the app again") -> None:
        """End every reply with an error: of the first problem, whose consequences may be others."""
        if self._failure is not None:
            return
        if "RESOURCE_EXHAUSTED" in str(problem):  # XLA's word for a device without memory
            sentence = no_room(self._plan())
        first_line = str(problem).strip().partition("\n")[0]
        # Its text alone: the traceback would keep what it went through alive, the weights among them.
        self._failure = sentence.format(f"{type(problem).__name__}: {first_line}")
        self._scheduler.end_all("error", self._failed_error)

    def _failed_error(self) -> EngineError:
        """A new one each time: an exception that is raised twice collects the tracebacks of both."""
        return EngineDead(self._failure)

    def _closed_error(self) -> EngineError:
        return EngineDead("the engine is closed; start the app again")

    def _wait_for_work(self) -> bool:
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._scheduler.has_work())
            return not self._closed

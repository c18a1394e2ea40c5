"""Which model is served, and by which engine. The page is open while the first one gets ready, and while another pair
takes its place."""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core import Engine, load_checkpoint
from llama_core.checkpoint import Model
from llama_core.checkpoint.estimate import Estimate, estimate, estimate_shape
from llama_core.checkpoint.hub import Cancelled, list_gguf
from llama_core.checkpoint.memory_plan import (
    LONGEST_AUTOMATIC_CONTEXT,
    SLOTS,
    Plan,
    fitting_context,
    fitting_slots,
    require_memory,
)
from llama_core.checkpoint.random_model import is_random_name
from llama_core.engine.metrics import EngineStats
from llama_core.runtime.host_memory import return_freed_memory
from llama_core.sampling.params import SamplingParams
from web.models.catalog import ON_THE_HUB, path_of
from web.settings import GUIDE, Settings

DRAIN_SECONDS = 120  # how long replies of the previous model may go on
DRAIN_POLL_SECONDS = 0.2
# Where the makers of a model recommend nothing: small models, which are what is loaded here, drift at 0.7 (the cards of
# SmolLM2 say 0.2 with top-p 0.9). Of 60 answers to simple questions by SmolLM2-135M 47 were right with these two, 44 at
# 0.7, 43 at 0.4 alone.
CAUTIOUS = SamplingParams(temperature=0.4, min_p=0.05)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Served:
    """An engine and its model. Whoever handles an event reads `ModelManager.served` once and passes it down: another
    pair may take its place at any moment. `is_guide`: it is the model that comes with this program."""

    engine: Engine
    model: Model
    is_guide: bool = False

    @property
    def recommends(self) -> bool:
        """Whether the makers of the model say with which sampling it is at its best."""
        return self.model.defaults != SamplingParams()

    @property
    def sampling(self) -> SamplingParams:
        """The sampling parameters that the page begins with."""
        return self.model.defaults if self.recommends else CAUTIOUS

    @property
    def plan(self) -> Plan:
        """The memory that the model takes."""
        stats = self.engine.stats()
        length = stats.context_size // stats.slots
        model = self.model
        return Plan(
            model.config, model.dtype, stats.slots, length, model.quantize, model.weight_bytes, devices=model.devices
        )


class ModelLoading:
    """A model that is being loaded, in a thread of its own.

    `step` is the progress: which step ("download", "weights", "compile"), done, total. After the end `problem` says
    what went wrong, None if nothing did. It is text: an exception would keep the frames in its traceback alive, and
    with them the weights.
    """

    def __init__(self, name: str, work: Callable[[str, Progress], None]):
        self.name, self.step, self.cancelled = name, ("", 0, 0), False
        self.problem: str | None = None
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name="loading", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it is over, well or not."""
        return not self._thread.is_alive()

    def wait(self) -> str | None:
        """Wait for the end. The problem, if there was one."""
        self._thread.join()
        return self.problem

    def cancel(self) -> None:
        """Ask for an end; it comes with the next step of progress."""
        self._cancel.set()

    def _run(self, work: Callable[[str, Progress], None]) -> None:
        try:
            work(self.name, self._progress)
        except Exception as problem:  # whatever goes wrong is said on the page; the previous model stays
            self.cancelled = self._cancel.is_set()
            self.problem = None if self.cancelled else str(problem) or type(problem).__name__

    def _progress(self, step: str, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise Cancelled
        self.step = step, done, total


Serve = Callable[[Model, int, int], Engine]  # (model, slots, max_seq_len) → the engine that serves it


def engine_maker(settings: Settings, **more: Any) -> Serve:
    """Makes engines within the limits of the settings, with `more` for `Engine`."""
    return functools.partial(Engine, max_queue=settings.max_queue, time_limit=settings.max_reply_seconds, **more)


class ModelManager:
    """Loads models and holds the one that is `served`. A context manager: leaving it closes the engine."""

    def __init__(self, settings: Settings, load: Callable[..., Model] = load_checkpoint, serve: Serve | None = None):
        self.settings = settings
        self.loading: ModelLoading | None = None
        self._load, self._serve = load, serve or engine_maker(settings)
        self._served: Served | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "ModelManager":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every reply and the engine."""
        if self._served is not None:
            self._served.engine.close()

    @property
    def served(self) -> Served:
        """The engine and model of now. Raises `RuntimeError` before `start` has found one."""
        if self._served is None:
            raise RuntimeError("no model is served yet; call start first")
        return self._served

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return self._served is not None and self._served.engine.healthy

    @property
    def ready(self) -> bool:
        """Whether a request is answered at once; before, it waits for the programs."""
        return self._served is not None and self._served.engine.ready

    @property
    def failure(self) -> str | None:
        """What the engine that is served failed of, in words: nobody gets an answer any more. One that was replaced, or
        whose programs could not be compiled for taking over, is missed by nobody."""
        return None if self._served is None else self._served.engine.failure

    @property
    def busy(self) -> bool:
        """Whether replies are written or waited for."""
        stats = self.stats()
        return bool(stats.busy or stats.queued)

    def stats(self) -> EngineStats:
        """What the engine is doing now."""
        return self.served.engine.stats()

    def estimate(self, name: str) -> Estimate:
        """What a model would take here. Of those of the list on the Hub nothing is fetched for that. Raises what
        `llama_core.checkpoint.estimate` does."""
        settings = self.settings
        context = settings.max_seq_len or LONGEST_AUTOMATIC_CONTEXT
        run = settings.dtype, settings.slots or SLOTS, context, settings.quantize, settings.mesh
        if listed := ON_THE_HUB.get(name):
            return estimate_shape(listed.shape, listed.file_bytes, *run)
        return estimate(path_of(name), *run)

    def files(self, name: str) -> list[tuple[str, int]]:
        """The GGUF models of a folder or a Hub repository, each with the name to load it by and its size in bytes."""
        path = path_of(name)
        return [] if is_random_name(path) or Path(path).expanduser().is_file() else list_gguf(path)

    def start(self, name: str, progress: Progress) -> ModelLoading:
        """Load the first model. It can be looked at and asked at once, while its programs are compiled. Raises what
        `put` raises for a model that cannot be used."""
        served = self._served = self._open(name, progress)
        self.loading = ModelLoading(
            served.model.name, lambda _, step: served.engine.warm_up(_for_step("compile", step))
        )
        return self.loading

    def begin(self, name: str) -> ModelLoading | None:
        """Load a model beside the one that is served, and then serve it. None if another one is being loaded."""
        with self._lock:
            if self.loading is not None and not self.loading.ended:
                return None
            self.loading = ModelLoading(name, self.put)
            return self.loading

    def cancel(self) -> None:
        """Give up the model that is being loaded, unless it is the first: then there would be none."""
        if self.ready and self.loading is not None:
            self.loading.cancel()

    def put(self, name: str, progress: Progress) -> None:
        """Load `name` and serve it from now on; the previous engine ends when its replies have. Raises `UserError`, and
        what `progress` does."""
        served = self._open(name, progress)
        served.engine.warm_up(_for_step("compile", progress))
        before, self._served = self._served, served
        if before is not None:
            threading.Thread(target=_drain, args=(before.engine,), name="drain", daemon=True).start()

    def _open(self, name: str, progress: Progress) -> Served:
        """An engine that is not warm yet, and its model."""
        settings, context, slots = self.settings, self.settings.max_seq_len, self.settings.slots or SLOTS

        def check(plan: Plan) -> None:
            # Both are found anew if this is called again, because there are more weights than the config says.
            nonlocal context, slots
            plan = dataclasses.replace(plan, max_seq_len=settings.max_seq_len or LONGEST_AUTOMATIC_CONTEXT)
            slots = settings.slots or fitting_slots(plan)
            plan = dataclasses.replace(plan, slots=slots)
            if settings.max_seq_len:
                require_memory(plan)
            else:
                context = fitting_context(plan)

        path = path_of(name)
        model = self._load(
            path,
            settings.dtype,
            _for_step("weights", progress),
            quantize=settings.quantize,
            kernels=settings.kernels,
            mesh=settings.mesh,
            check=check,
            download=_for_step("download", progress),
            compiling=_for_step("kernels", progress),
        )
        # By its path: another folder may have the same name.
        is_guide = Path(path).resolve() == Path(GUIDE).resolve()
        return Served(self._serve(model, slots, context), model, is_guide)


def _for_step(name: str, progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _drain(engine: Engine) -> None:
    """Let the replies that are under way come to their end, then close the engine and give its memory back."""
    end = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < end and (engine.stats().busy or engine.stats().queued):
        time.sleep(DRAIN_POLL_SECONDS)
    engine.close()
    return_freed_memory()

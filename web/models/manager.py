"""The model that is served and the engine that serves it. The page is open while the first one gets ready, and while
another pair takes its place."""

import threading
import time
from collections.abc import Callable
from typing import Any

from llama_core import Engine, load_checkpoint
from llama_core.checkpoint.estimate import Estimate, estimate
from llama_core.checkpoint.hub import Cancelled
from llama_core.checkpoint.memory_plan import LONGEST_AUTOMATIC_CONTEXT, Plan, fitting_context, require_memory
from web.settings import Settings

DRAIN_SECONDS = 120  # how long replies of the model before may go on

Progress = Callable[[str, int, int], None]


class ModelLoading:
    """A model on its way in, in a thread of its own. `step` is where it stands: which step ("download", "weights",
    "compile"), done, total. Ended, it has a `problem` or none."""

    def __init__(self, name: str, work: Callable[[str, Progress], None]):
        self.name, self.step, self.problem, self.cancelled = name, ("", 0, 0), None, False
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name="loading", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it has come to its end, good or bad."""
        return not self._thread.is_alive()

    def wait(self) -> Exception | None:
        """Wait for the end. Its problem, if there is one."""
        self._thread.join()
        return self.problem

    def cancel(self) -> None:
        """Ask for an end; it comes with the next step of progress."""
        self._cancel.set()

    def _run(self, work: Callable[[str, Progress], None]) -> None:
        try:
            work(self.name, self._progress)
        except Exception as problem:  # whatever goes wrong is said on the page; the old model stays
            self.cancelled = self._cancel.is_set()
            self.problem = None if self.cancelled else problem

    def _progress(self, step: str, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise Cancelled
        self.step = step, done, total


class ModelManager:
    """Holds `engine` and `model`, from `start` on. A context manager: leaving it closes the engine."""

    def __init__(self, settings: Settings, load: Callable = load_checkpoint, serve: Callable = Engine):
        self.settings, self.engine, self.model, self.loading = settings, None, None, None
        self._load, self._serve = load, serve
        self._lock = threading.Lock()

    def __enter__(self) -> "ModelManager":
        return self

    def __exit__(self, *_: object) -> None:
        if self.engine is not None:
            self.engine.close()

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return self.engine is not None and self.engine.healthy

    @property
    def ready(self) -> bool:
        """Whether a request is answered at once; before, it waits for the programs."""
        return self.engine is not None and self.engine.ready

    def stats(self) -> Any:
        """What the engine is doing now."""
        return self.engine.stats()

    def estimate(self, name: str) -> Estimate:
        """What a model would take here. Raises what `llama_core.estimate` does."""
        context = self.settings.max_seq_len or LONGEST_AUTOMATIC_CONTEXT
        return estimate(name, self.settings.dtype, self.settings.slots, context)

    def plan(self) -> Plan:
        """What the served model takes."""
        stats = self.engine.stats()
        return Plan(self.model.config, self.model.dtype, stats.slots, stats.context_size // stats.slots)

    def start(self, name: str, progress: Progress) -> ModelLoading:
        """Load the first model. It can be looked at and asked at once, while its programs are compiled. Raises what
        `put` raises for a model that cannot be used."""
        self.engine, self.model = self._open(name, progress)
        self.loading = ModelLoading(self.model.name, lambda _, step: self.engine.warm_up(_step("compile", step)))
        return self.loading

    def begin(self, name: str) -> ModelLoading | None:
        """Load a model beside the one that is served, and then serve it. None if another one is on its way."""
        with self._lock:
            if self.loading is not None and not self.loading.ended:
                return None
            self.loading = ModelLoading(name, self.put)
            return self.loading

    def cancel(self) -> None:
        """Give up the model on its way in, unless it is the first: then there would be none."""
        if self.ready and self.loading is not None:
            self.loading.cancel()

    def put(self, name: str, progress: Progress) -> None:
        """Load `name` and serve it from now on; the engine before it ends when its replies have. Raises `HubError`,
        `ConfigError`, `ModelFileError`, `ChatError`, `EngineError`, `MemoryShortage`, and what `progress` does."""
        engine, model = self._open(name, progress)
        engine.warm_up(_step("compile", progress))
        before, self.engine, self.model = self.engine, engine, model
        if before is not None:
            threading.Thread(target=_drain, args=(before,), name="farewell", daemon=True).start()

    def _open(self, name: str, progress: Progress) -> tuple[Any, Any]:
        """An engine that is not warm yet, and its model."""
        settings, context = self.settings, self.settings.max_seq_len

        def check(config: Any, dtype: str) -> None:
            nonlocal context
            if context:
                require_memory(config, dtype, settings.slots, context)
            else:
                context = fitting_context(config, dtype, settings.slots)

        model = self._load(
            name, settings.dtype, _step("weights", progress), check=check, download=_step("download", progress)
        )
        return self._serve(model, settings.slots, context), model


def _step(name: str, progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _drain(engine: Any) -> None:
    end = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < end and (engine.stats().busy or engine.stats().queued):
        time.sleep(0.2)
    engine.close()

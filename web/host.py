"""The model that is served and the engine that serves it. Another pair takes their place while the page is open."""

import threading
import time
from collections.abc import Callable
from typing import Any

from llama_core import Engine, load_checkpoint
from llama_core.estimate import Estimate, estimate
from llama_core.hub import Cancelled
from llama_core.memory import Plan, require_memory
from web.settings import Settings

FAREWELL_SECONDS = 120  # how long replies of the model before may go on

Progress = Callable[[str, int, int], None]


class Loading:
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

    def cancel(self) -> None:
        """Ask for an end; it comes with the next step of progress."""
        self._cancel.set()

    def _run(self, work: Callable[[str, Progress], None]) -> None:
        try:
            work(self.name, self._progress)
        except Cancelled:
            self.cancelled = True
        except Exception as problem:  # whatever goes wrong is said on the page; the old model stays
            self.problem = problem

    def _progress(self, step: str, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise Cancelled
        self.step = step, done, total


class Host:
    """Holds `engine` and `model`. A context manager: leaving it closes the engine."""

    def __init__(self, settings: Settings, load: Callable = load_checkpoint, serve: Callable = Engine):
        self.settings, self.engine, self.model, self.loading = settings, None, None, None
        self._load, self._serve = load, serve
        self._lock = threading.Lock()

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        if self.engine is not None:
            self.engine.close()

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return self.engine is not None and self.engine.healthy

    def stats(self) -> Any:
        """What the engine is doing now."""
        return self.engine.stats()

    def estimate(self, name: str) -> Estimate:
        """What a model would take here. Raises what `llama_core.estimate` does."""
        return estimate(name, self.settings.dtype, self.settings.slots, self.settings.max_seq_len)

    def plan(self) -> Plan:
        """What the served model takes."""
        stats = self.engine.stats()
        return Plan(self.model.config, self.model.dtype, stats.slots, stats.context_size // stats.slots)

    def begin(self, name: str) -> Loading | None:
        """Load a model beside the one that is served, and then serve it. None if another one is on its way."""
        with self._lock:
            if self.loading is not None and not self.loading.ended:
                return None
            self.loading = Loading(name, self.put)
            return self.loading

    def put(self, name: str, progress: Progress) -> None:
        """Load `name` and serve it from now on; the engine before it ends when its replies have. Raises `HubError`,
        `ConfigError`, `ModelFileError`, `ChatError`, `EngineError`, `MemoryShortage`, and `Cancelled` if `progress`
        does."""
        settings = self.settings

        def step(name: str) -> Callable[[int, int], None]:
            return lambda done, total: progress(name, done, total)

        def check(config: Any, dtype: str) -> None:
            require_memory(config, dtype, settings.slots, settings.max_seq_len)

        model = self._load(name, settings.dtype, step("weights"), check=check, download=step("download"))
        engine = self._serve(model, settings.slots, settings.max_seq_len, step("compile"))
        before, self.engine, self.model = self.engine, engine, model
        if before is not None:
            threading.Thread(target=_farewell, args=(before,), name="farewell", daemon=True).start()


def _farewell(engine: Any) -> None:
    end = time.monotonic() + FAREWELL_SECONDS
    while time.monotonic() < end and (engine.stats().busy or engine.stats().queued):
        time.sleep(0.2)
    engine.close()

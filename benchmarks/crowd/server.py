"""The app as a process of its own, on loopback, which tells about itself at /watch: the longest hold of its event loop
since it was last asked, that loop's CPU time, memory, threads and files.

    python -m benchmarks.crowd.server --model random:tiny --slots 2

Prints its address. With `--pace` the programs need no model and take so many seconds a token.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from llama_core import SamplingParams
from llama_core.runtime.host_memory import return_freed_memory, spare_old_objects
from tests.helpers.fakes import PacedPrograms
from web.api.clients import Clients
from web.models.manager import ModelManager, engine_maker
from web.page.page import build_page
from web.port import claim_port, open_port, url_of
from web.server import Server, build_app
from web.settings import Settings

TICK = 0.001
POOLS = ("AnyIO worker", "asyncio_", "ThreadPoolExecutor")  # threads that wait for the next work


class Watch:
    """What the process costs."""

    def __init__(self, manager: ModelManager):
        self._manager, self._longest, self._collected, self._loop_thread = manager, 0.0, 0.0, 0

    async def tick(self) -> None:
        """Note by how much this task is woken late."""
        self._loop_thread = threading.get_ident()
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            if due > self._collected:
                self._longest = max(self._longest, time.perf_counter() - due)

    def told(self, collect: bool) -> dict[str, Any]:
        """Everything; with `collect` after what is no longer used was given back, a hold that does not count."""
        hold, self._longest = self._longest, 0.0
        if collect:
            gc.collect()
            return_freed_memory()
            self._collected = time.perf_counter()
        names = [thread.name for thread in threading.enumerate()]
        stats = self._manager.stats()
        return {
            "hold_ms": round(1e3 * hold, 1),
            "loop_cpu": time.clock_gettime(time.pthread_getcpuclockid(self._loop_thread)),
            "rss": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize(),
            "threads": sorted(name for name in names if not name.startswith(POOLS)),
            "pooled": sum(name.startswith(POOLS) for name in names),
            "files": len(os.listdir("/proc/self/fd")),
            "busy": stats.busy,
            "queued": stats.queued,
        }

    def own_speed(self, streams: int, tokens: int) -> float:
        """Tokens a second of so many replies at once, without HTTP."""
        engine, start = self._manager.served.engine, time.perf_counter()
        params = SamplingParams(temperature=0.0, max_new_tokens=tokens, ignore_eos=True)
        for request in [engine.submit([7 + number] * 16, params) for number in range(streams)]:
            list(request)
        return streams * tokens / (time.perf_counter() - start)


def add_routes(app: FastAPI, watch: Watch) -> None:
    """Before the page, which takes every path that is left."""

    @app.get("/watch")
    async def told(collect: bool = False) -> dict[str, Any]:
        return watch.told(collect)

    @app.get("/own-speed")
    def own_speed(streams: int, tokens: int) -> float:
        return statistics.median(watch.own_speed(streams, tokens) for _ in range(3))

    app.router.routes.sort(key=lambda route: getattr(route, "path", "") not in ("/watch", "/own-speed"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:tiny")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--max-seq-len", type=int, default=2048)
    parser.add_argument("--pace", type=float, default=0.0)
    options = parser.parse_args()
    settings = Settings(options.model, slots=options.slots, max_seq_len=options.max_seq_len)
    more = {"compile": lambda *given: PacedPrograms(given[2], options.pace)} if options.pace else {}
    serving = ModelManager(settings, serve=engine_maker(settings, **more))
    with serving as manager, claim_port("127.0.0.1", 0) as listener:
        manager.start(settings.model, lambda *_: None).wait()
        clients, watch = Clients(manager, settings), Watch(manager)
        app = build_app(build_page(manager, settings, clients), manager, settings, clients)
        add_routes(app, watch)
        spare_old_objects()  # as the app does once it is ready
        open_port(listener)
        print(url_of(listener), flush=True)
        asyncio.run(serve(Server(app, manager), listener, watch))


@contextlib.contextmanager
def server(*options: str) -> Iterator[str]:
    """Its address while it runs."""
    command = [sys.executable, "-m", "benchmarks.crowd.server", *options]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def serve(server: Server, listener: Any, watch: Watch) -> None:
    ticking = asyncio.create_task(watch.tick())
    await server.serve([listener])
    ticking.cancel()


if __name__ == "__main__":
    main()

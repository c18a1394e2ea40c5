"""One model on several hosts: the first serves people, the others follow it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from llama_core import Engine, load_checkpoint
from llama_core.checkpoint import Model
from llama_core.engine.hosts.follower import Follower
from llama_core.engine.hosts.leader import Leader
from llama_core.errors import UserError
from llama_core.runtime.hosts import join_hosts
from web.models.catalog import path_of
from web.models.manager import Serve, engine_maker
from web.settings import Settings


def is_first(settings: Settings) -> bool:
    """Whether this host serves people; with several hosts it waits for the others to find out. Raises `HostsError`."""
    return settings.hosts == 1 or join_hosts(settings.hosts, settings.coordinator, settings.host_id) == 0


@contextmanager
def engines(settings: Settings) -> Iterator[Serve]:
    """How the first host makes an engine. Raises `LostHost` if another one does not come."""
    if settings.hosts == 1:
        yield engine_maker(settings)
        return
    # Where the others found this host for JAX they find it for us.
    with Leader.gather(settings.coordinator.rpartition(":")[0].strip("[]")) as leader:
        leader.on_lost, make = _give_up, engine_maker(settings, compile=leader.compile)

        def serve(model: Model, slots: int, max_seq_len: int) -> Engine:
            engine = make(model, slots, max_seq_len)
            leader.on_lost = engine.fail
            return engine

        yield serve


def follow(settings: Settings) -> int:
    """Be one of the other hosts until the first has ended. The exit code. Raises what loading a model raises, and
    `LostHost`."""
    with Follower.connect(_give_up) as follower:
        model = load_checkpoint(
            path_of(settings.model),
            settings.dtype,
            quantize=settings.quantize,
            kernels=settings.kernels,
            mesh=settings.mesh,
        )
        print(f"{settings.title}: {model.name}, following the first host", flush=True)
        follower.follow(model)
    return 0


def _give_up(problem: UserError) -> None:
    """End now: threads may wait inside a program for what never comes, and Python would wait for them."""
    print(f"error: {problem}; start the app again on every host", file=sys.stderr, flush=True)
    os._exit(1)

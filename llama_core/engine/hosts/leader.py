"""The first host of several: it serves people, and tells the others every program that it dispatches, before it does.

All hosts compute the same programs in the same order, each on its own devices; what a program leaves for the host is
whole on every device, so the first host alone reads it.
"""

import contextlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from llama_core.engine.compiled import compile_programs
from llama_core.engine.device_state import Drawable, SlotState
from llama_core.engine.device_work import DeviceResult, PrefillChunk, Programs
from llama_core.engine.hosts.channel import LostHost, Message, send
from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params
from llama_core.runtime.arrays import AnyArray
from llama_core.runtime.forms import Form

GATHER_SECONDS = 60  # for the others to connect; JAX has joined them before
SILENCE_SECONDS = 6  # a host that says nothing for so long is lost
KEY_BYTES, ADDRESS_BYTES = 16, 256


def exchange_address(own: str = "", port: int = 0) -> tuple[str, int, bytes]:
    """Called on every host at once: the address and port at which the first listens, and the key that opens it. Only
    that one gives its `own`."""
    padded = np.frombuffer(own.encode().ljust(ADDRESS_BYTES, b"\0"), np.uint8)
    key = np.frombuffer(secrets.token_bytes(KEY_BYTES), np.uint8)
    address, key, where = multihost_utils.broadcast_one_to_all((padded, key, np.int32(port)))
    return bytes(address).rstrip(b"\0").decode(), int(where), bytes(key)


def own_address() -> str:
    """The address that this host has in its network, "127.0.0.1" without one. (Its name often stands for 127.0.1.1.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737); nothing is sent
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


class Leader:
    """The connections to the other hosts. A context manager: leaving it tells them that this is the end.

    `on_lost` is called, in a thread of its own, with the error when one of them is lost.
    """

    on_lost: Callable[[LostHost], None] = staticmethod(lambda problem: None)

    def __init__(self, connections: Sequence[socket.socket]):
        self._connections = list(connections)
        self._is_over = threading.Event()
        self._watches = [
            threading.Thread(target=self._watch, args=(host, connection), name=f"host {host}", daemon=True)
            for host, connection in enumerate(self._connections, start=1)
        ]
        for watch in self._watches:
            watch.start()

    @classmethod
    def gather(cls, address: str = "") -> "Leader":
        """Wait until every other host is connected to this `address` ("": that in its network). Raises `LostHost`."""
        with socket.create_server(("", 0)) as listener:
            listener.settimeout(GATHER_SECONDS)
            _, _, key = exchange_address(address or own_address(), listener.getsockname()[1])
            return cls(accept(listener, jax.process_count() - 1, key))

    def __enter__(self) -> "Leader":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for connection, watch in zip(self._connections, self._watches, strict=True):
            with contextlib.suppress(LostHost):  # it may have ended already
                send(connection, Message("end"))
            watch.join(SILENCE_SECONDS)  # until it has read that and closes: closed before, it may never read it
            connection.close()

    def tell(self, message: Message) -> None:
        """Say it to every other host. Raises `LostHost`."""
        for connection in self._connections:
            send(connection, message)

    def compile(
        self,
        params: Params,
        config: LlamaConfig,
        slots: int,
        max_seq_len: int,
        form: Form,
        progress: Callable[[int, int], None] | None = None,
    ) -> Programs:
        """`compile_programs` on every host. Raises `LostHost`."""
        self.tell(Message("compile", (slots, max_seq_len), text=config.to_json()))
        return LeadingPrograms(compile_programs(params, config, slots, max_seq_len, form, progress), self.tell)

    def _watch(self, host: int, connection: socket.socket) -> None:
        """Hear its signs of life until there are none."""
        try:
            connection.settimeout(SILENCE_SECONDS)
            while connection.recv(64):
                pass
            problem = "has ended"
        except OSError:
            problem = f"was silent for {SILENCE_SECONDS} seconds"
        if not self._is_over.is_set():
            self.on_lost(LostHost(f"host {host} of {len(self._connections) + 1} {problem}"))


def accept(listener: socket.socket, count: int, key: bytes) -> list[socket.socket]:
    """Connections to so many hosts that know the key; others are turned away. Raises `LostHost` when they do not come
    within the listener's time."""
    end, found = time.monotonic() + (listener.gettimeout() or GATHER_SECONDS), list[socket.socket]()
    while len(found) < count:
        if time.monotonic() > end:
            raise LostHost(f"{count - len(found)} of {count} other hosts did not connect; start the app on all of them")
        try:
            connection, _ = listener.accept()
            connection.settimeout(SILENCE_SECONDS)
            is_one = hmac.compare_digest(connection.recv(KEY_BYTES, socket.MSG_WAITALL), key)
        except OSError:  # nobody came, or somebody who said nothing
            continue
        if is_one:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.append(connection)
        else:
            connection.close()
    return found


class LeadingPrograms:
    """`Programs` of which every call is told to the other hosts first."""

    def __init__(self, programs: Programs, tell: Callable[[Message], None]):
        self._programs, self._tell = programs, tell

    @property
    def num_layer_groups(self) -> int:
        """In how many programs, one after the other, a chunk goes through the layers."""
        return self._programs.num_layer_groups

    def prepare(self, slot: int, row: SlotState, is_new: bool) -> None:
        """Give `slot` to a new request, or change how its reply is sampled from the next block on."""
        self._tell(Message("prepare", (slot, is_new), tuple(map(np.asarray, jax.tree.leaves(row)))))
        self._programs.prepare(slot, row, is_new)

    def allow(self, slot: int, allowed: Drawable) -> None:
        """Say what a constrained reply may go on with."""
        self._tell(Message("allow", (slot,), (allowed,)))
        self._programs.allow(slot, allowed)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the keys and values of the first `length` positions (or a few more) from one slot to another."""
        self._tell(Message("copy_prefix", (source, target, length)))
        self._programs.copy_prefix(source, target, length)

    def clear_slot(self, slot: int) -> None:
        """Zero the keys and values of a slot."""
        self._tell(Message("clear_slot", (slot,)))
        self._programs.clear_slot(slot)

    def start_prefill(self, slot: int, ids: Sequence[int], start: int) -> PrefillChunk:
        """A chunk of a prompt before the first layer."""
        self._tell(Message("start_prefill", (slot, start, *ids)))
        return self._programs.start_prefill(slot, ids, start)

    def prefill_layers(self, chunk: PrefillChunk, groups: int) -> DeviceResult:
        """Dispatch the chunk's next `groups` groups of layers."""
        self._tell(Message("prefill_layers", (chunk.slot, groups)))
        return self._programs.prefill_layers(chunk, groups)

    def sample_first(self, chunk: PrefillChunk) -> tuple[DeviceResult, AnyArray]:
        """Dispatch the first token of a reply."""
        self._tell(Message("sample_first", (chunk.slot,)))
        return self._programs.sample_first(chunk)

    def decode(self, slots: Collection[int], steps: int) -> DeviceResult:
        """Dispatch a block of up to `steps` tokens for each of these slots."""
        self._tell(Message("decode", (steps, *slots)))
        return self._programs.decode(slots, steps)

"""Every host but the first: it calls the programs that the first tells it to call, and reads none of their results."""

import socket
import threading
from collections.abc import Callable

import jax

from llama_core.engine.compiled import compile_programs
from llama_core.engine.device_state import new_slot_state
from llama_core.engine.device_work import EngineModel, PrefillChunk, Programs
from llama_core.engine.hosts.channel import LostHost, Message, receive
from llama_core.engine.hosts.leader import GATHER_SECONDS, exchange_address
from llama_core.model.config import LlamaConfig
from llama_core.runtime.forms import form_here
from llama_core.sampling.params import SamplingParams

SIGN_SECONDS = 1.0  # between two signs of life


class Follower:
    """The connection to the first host. A context manager.

    `on_lost` is called, in a thread of its own, with the error when the first host is lost: this one may be waiting for
    it inside a program.
    """

    def __init__(self, connection: socket.socket, on_lost: Callable[[LostHost], None]):
        self._connection, self._on_lost = connection, on_lost
        self._is_over = threading.Event()
        threading.Thread(target=self._give_signs, name="signs of life", daemon=True).start()

    @classmethod
    def connect(cls, on_lost: Callable[[LostHost], None]) -> "Follower":
        """Raises `LostHost` if the first host cannot be reached."""
        address, port, key = exchange_address()
        try:
            connection = socket.create_connection((address, port), GATHER_SECONDS)
            connection.settimeout(None)
            connection.sendall(key)
        except OSError as problem:
            raise LostHost(f"the first host cannot be reached at {address}, port {port} ({problem})") from None
        return cls(connection, on_lost)

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._connection.close()

    def follow(self, model: EngineModel) -> None:
        """Compute with the first host until it ends. Raises `LostHost` if it ends without saying so, and for another
        model than its own."""
        message = receive(self._connection)
        if message.call == "end":
            return
        if message.call != "compile" or message.text != model.config.to_json():
            raise LostHost("the first host serves another model; start the app with the same settings on every host")
        slots, max_seq_len = message.numbers
        form = form_here(model.params.dtype, model.config.head_dim)
        programs = compile_programs(model.params, model.config, slots, max_seq_len, form)
        replay = Replay(programs, model.config)
        while (message := receive(self._connection)).call != "end":
            replay.run(message)

    def _give_signs(self) -> None:
        while not self._is_over.wait(SIGN_SECONDS):
            try:
                self._connection.sendall(b".")
            except OSError:
                break
        if not self._is_over.is_set():
            self._on_lost(LostHost("the first host has ended"))


class Replay:
    """Calls the programs as the messages say. A chunk is known by its slot, which has one at a time."""

    def __init__(self, programs: Programs, config: LlamaConfig):
        self._programs = programs
        self._row = jax.tree.structure(new_slot_state([], [], 0, 0, [], SamplingParams(), config.vocab_size))
        self._chunks: dict[int, PrefillChunk] = {}

    def run(self, message: Message) -> None:
        """Raises `LostHost` for a message that is none of these."""
        match message:
            case Message("prepare", (slot, is_new), leaves):
                self._programs.prepare(slot, jax.tree.unflatten(self._row, leaves), bool(is_new))
            case Message("allow", (slot,), (allowed,)):
                self._programs.allow(slot, allowed)
            case Message("copy_prefix", (source, target, length)):
                self._programs.copy_prefix(source, target, length)
            case Message("clear_slot", (slot,)):
                self._programs.clear_slot(slot)
            case Message("start_prefill", (slot, start, *ids)):
                self._chunks[slot] = self._programs.start_prefill(slot, ids, start)
            case Message("prefill_layers", (slot, groups)):
                self._programs.prefill_layers(self._chunks[slot], groups)
            case Message("sample_first", (slot,)):
                self._programs.sample_first(self._chunks.pop(slot))
            case Message("decode", (steps, *slots)):
                self._programs.decode(slots, steps)
            case _:
                raise LostHost(f"the first host says {message.call!r}; start the same version on every host")

"""The few compiled programs: prepare a slot, copy a prefix, read a chunk of a prompt, draw the first token, decode a
block of tokens. Their shapes are fixed here, and all are compiled before the first request. The only place with
`jax.jit` on the serving path.

A program is one shape of one function: how many tokens or rows it takes. How much of the cache it looks at is data.
A chunk goes through the layers a few at a time, all by the same program: it is quick to compile, and other replies can
go on in between.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int32

from llama_core.engine.device_state import SlotTable, State, slot_row
from llama_core.engine.step_functions import (
    copy_prefix,
    decode_block,
    draw_first,
    embed_chunk,
    prepare_slot,
    read_chunk,
)
from llama_core.model.config import LlamaConfig
from llama_core.model.llama import init_cache
from llama_core.model.params import Params
from llama_core.model.rope import precompute_freqs_cis
from llama_core.runtime.compilation_cache import use_compilation_cache
from llama_core.runtime.forms import CHUNK_SIZES, LAYERS_AT_ONCE
from llama_core.runtime.host_memory import keep_freed_memory
from llama_core.sampling.params import SamplingParams


class Dispatched(NamedTuple):
    """Records on their way from the device, [T, N, P], and which of the N rows is which slot's. Without rows, something
    of any shape that is only waited for."""

    packed: Array | np.ndarray
    rows: dict[int, int]

    def read(self) -> dict[int, Int32[np.ndarray, "T P"]]:
        """Each slot's records, waited for."""
        host = np.asarray(self.packed)
        return {slot: host[:, row] for slot, row in self.rows.items()}


@dataclasses.dataclass
class Chunk:
    """The tokens of a prompt from `start` on, `length` of them, on their way through the layers: `hidden` came out of
    the last part that was run, `last` is the row of the last token, `done` is how many parts that makes."""

    slot: int
    start: int
    length: int
    hidden: Float[Array, "1 T D"]
    last: Float[Array, "1 D"] | None = None
    done: int = 0

    @property
    def size(self) -> int:
        """T: one of `CHUNK_SIZES`."""
        return self.hidden.shape[1]


@dataclasses.dataclass
class Programs:
    """The compiled programs of one model and cache, and the state that they pass on. Made by `compile_programs`.
    `windows` are the layers of each part that a chunk goes through."""

    params: Params
    state: State
    freqs_cis: Complex[Array, "C R"]
    windows: list[tuple[int | None, ...]]
    compiled: dict[tuple[Any, ...], Callable]

    @functools.cached_property
    def slots(self) -> int:
        """S: how many sequences the cache holds."""
        return self.state.slots.tokens.shape[0]

    @functools.cached_property
    def max_seq_len(self) -> int:
        """C: how many positions a slot has."""
        return self.state.cache.length

    def prepare(self, slot: int, row: SlotTable, is_new: bool) -> None:
        """Give `slot` to a new request, or change how its reply is sampled from the next block on."""
        self._run(("prepare",), np.int32(slot), row, np.bool_(is_new))

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions (or a few more) from one slot to another."""
        self._run(("copy",), np.int32(source), np.int32(target), np.int32(length))

    @functools.cached_property
    def parts(self) -> int:
        """In how many steps a chunk goes through the layers."""
        return len(self.windows)

    def begin_chunk(self, slot: int, ids: Sequence[int], start: int) -> Chunk:
        """A chunk of a prompt, of at most the largest of `CHUNK_SIZES`, before the first layer."""
        size = min(size for size in CHUNK_SIZES if size >= len(ids))
        tokens = np.zeros((1, size), np.int32)
        tokens[0, : len(ids)] = ids
        return Chunk(slot, start, len(ids), self.compiled["embed", size](self.params.token_embedding, tokens))

    def read(self, chunk: Chunk, parts: int) -> Dispatched:
        """Dispatch a chunk's next parts; nothing comes of it but that it can be waited for."""
        for windows in self.windows[chunk.done : chunk.done + parts]:
            here = slice(chunk.done * len(windows), (chunk.done + 1) * len(windows))
            cache = self.state.cache
            place = np.int32(chunk.slot), np.int32(chunk.start), np.int32(chunk.length)
            layers, (chunk.hidden, chunk.last) = self.compiled["read", chunk.size, windows](
                self.params.blocks[here], cache.layers[here], self.freqs_cis, chunk.hidden, *place
            )
            self.state = State(cache.with_layers(here, layers), self.state.slots)
            chunk.done += 1
        return Dispatched(chunk.last, {})

    def draw_first(self, chunk: Chunk) -> tuple[Dispatched, Array]:
        """Dispatch the first token of a reply, after all parts of its prompt's last chunk: its record, and the logits
        [V] from which it is drawn."""
        position = np.int32(chunk.start + chunk.length - 1)
        packed, scores = self._run(("draw",), chunk.last, np.int32(chunk.slot), position)
        packed.copy_to_host_async()
        return Dispatched(packed, {chunk.slot: 0}), scores

    def decode(self, slots: Collection[int], steps: int) -> Dispatched:
        """Dispatch a block of up to `steps` tokens for these slots."""
        alone = len(slots) == 1
        rows = list(slots) if alone else range(self.slots)
        active = np.array([slot in slots for slot in rows])
        packed = self._run(("decode", len(rows)), np.array(rows, np.int32), active, np.int32(steps))
        packed.copy_to_host_async()
        return Dispatched(packed, {slot: 0 if alone else slot for slot in slots})

    def run_each_once(self) -> None:
        """A program's first run, and its first over long blocks of the cache, take up to ten times as long as the next;
        nobody should wait for them."""
        endless = slot_row([], 0, 2**31 - 1, [], SamplingParams(), self.state.slots.context.bias.shape[1])
        self.prepare(0, endless, is_new=True)
        for size in CHUNK_SIZES:
            chunk = self.begin_chunk(0, [0] * size, max(0, self.max_seq_len - size - 2))
            self.read(chunk, self.parts)
        self.draw_first(chunk)[0].read()
        for slots in {1, self.slots}:
            self.decode(range(slots), 1).read()
        if self.slots > 1:
            self.copy_prefix(0, 1, 1)

    def _run(self, name: tuple[Any, ...], *arguments: Any) -> Any:
        self.state, result = self.compiled[name](self.params, self.state, self.freqs_cis, *arguments)
        return result


def compile_programs(
    params: Params,
    config: LlamaConfig,
    slots: int,
    max_seq_len: int,
    progress: Callable[[int, int], None] | None = None,
) -> Programs:
    """Allocate the cache, compile every program, several at once, and run each; `progress(done, total)` as it goes."""
    keep_freed_memory()
    use_compilation_cache(jax.devices()[0])
    dtype = params.dtype
    freqs_cis = jnp.asarray(precompute_freqs_cis(config, max_seq_len))
    empty = slot_row([], 0, 0, [], SamplingParams(), config.vocab_size)
    table = jax.tree.map(lambda column: jnp.repeat(jnp.asarray(column), slots, axis=0), empty)
    state = State(init_cache(config, slots, max_seq_len, dtype), table)
    windows = _windows(config)
    jobs = _program_table(config, params, state, freqs_cis, windows)

    def compile_one(name):
        function, arguments = jobs[name]
        # The state, or the layers of it, is donated, so that the cache is written in place.
        return name, jax.jit(function, donate_argnums=() if name[0] == "embed" else 1).lower(*arguments).compile()

    compiled = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, program in pool.map(compile_one, jobs):
            compiled[name] = program
            if progress is not None:
                progress(len(compiled), len(jobs))
    programs = Programs(params, state, freqs_cis, windows, compiled)
    programs.run_each_once()
    return programs


def _windows(config: LlamaConfig) -> list[tuple[int | None, ...]]:
    """The layers of each part of a chunk's way, as how far back each looks; equal parts share a program."""
    L = config.num_hidden_layers
    size = max(size for size in range(1, LAYERS_AT_ONCE + 1) if L % size == 0)
    return [tuple(config.window_of(i) for i in range(first, first + size)) for first in range(0, L, size)]


def _program_table(
    config: LlamaConfig,
    params: Params,
    state: State,
    freqs_cis: Complex[Array, "C R"],
    windows: list[tuple[int | None, ...]],
) -> dict[tuple[Any, ...], tuple[Callable, tuple]]:
    """Every program's name, function and example arguments, those that take longest to compile first."""
    number, flag = np.int32(0), np.bool_(False)
    S, dtype = state.slots.tokens.shape[0], params.dtype
    everything = params, state, freqs_cis
    table: dict[tuple[Any, ...], tuple[Callable, tuple]] = {}
    for count in {1, S}:
        arguments = np.zeros(count, np.int32), np.zeros(count, bool), number
        table["decode", count] = functools.partial(decode_block, config=config), (*everything, *arguments)
    for pattern, size in itertools.product(dict.fromkeys(windows), sorted(CHUNK_SIZES, reverse=True)):
        layers = state.cache.layers[: len(pattern)]
        hidden = jax.ShapeDtypeStruct((1, size, config.hidden_size), dtype)
        table["read", size, pattern] = (
            functools.partial(read_chunk, config=config, windows=pattern),
            (params.blocks[: len(pattern)], layers, freqs_cis, hidden, number, number, number),
        )
    last = jax.ShapeDtypeStruct((1, config.hidden_size), dtype)
    table["draw",] = functools.partial(draw_first, config=config), (*everything, last, number, number)
    row = slot_row([], 0, 0, [], SamplingParams(), config.vocab_size)
    table["prepare",] = prepare_slot, (*everything, number, row, flag)
    if S > 1:
        table["copy",] = copy_prefix, (*everything, number, number, number)
    for size in CHUNK_SIZES:
        table["embed", size] = embed_chunk, (params.token_embedding, np.zeros((1, size), np.int32))
    return table

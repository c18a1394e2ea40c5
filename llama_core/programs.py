"""The few compiled programs: prepare a slot, copy a prefix, prefill a chunk, decode a block of tokens. Their shapes are
fixed here, and all are compiled before the first request. The only place with `jax.jit` on the serving path.

A program is one shape of one function: how many tokens or rows it takes. How much of the cache it looks at is data.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, Int32

from llama_core.compilation_cache import use_compilation_cache
from llama_core.config import LlamaConfig
from llama_core.host_memory import keep_freed_memory
from llama_core.model import KVCache, hidden_states, init_cache, locate, logits, precompute_freqs_cis
from llama_core.params import Params
from llama_core.records import WIDTH, Status, pack
from llama_core.sampling import Context, Knobs, make_context, sample, stack_knobs
from llama_core.sampling_params import MAX_STOP_TOKENS, SamplingParams

# Prompts are read in chunks of these many tokens; pacing.py says when which (benchmarks/NOTES.md).
CHUNK_SIZES = (4, 16, 64, 256)

# A prefix is copied this many positions at a time.
COPY_BLOCK = 256

# A block is at most this many tokens of every reply.
MAX_STEPS = 16


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SlotTable:
    """What the device knows of each slot: its newest token and that token's place, whether more are to come, when it
    ends (`limits`: that many tokens in all; `stops`: token ids, filled up with -1) and how it is sampled."""

    tokens: Int[Array, "S"]
    positions: Int[Array, "S"]
    running: Bool[Array, "S"]
    limits: Int[Array, "S"]
    stops: Int[Array, "S M"]
    knobs: Knobs
    context: Context


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What stays on the device between programs. Every program takes the only one there is and gives back the next."""

    cache: KVCache
    slots: SlotTable


class Dispatched(NamedTuple):
    """Records on their way from the device, [T, N, P], and which of the N rows is which slot's."""

    packed: Int32[Array | np.ndarray, "T N P"]
    rows: dict[int, int]

    def read(self) -> dict[int, Int32[np.ndarray, "T P"]]:
        """Each slot's records, waited for."""
        host = np.asarray(self.packed)
        return {slot: host[:, row] for slot, row in self.rows.items()}


def slot_row(
    prompt_ids: Sequence[int], start: int, limit: int, stops: Sequence[int], params: SamplingParams, vocab_size: int
) -> SlotTable:
    """One slot's row of the table for a new request, S = 1, as host arrays; `start` tokens are in the cache already."""
    padded = np.full((1, MAX_STOP_TOKENS), -1, np.int32)
    padded[0, : len(stops)] = stops
    return SlotTable(
        tokens=np.zeros(1, np.int32), positions=np.array([start], np.int32), running=np.zeros(1, bool),
        limits=np.array([limit], np.int32), stops=padded, knobs=stack_knobs([params]),
        context=make_context(params, vocab_size, prompt_ids),
    )


def prepare_slot(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], slot: Int[Array, ""], row: SlotTable,
    is_new: Bool[Array, ""],
) -> tuple[State, None]:
    """Put `row` in the place of `slot`. Of a reply under way, its progress stays: only how it is sampled changes."""
    table = state.slots
    old = jax.tree.map(lambda column: column[slot][None], table)
    changed = dataclasses.replace(
        row, tokens=old.tokens, positions=old.positions, running=old.running,
        context=dataclasses.replace(row.context, counts=old.context.counts),
    )
    chosen = jax.tree.map(lambda new, kept: jnp.where(is_new, new, kept), row, changed)
    return State(state.cache, jax.tree.map(lambda column, new: column.at[slot].set(new[0]), table, chosen)), None


def copy_prefix(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], source: Int[Array, ""], target: Int[Array, ""],
    length: Int[Array, ""],
) -> tuple[State, None]:
    """Copy the first `length` positions of one slot's cache, or a few more, to another's."""
    size = min(COPY_BLOCK, state.cache.length)

    def copy_block(i, cache):
        def copy(layer: Float[Array, "S K C E"]) -> Float[Array, "S K C E"]:
            block = jax.lax.dynamic_slice(
                layer, (source, 0, i * size, 0), (1, layer.shape[1], size, layer.shape[3]))
            return jax.lax.dynamic_update_slice(layer, block, (target, 0, i * size, 0))

        return jax.tree.map(copy, cache)

    cache = jax.lax.fori_loop(0, (length + size - 1) // size, copy_block, state.cache)
    return State(cache, state.slots), None


def choose_token(
    params: Params, table: SlotTable, hidden: Float[Array, "B D"], active: Bool[Array, "B"]
) -> tuple[SlotTable, Int32[Array, "B P"], Float[Array, "B V"]]:
    """Draw each active row's next token and note it in the table, whose rows are those of `hidden`."""
    scores = logits(params, hidden)
    positions = table.positions + 1
    choice = sample(scores, table.knobs, table.context, positions)
    is_stop = jnp.any(choice.token[:, None] == table.stops, axis=-1)
    status = jnp.where(is_stop, Status.STOP, jnp.where(positions + 1 >= table.limits, Status.LENGTH, Status.GOING))
    status = jnp.where(active, status, Status.IDLE)
    counts = table.context.counts.at[jnp.arange(hidden.shape[0]), choice.token].add(active.astype(jnp.int32))
    table = dataclasses.replace(
        table,
        tokens=jnp.where(active, choice.token, table.tokens),
        positions=jnp.where(active, positions, table.positions),
        running=jnp.where(active, status == Status.GOING, table.running),
        context=dataclasses.replace(table.context, counts=counts),
    )
    return table, pack(status, choice), scores


def prefill_chunk(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], tokens: Int[Array, "1 T"], slot: Int[Array, ""],
    start: Int[Array, ""], length: Int[Array, ""], is_last: Bool[Array, ""], *, config: LlamaConfig,
) -> tuple[State, tuple[Int32[Array, "1 1 P"], Float[Array, "V"]]]:
    """Read the first `length` of these tokens into `slot` from position `start` on. After the last chunk, draw the
    token that follows; the scores that it is drawn from come along."""
    where = locate(start[None], tokens.shape[1], freqs_cis, filled=start + length, rows=slot[None])
    # Empty places of a chunk write nothing: what the slot remembers behind the prompt stays good.
    is_token = jnp.arange(tokens.shape[1]) < length
    where = dataclasses.replace(where, positions=jnp.where(is_token, where.positions, state.cache.length))
    hidden, cache = hidden_states(params, tokens, config, where, state.cache)
    table = dataclasses.replace(state.slots, positions=state.slots.positions.at[slot].set(start + length - 1))
    row = jax.tree.map(lambda column: column[slot][None], table)

    def draw():
        last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)[:, 0]
        return choose_token(params, row, last, jnp.ones(1, bool))

    def go_on():
        return row, jnp.zeros((1, WIDTH), jnp.int32), jnp.zeros((1, config.vocab_size), jnp.float32)

    row, packed, scores = jax.lax.cond(is_last, draw, go_on)
    table = jax.tree.map(lambda column, new: column.at[slot].set(new[0]), table, row)
    return State(cache, table), (packed[None], scores[0])


def decode_block(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], rows: Int[Array, "N"], active: Bool[Array, "N"],
    steps: Int[Array, ""], *, config: LlamaConfig,
) -> tuple[State, Int32[Array, "T N P"]]:
    """Up to `steps` tokens of every active row that is running; it ends early when none is. Fewer rows than slots cost
    less: one row is two to three times as fast on a CPU as all slots.

    A row that does not take part writes nothing, so that what its slot remembers stays good.
    """
    everyone = rows.shape[0] == state.slots.tokens.shape[0]
    pick = (lambda column: column) if everyone else (lambda column: column[rows])

    def put(column, new):
        return new if everyone else column.at[rows].set(new)

    def takes_part(table: SlotTable) -> Bool[Array, "N"]:
        return active & pick(table.running)

    def goes_on(carry):
        step, state, _ = carry
        return (step < steps) & jnp.any(takes_part(state.slots))

    def advance(carry):
        step, state, packed = carry
        takes = takes_part(state.slots)
        table = jax.tree.map(pick, state.slots)
        places = jnp.where(takes, table.positions, state.cache.length)
        filled = jnp.max(jnp.where(takes, table.positions, 0)) + 1
        where = locate(places, 1, freqs_cis, filled, rows=None if everyone else rows)
        hidden, cache = hidden_states(params, table.tokens[:, None], config, where, state.cache)
        table, records, _ = choose_token(params, table, hidden[:, 0], takes)
        return step + 1, State(cache, jax.tree.map(put, state.slots, table)), packed.at[step].set(records)

    nothing = jnp.zeros((MAX_STEPS, rows.shape[0], WIDTH), jnp.int32)
    _, state, packed = jax.lax.while_loop(goes_on, advance, (jnp.int32(0), state, nothing))
    return state, packed


@dataclasses.dataclass
class Programs:
    """The compiled programs of one model and cache, and the state that they pass on. Made by `compile_programs`."""

    params: Params
    state: State
    freqs_cis: Complex[Array, "C R"]
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

    def prefill(self, slot: int, ids: Sequence[int], start: int, is_last: bool) -> tuple[Dispatched, Array]:
        """Dispatch one chunk of a prompt, of at most the largest of `CHUNK_SIZES`; records and, after the last chunk,
        the logits [V] from which the first token was drawn."""
        size = min(size for size in CHUNK_SIZES if size >= len(ids))
        tokens = np.zeros((1, size), np.int32)
        tokens[0, : len(ids)] = ids
        place = np.int32(slot), np.int32(start), np.int32(len(ids)), np.bool_(is_last)
        packed, scores = self._run(("prefill", size), tokens, *place)
        packed.copy_to_host_async()
        return Dispatched(packed, {slot: 0}), scores

    def decode(self, slots: Collection[int], steps: int) -> Dispatched:
        """Dispatch a block of up to `steps` tokens for these slots."""
        alone = len(slots) == 1
        rows = list(slots) if alone else range(self.slots)
        active = np.array([slot in slots for slot in rows])
        packed = self._run(("decode", len(rows)), np.array(rows, np.int32), active, np.int32(steps))
        packed.copy_to_host_async()
        return Dispatched(packed, {slot: 0 if alone else slot for slot in slots})

    def run_each_once(self) -> None:
        """A program's first run takes up to ten times as long as the next; nobody should wait for it."""
        endless = slot_row([], 0, 2**31 - 1, [], SamplingParams(), self.state.slots.context.bias.shape[1])
        self.prepare(0, endless, is_new=True)
        for size in CHUNK_SIZES:
            self.prefill(0, [0] * size, 0, is_last=True)[0].read()
        for slots in {1, self.slots}:
            self.decode(range(slots), 1).read()
        if self.slots > 1:
            self.copy_prefix(0, 1, 1)

    def _run(self, name: tuple[Any, ...], *arguments: Any) -> Any:
        self.state, result = self.compiled[name](self.params, self.state, self.freqs_cis, *arguments)
        return result


def compile_programs(
    params: Params, config: LlamaConfig, slots: int, max_seq_len: int,
    progress: Callable[[int, int], None] | None = None,
) -> Programs:
    """Allocate the cache, compile every program, several at once, and run each; `progress(done, total)` as it goes."""
    keep_freed_memory()
    use_compilation_cache(jax.devices()[0])
    dtype = params.token_embedding.dtype
    freqs_cis = jnp.asarray(precompute_freqs_cis(config, max_seq_len))
    empty = slot_row([], 0, 0, [], SamplingParams(), config.vocab_size)
    table = jax.tree.map(lambda column: jnp.repeat(jnp.asarray(column), slots, axis=0), empty)
    state = State(init_cache(config, slots, max_seq_len, dtype), table)
    jobs = _program_table(config, slots, empty)

    def compile_one(name):
        function, arguments = jobs[name]
        # The state is donated, so that the cache is written in place.
        return name, jax.jit(function, donate_argnums=1).lower(params, state, freqs_cis, *arguments).compile()

    compiled = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, program in pool.map(compile_one, jobs):
            compiled[name] = program
            if progress is not None:
                progress(len(compiled), len(jobs))
    programs = Programs(params, state, freqs_cis, compiled)
    programs.run_each_once()
    return programs


def _program_table(
    config: LlamaConfig, slots: int, row: SlotTable
) -> dict[tuple[Any, ...], tuple[Callable, tuple]]:
    """Every program's name, function and example arguments (after params, state and angles)."""
    number, flag = np.int32(0), np.bool_(False)
    table: dict[tuple[Any, ...], tuple[Callable, tuple]] = {("prepare",): (prepare_slot, (number, row, flag))}
    for size in CHUNK_SIZES:
        arguments = np.zeros((1, size), np.int32), number, number, number, flag
        table["prefill", size] = functools.partial(prefill_chunk, config=config), arguments
    for count in {1, slots}:
        arguments = np.zeros(count, np.int32), np.zeros(count, bool), number
        table["decode", count] = functools.partial(decode_block, config=config), arguments
    if slots > 1:
        table["copy",] = copy_prefix, (number, number, number)
    return table

"""The few compiled programs: prefill a chunk, decode a token. Their shapes are fixed here, and all are compiled before
the first request. The only place with `jax.jit` on the serving path.

A program is one shape of one function: how many tokens or rows it takes, and how much of the cache it looks at.
"""

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Int

from llama_core.config import LlamaConfig
from llama_core.model import KVCache, hidden_states, init_cache, locate, logits, precompute_freqs_cis
from llama_core.params import Params
from llama_core.sampling import Knobs, SamplingParams, sample, stack_knobs

# Prompts are read in chunks of these many tokens. On two cores a chunk of 16 costs half of one of 64, and from 128 on
# time grows with the tokens (benchmarks/NOTES.md).
CHUNK_SIZES = (16, 128)

# Attention reads the first 256, 1024, 4096, … positions, whichever hold what is filled.
SMALLEST_WINDOW = 256
WINDOW_STEP = 4


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What stays on the device between programs: the cache, and each slot's newest token and that token's place."""

    cache: KVCache
    tokens: Int[Array, "S"]
    positions: Int[Array, "S"]


def windows_for(length: int) -> tuple[int, ...]:
    """The window sizes for a cache of `length` positions; the last one is all of it."""
    sizes = (SMALLEST_WINDOW * WINDOW_STEP**i for i in itertools.count())
    return (*itertools.takewhile(lambda size: size < length, sizes), length)


def split_prompt(length: int) -> list[int]:
    """How many tokens each prefill chunk of a prompt of `length` tokens takes."""
    small, large = CHUNK_SIZES
    chunks = []
    while length > 0:
        # Beyond a few small chunks, a large one with empty places is quicker.
        chunks.append(min(length, large if length > 3 * small else small))
        length -= chunks[-1]
    return chunks


def prefill_chunk(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], tokens: Int[Array, "1 T"], slot: Int[Array, ""],
    start: Int[Array, ""], length: Int[Array, ""], knobs: Knobs, *, config: LlamaConfig, window: int,
) -> tuple[State, Int[Array, "1"]]:
    """Read the first `length` of these tokens into `slot` from position `start` on, and draw the token that follows."""
    where = locate(start[None], tokens.shape[1], freqs_cis, window, rows=slot[None])
    hidden, cache = hidden_states(params, tokens, config, where, state.cache)
    last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)[:, 0]
    position = start + length
    token = sample(logits(params, last), knobs, position[None])
    return State(cache, state.tokens.at[slot].set(token[0]), state.positions.at[slot].set(position)), token


def decode_one(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], slot: Int[Array, ""], knobs: Knobs,
    *, config: LlamaConfig, window: int,
) -> tuple[State, Int[Array, "1"]]:
    """The next token of one slot. With one chat this is two to three times as fast on a CPU as a step of all slots."""
    where = locate(state.positions[slot][None], 1, freqs_cis, window, rows=slot[None])
    hidden, cache = hidden_states(params, state.tokens[slot][None, None], config, where, state.cache)
    position = state.positions[slot] + 1
    token = sample(logits(params, hidden[:, 0]), knobs, position[None])
    return State(cache, state.tokens.at[slot].set(token[0]), state.positions.at[slot].set(position)), token


def decode_all(
    params: Params, state: State, freqs_cis: Complex[Array, "C R"], active: Bool[Array, "S"], knobs: Knobs,
    *, config: LlamaConfig, window: int,
) -> tuple[State, Int[Array, "S"]]:
    """The next token of every active slot. The others write to their next free place, which is never looked at before
    it is written again."""
    where = locate(state.positions, 1, freqs_cis, window)
    hidden, cache = hidden_states(params, state.tokens[:, None], config, where, state.cache)
    positions = state.positions + active
    drawn = sample(logits(params, hidden[:, 0]), knobs, positions)
    tokens = jnp.where(active, drawn, state.tokens)
    return State(cache, tokens, positions), tokens


@dataclass
class Programs:
    """The compiled programs of one model and cache, and the state that they pass on. Made by `compile_programs`."""

    params: Params
    state: State
    freqs_cis: Complex[Array, "C R"]
    compiled: dict[tuple[Any, ...], Callable]

    @property
    def slots(self) -> int:
        """S: how many sequences the cache holds."""
        return self.state.tokens.shape[0]

    @functools.cached_property
    def max_seq_len(self) -> int:
        """C: how many positions a slot has."""
        return self.state.cache.length

    def prefill(self, slot: int, ids: list[int], start: int, params: SamplingParams) -> Int[Array, "1"]:
        """Dispatch one chunk of a prompt, of at most the largest of `CHUNK_SIZES`; the token drawn after it, not waited
        for."""
        size = min(size for size in CHUNK_SIZES if size >= len(ids))
        tokens = np.zeros((1, size), np.int32)
        tokens[0, : len(ids)] = ids
        place = np.int32(slot), np.int32(start), np.int32(len(ids))
        return self._run(("prefill", size, self._window(start + len(ids))), tokens, *place, stack_knobs([params]))

    def decode(self, running: dict[int, tuple[SamplingParams, int]]) -> dict[int, tuple[Array, int]]:
        """Dispatch one token for every running slot, given its parameters and the position it reads.

        Returns where each slot's token will be: an array, not waited for, and the index in it.
        """
        window = self._window(1 + max(position for _, position in running.values()))
        if len(running) == 1:
            [(slot, (params, _))] = running.items()
            return {slot: (self._run(("decode one", window), np.int32(slot), stack_knobs([params])), 0)}
        idle = SamplingParams(temperature=0.0)
        knobs = stack_knobs([running[slot][0] if slot in running else idle for slot in range(self.slots)])
        active = np.array([slot in running for slot in range(self.slots)])
        tokens = self._run(("decode all", window), active, knobs)
        return {slot: (tokens, slot) for slot in running}

    def _window(self, filled: int) -> int:
        return next(size for size in windows_for(self.max_seq_len) if size >= filled)

    def _run(self, name: tuple[Any, ...], *arguments: Any) -> Array:
        self.state, tokens = self.compiled[name](self.params, self.state, self.freqs_cis, *arguments)
        tokens.copy_to_host_async()
        return tokens


def compile_programs(
    params: Params, config: LlamaConfig, slots: int, max_seq_len: int,
    progress: Callable[[int, int], None] | None = None,
) -> Programs:
    """Allocate the cache and compile every program, several at a time; `progress(done, total)` after each one."""
    dtype = params.token_embedding.dtype
    freqs_cis = jnp.asarray(precompute_freqs_cis(config, max_seq_len))
    state = State(
        init_cache(config, slots, max_seq_len, dtype), jnp.zeros(slots, jnp.int32), jnp.zeros(slots, jnp.int32)
    )
    jobs = _program_table(config, slots, max_seq_len)

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
    return Programs(params, state, freqs_cis, compiled)


def _program_table(config: LlamaConfig, slots: int, max_seq_len: int) -> dict[tuple[Any, ...], tuple[Callable, tuple]]:
    """Every program's name, function and example arguments (after params, state and angles)."""
    number, one, all_slots = np.int32(0), stack_knobs([SamplingParams()]), stack_knobs([SamplingParams()] * slots)
    table = {}
    for window in windows_for(max_seq_len):
        fixed = {"config": config, "window": window}
        for size in CHUNK_SIZES:
            arguments = np.zeros((1, size), np.int32), number, number, number, one
            table["prefill", size, window] = functools.partial(prefill_chunk, **fixed), arguments
        table["decode one", window] = functools.partial(decode_one, **fixed), (number, one)
        if slots > 1:
            table["decode all", window] = functools.partial(decode_all, **fixed), (np.zeros(slots, bool), all_slots)
    return table

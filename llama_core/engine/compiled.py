"""The few compiled programs: prepare a slot, copy a cached prefix, prefill a chunk of a prompt, sample the first token,
decode a block of tokens. All are compiled before the first request, and this is the only place with `jax.jit` on the
serving path, so nothing that people do later can compile anything.

A program is one shape of one step function: how many tokens or rows it takes. How much of the cache it looks at is
data. A chunk goes through the layers a few at a time, every group by the same program: one program per chunk size is
quick to compile, and other replies can go on between two groups."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from llama_core.engine.device_state import DeviceState, SlotState, new_slot_state
from llama_core.engine.device_work import DeviceResult, PrefillChunk
from llama_core.engine.step_functions import (
    copy_prefix,
    decode_block,
    embed_tokens,
    prefill_layers,
    prepare_slot,
    sample_first,
)
from llama_core.model.config import LlamaConfig
from llama_core.model.kv_cache import init_cache
from llama_core.model.params import Block, Params
from llama_core.model.rope import precompute_freqs_cis
from llama_core.runtime.compilation_cache import use_compilation_cache
from llama_core.runtime.forms import Form
from llama_core.runtime.host_memory import keep_freed_memory
from llama_core.sampling.params import SamplingParams

# The sliding window of each layer of a group, and how its weights are stored; equal groups share their programs. (Files
# of small numbers often keep some layers in more bits than others.)
LayerGroup = tuple[tuple[int | None, Hashable], ...]

# A step function's name and shape, as the key of its program; the function and example arguments to compile it with.
ProgramTable = dict[tuple[Any, ...], tuple[Callable, tuple]]


@dataclasses.dataclass
class CompiledPrograms:
    """The compiled programs of one model and cache, and the state that they pass on. Made by `compile_programs`."""

    params: Params
    state: DeviceState
    freqs_cis: Complex[Array, "C R"]
    form: Form
    layer_groups: list[LayerGroup]
    compiled: dict[tuple[Any, ...], Callable]

    @functools.cached_property
    def slots(self) -> int:
        """S: how many sequences the cache holds."""
        return self.state.slots.tokens.shape[0]

    @functools.cached_property
    def max_seq_len(self) -> int:
        """C: how many positions a slot has."""
        return self.state.cache.length

    @functools.cached_property
    def num_layer_groups(self) -> int:
        """In how many programs, one after the other, a chunk goes through the layers."""
        return len(self.layer_groups)

    def prepare(self, slot: int, row: SlotState, is_new: bool) -> None:
        """Give `slot` to a new request, or change how its reply is sampled from the next block on."""
        self._run(("prepare",), np.int32(slot), row, np.bool_(is_new))

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the keys and values of the first `length` positions (or a few more) from one slot to another."""
        self._run(("copy",), np.int32(source), np.int32(target), np.int32(length))

    def start_prefill(self, slot: int, ids: Sequence[int], start: int) -> PrefillChunk:
        """A chunk of a prompt, of at most the largest chunk size, before the first layer."""
        size = min(size for size in self.form.chunk_sizes if size >= len(ids))
        tokens = np.zeros((1, size), np.int32)
        tokens[0, : len(ids)] = ids
        return PrefillChunk(slot, start, len(ids), self.compiled["embed", size](self.params.token_embedding, tokens))

    def prefill_layers(self, chunk: PrefillChunk, groups: int) -> DeviceResult:
        """Dispatch the chunk's next `groups` groups of layers. The result can only be waited for."""
        position = np.int32(chunk.slot), np.int32(chunk.start), np.int32(chunk.length)
        for group in self.layer_groups[chunk.groups_done : chunk.groups_done + groups]:
            which = slice(chunk.groups_done * len(group), (chunk.groups_done + 1) * len(group))
            cache = self.state.cache
            layers, (chunk.hidden, chunk.last) = self.compiled["prefill", chunk.size, group](
                self.params.blocks[which], cache.layers[which], self.freqs_cis, chunk.hidden, *position
            )
            self.state = DeviceState(cache.with_layers(which, layers), self.state.slots)
            chunk.groups_done += 1
        return DeviceResult(chunk.hidden, {})

    def sample_first(self, chunk: PrefillChunk) -> tuple[DeviceResult, Array]:
        """Dispatch the first token of a reply, when the prompt's last chunk is through all layers: its record, and the
        logits [V] that it is drawn from."""
        position = np.int32(chunk.start + chunk.length - 1)
        packed, logits = self._run(("sample_first",), chunk.last, np.int32(chunk.slot), position)
        packed.copy_to_host_async()
        return DeviceResult(packed, {chunk.slot: 0}), logits

    def decode(self, slots: Collection[int], steps: int) -> DeviceResult:
        """Dispatch a block of up to `steps` tokens for each of these slots. One slot alone has a program of its own: on
        a CPU a row of four takes 35 ms where one row takes 28 (135M parameters)."""
        alone = len(slots) == 1
        rows = list(slots) if alone else range(self.slots)
        active = np.array([slot in slots for slot in rows])
        packed = self._run(("decode", len(rows)), np.array(rows, np.int32), active, np.int32(steps))
        packed.copy_to_host_async()
        return DeviceResult(packed, {slot: 0 if alone else slot for slot in slots})

    def run_each_once(self) -> None:
        """Run every program, at the end of the cache: a program's first run, and its first over long blocks of the
        cache, take up to ten times as long as the next, and no request should pay for that."""
        vocab_size = self.state.slots.penalties.bias.shape[1]
        self.prepare(0, new_slot_state([], [], 0, 2**31 - 1, [], SamplingParams(), vocab_size), is_new=True)
        for size in self.form.chunk_sizes:
            chunk = self.start_prefill(0, [0] * size, max(0, self.max_seq_len - size - 2))
            self.prefill_layers(chunk, self.num_layer_groups)
        self.sample_first(chunk)[0].to_host()
        for slots in {1, self.slots}:
            self.decode(range(slots), 1).to_host()
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
    form: Form,
    progress: Callable[[int, int], None] | None = None,
) -> CompiledPrograms:
    """Allocate the cache, compile every program, several at once, and run each; `progress(done, total)` counts them."""
    keep_freed_memory()
    use_compilation_cache(jax.devices()[0])
    freqs_cis = jnp.asarray(precompute_freqs_cis(config, max_seq_len))
    empty = new_slot_state([], [], 0, 0, [], SamplingParams(), config.vocab_size)
    table = jax.tree.map(lambda column: jnp.repeat(jnp.asarray(column), slots, axis=0), empty)
    state = DeviceState(init_cache(config, slots, max_seq_len, params.dtype), table)
    layer_groups = _layer_groups(config, params, form)
    jobs = _program_table(config, params, state, freqs_cis, form, layer_groups)

    def compile_one(name: tuple[Any, ...]) -> tuple[tuple[Any, ...], Callable]:
        function, arguments = jobs[name]
        # The state, or the layers of it, is donated, so that the cache is written in place.
        return name, jax.jit(function, donate_argnums=() if name[0] == "embed" else 1).lower(*arguments).compile()

    compiled = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, program in pool.map(compile_one, jobs):
            compiled[name] = program
            if progress is not None:
                progress(len(compiled), len(jobs))
    programs = CompiledPrograms(params, state, freqs_cis, form, layer_groups, compiled)
    programs.run_each_once()
    return programs


def _layer_groups(config: LlamaConfig, params: Params, form: Form) -> list[LayerGroup]:
    L = config.num_hidden_layers
    size = max(size for size in range(1, form.layers_per_group + 1) if L % size == 0)
    layers = [(config.window_of(i), _storage(block)) for i, block in enumerate(params.blocks)]
    return [tuple(layers[first : first + size]) for first in range(0, L, size)]


def _storage(block: Block) -> Hashable:
    """What two blocks have in common when one program can run both."""
    return jax.tree.structure(block), tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(block))


def _program_table(
    config: LlamaConfig,
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    form: Form,
    layer_groups: list[LayerGroup],
) -> ProgramTable:
    """Every program, those that take longest to compile first."""
    number, flag = np.int32(0), np.bool_(False)
    S = state.slots.tokens.shape[0]
    everything = params, state, freqs_cis
    table: ProgramTable = {}
    for count in {1, S}:
        arguments = np.zeros(count, np.int32), np.zeros(count, bool), number
        decode = functools.partial(decode_block, config=config, max_steps=form.max_block_steps)
        table["decode", count] = decode, (*everything, *arguments)
    for group, size in itertools.product(dict.fromkeys(layer_groups), sorted(form.chunk_sizes, reverse=True)):
        layers = state.cache.layers[: len(group)]
        first = layer_groups.index(group) * len(group)
        hidden = jax.ShapeDtypeStruct((1, size, config.hidden_size), params.dtype)
        table["prefill", size, group] = (
            functools.partial(prefill_layers, config=config, sliding_windows=tuple(window for window, _ in group)),
            (params.blocks[first : first + len(group)], layers, freqs_cis, hidden, number, number, number),
        )
    last = jax.ShapeDtypeStruct((1, config.hidden_size), params.dtype)
    table["sample_first",] = functools.partial(sample_first, config=config), (*everything, last, number, number)
    row = new_slot_state([], [], 0, 0, [], SamplingParams(), config.vocab_size)
    table["prepare",] = prepare_slot, (*everything, number, row, flag)
    if S > 1:
        table["copy",] = copy_prefix, (*everything, number, number, number)
    for size in form.chunk_sizes:
        table["embed", size] = embed_tokens, (params.token_embedding, np.zeros((1, size), np.int32))
    return table

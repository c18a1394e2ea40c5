"""The few compiled programs: prepare a slot, copy a cached prefix, prefill a chunk of a prompt, sample the first token,
decode a block of tokens. All are compiled before the first request, and this is the only place with `jax.jit` on the
serving path, so nothing that people do later can compile anything.

A program is one shape of one step function: how many tokens or rows it takes. In the plain form, how much of the cache
it looks at is data, and so is what the replies want. In a straight form (no loops, no branches) the host chooses among
programs for it. A chunk goes through the layers a few at a time, every group by the same program: one program per chunk
size is quick to compile, and other replies can go on between two groups."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from llama_core.engine import step_functions, straight_steps
from llama_core.engine.device_state import DeviceState, Drawable, SlotState, new_slot_state
from llama_core.engine.device_work import DeviceResult, PrefillChunk
from llama_core.model.config import LlamaConfig
from llama_core.model.gpu_attention import MODEL_FORMS
from llama_core.model.kv_cache import init_cache
from llama_core.model.mesh.sharding import cache_sharding, jit_over, mesh_of, on_every_device, part_of, with_collectives
from llama_core.model.params import Block, Params
from llama_core.model.rope import precompute_freqs_cis
from llama_core.runtime.compilation_cache import use_compilation_cache
from llama_core.runtime.cores import usable_cores
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
    # What the host knows of each slot, to choose among programs: where its tokens end at the latest, and whether its
    # reply wants alternatives.
    _ends: dict[int, int] = dataclasses.field(default_factory=dict)
    _wants_alternatives: dict[int, bool] = dataclasses.field(default_factory=dict)

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
        self._wants_alternatives[slot] = bool(row.sampling.wants_alternatives[0])
        self._run(("prepare",), np.int32(slot), row, np.bool_(is_new))

    def allow(self, slot: int, allowed: Drawable) -> None:
        """Say what a constrained reply may go on with; it takes part in the next block again, with one token."""
        self._run(("allow",), np.int32(slot), allowed)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the keys and values of the first `length` positions (or a few more) from one slot to another."""
        self._run(("copy",), np.int32(source), np.int32(target), np.int32(length))

    def clear_slot(self, slot: int) -> None:
        """Zero the keys and values of a slot."""
        self._run(("clear",), np.int32(slot))

    def start_prefill(self, slot: int, ids: Sequence[int], start: int) -> PrefillChunk:
        """A chunk of a prompt, of at most the largest chunk size, before the first layer."""
        size = min(size for size in self.form.chunks_of(self.max_seq_len) if size >= len(ids))
        tokens = np.zeros((1, size), np.int32)
        tokens[0, : len(ids)] = ids
        return PrefillChunk(slot, start, len(ids), self.compiled["embed", size](self.params.token_embedding, tokens))

    def prefill_layers(self, chunk: PrefillChunk, groups: int) -> DeviceResult:
        """Dispatch the chunk's next `groups` groups of layers. The result can only be waited for."""
        position = np.int32(chunk.slot), np.int32(chunk.start), np.int32(chunk.length)
        self._ends[chunk.slot] = chunk.start + chunk.length
        window = self._window([chunk.slot])
        for group in self.layer_groups[chunk.groups_done : chunk.groups_done + groups]:
            which = slice(chunk.groups_done * len(group), (chunk.groups_done + 1) * len(group))
            cache = self.state.cache
            layers, (chunk.hidden, chunk.last) = self.compiled["prefill", chunk.size, group, window](
                self.params.blocks[which], cache.layers[which], self.freqs_cis, chunk.hidden, *position
            )
            self.state = DeviceState(cache.with_layers(which, layers), self.state.slots)
            chunk.groups_done += 1
        return DeviceResult(chunk.hidden, {})

    def sample_first(self, chunk: PrefillChunk) -> tuple[DeviceResult, Array]:
        """Dispatch the first token of a reply, when the prompt's last chunk is through all layers: its record, and the
        logits [V] that it is drawn from."""
        position = np.int32(chunk.start + chunk.length - 1)
        name = "sample_first", self._alternatives([chunk.slot])
        packed, logits = self._run(name, chunk.last, np.int32(chunk.slot), position)
        packed.copy_to_host_async()
        return DeviceResult(packed, {chunk.slot: 0}), logits

    def decode(self, slots: Collection[int], steps: int) -> DeviceResult:
        """Dispatch a block of up to `steps` tokens for each of these slots. One slot alone has a program of its own: on
        a CPU a row of four takes 35 ms where one row takes 28 (135M parameters)."""
        alone = len(slots) == 1
        rows = list(slots) if alone else range(self.slots)
        active = np.array([slot in slots for slot in rows])
        for slot in slots:
            self._ends[slot] = self._ends.get(slot, 0) + steps
        name = "decode", len(rows), self._window(slots), self._alternatives(slots)
        how_many = () if self.form.is_straight else (np.int32(steps),)
        packed = self._run(name, np.array(rows, np.int32), active, *how_many)
        packed.copy_to_host_async()
        return DeviceResult(packed, {slot: 0 if alone else slot for slot in slots})

    def run_each_once(self) -> None:
        """Run every program, at the end of the cache: a program's first run, and its first over long blocks of the
        cache, take up to ten times as long as the next, and no request should pay for that."""
        vocab_size = self.state.slots.penalties.bias.shape[1]
        windows = self.form.windows_of(self.max_seq_len)
        for logprobs, window in itertools.product((1, None) if self.form.is_straight else (None,), windows):
            row = new_slot_state([], [], 0, 2**31 - 1, [], SamplingParams(logprobs=logprobs), vocab_size)
            for slot in range(self.slots):
                self.prepare(slot, row, is_new=True)
            for size in self.form.chunks_of(self.max_seq_len):
                chunk = self.start_prefill(0, [0] * size, max(0, (window or self.max_seq_len) - size - 2))
                self.prefill_layers(chunk, self.num_layer_groups)
            self.sample_first(chunk)[0].to_host()
            for slots in {1, self.slots}:
                self._ends[0] = (window or self.max_seq_len) - 1
                self.decode(range(slots), 1).to_host()
        if self.slots > 1:
            self.copy_prefix(0, 1, 1)
        self.clear_slot(0)
        self.allow(0, np.ones(vocab_size, bool))

    def _window(self, slots: Collection[int]) -> int | None:
        """The shortest window with all tokens of these slots."""
        end = max(self._ends[slot] for slot in slots)
        return next(size for size in self.form.windows_of(self.max_seq_len) if size is None or size >= end)

    def _alternatives(self, slots: Collection[int]) -> bool:
        """Whether the program has to find alternatives; in the plain form all do if asked."""
        return not self.form.is_straight or any(self._wants_alternatives.get(slot, False) for slot in slots)

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
    layout, mesh = MODEL_FORMS[form.attention].layout, mesh_of(params)
    cache = init_cache(config, slots, max_seq_len, params.dtype, layout, cache_sharding(config, layout, mesh))
    freqs_cis, table = on_every_device((freqs_cis, table), mesh)
    params, state = with_collectives(params, config, mesh), DeviceState(cache, table)
    layer_groups = _layer_groups(config, params, form)
    jobs = program_table(part_of(config, mesh), params, state, freqs_cis, form, layer_groups)

    def compile_one(name: tuple[Any, ...]) -> tuple[tuple[Any, ...], Callable]:
        function, arguments = jobs[name]
        # The state, or the layers of it, is donated, so that the cache is written in place.
        return name, jit_over(mesh, function, arguments, donates=name[0] != "embed").lower(*arguments).compile()

    compiled = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
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


def program_table(
    config: LlamaConfig,
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    form: Form,
    layer_groups: list[LayerGroup],
) -> ProgramTable:
    """Every program, those that take longest to compile first."""
    number, S = np.int32(0), state.slots.tokens.shape[0]
    windows, sizes = form.windows_of(state.cache.length), form.chunks_of(len(freqs_cis))
    everything, table = (params, state, freqs_cis), ProgramTable()
    answers = (True, False) if form.is_straight else (True,)
    for count, window, alternatives in itertools.product(sorted({1, S}), windows, answers):
        rows = np.zeros(count, np.int32), np.zeros(count, bool), *(() if form.is_straight else (number,))
        decode = _decode_function(config, form, count == S, window, alternatives)
        table["decode", count, window, alternatives] = decode, (*everything, *rows)
    for group, size, window in itertools.product(dict.fromkeys(layer_groups), sizes[::-1], windows):
        start = layer_groups.index(group) * len(group)
        hidden = jax.ShapeDtypeStruct((1, size, config.hidden_size), params.dtype)
        layers, sliding_windows = state.cache.layers[: len(group)], tuple(sliding_window for sliding_window, _ in group)
        settings = dict(config=config, sliding_windows=sliding_windows, form=MODEL_FORMS[form.attention], window=window)
        table["prefill", size, group, window] = (
            functools.partial(step_functions.prefill_layers, **settings),
            (params.blocks[start : start + len(group)], layers, freqs_cis, hidden, number, number, number),
        )
    last = jax.ShapeDtypeStruct((1, config.hidden_size), params.dtype)
    for alternatives in answers:
        first = _first_function(config, form, alternatives)
        table["sample_first", alternatives] = first, (*everything, last, number, number)
    row = new_slot_state([], [], 0, 0, [], SamplingParams(), config.vocab_size)
    table["prepare",] = step_functions.prepare_slot, (*everything, number, row, np.bool_(False))
    table["allow",] = step_functions.allow, (*everything, number, row.drawable[0])
    table["clear",] = step_functions.clear_slot, (*everything, number)
    if S > 1:
        copy = straight_steps.copy_slot if form.is_straight else step_functions.copy_prefix
        table["copy",] = copy, (*everything, number, number, number)
    for size in sizes:
        table["embed", size] = step_functions.embed_tokens, (params.token_embedding, np.zeros((1, size), np.int32))
    return table


def _decode_function(
    config: LlamaConfig, form: Form, everyone: bool, window: int | None, alternatives: bool
) -> Callable[..., Any]:
    if not form.is_straight:
        return functools.partial(step_functions.decode_block, config=config, max_steps=form.max_block_steps)
    decode = straight_steps.decode_all if everyone else straight_steps.decode_one
    model_form = MODEL_FORMS[form.attention]
    return functools.partial(decode, config=config, form=model_form, window=window, alternatives=alternatives)


def _first_function(config: LlamaConfig, form: Form, alternatives: bool) -> Callable[..., Any]:
    if not form.is_straight:
        return functools.partial(step_functions.sample_first, config=config)
    return functools.partial(straight_steps.sample_first, config=config, alternatives=alternatives)

"""The step functions without a loop or a branch, for GPUs: one token a program, and what no reply wants is left out by
the host's choice of program or computed all the same. Few small arrays are picked and put back one by one, because each
of those costs a launch.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int, Int32

from llama_core.engine.device_state import DeviceState, SlotState
from llama_core.engine.step_functions import next_token, with_counts
from llama_core.model import kv_cache
from llama_core.model.attention import ModelForm, make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.llama import hidden_states, rms_norm
from llama_core.model.params import Params
from llama_core.runtime.arrays import AnyArray
from llama_core.sampling.sampler import sample
from llama_core.sampling.thresholds import STRAIGHT


def copy_slot(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    source: Int[Array, ""],
    target: Int[Array, ""],
    length: Int[Array, ""],
) -> tuple[DeviceState, None]:
    """Copy all of one slot's cache to another's, however long the wanted prefix is."""
    return DeviceState(kv_cache.copy_slot(state.cache, source, target), state.slots), None


def sample_first(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    last: Float[Array, "1 D"],
    slot: Int[Array, ""],
    position: Int[Array, ""],
    *,
    config: LlamaConfig,
    alternatives: bool,
) -> tuple[DeviceState, tuple[Int32[Array, "1 1 P"], Float[Array, "V"]]]:
    """Sample the token that follows a prompt, as `step_functions.sample_first` does."""
    row = dataclasses.replace(_row_of(state.slots, slot), positions=position[None])
    hidden = rms_norm(last, params.norm, config.rms_norm_eps)
    table, packed, scores = _choose_one(params, state.slots, row, slot, hidden, jnp.ones(1, bool), alternatives)
    return DeviceState(state.cache, table), (packed, scores[0])


def decode_one(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    slot: Int[Array, "1"],
    active: Bool[Array, "1"],
    *,
    config: LlamaConfig,
    form: ModelForm,
    window: int | None,
    alternatives: bool,
) -> tuple[DeviceState, Int32[Array, "1 1 P"]]:
    """One token of one slot, if its reply goes on."""
    row = _row_of(state.slots, slot[0])
    takes_part = active & row.running
    # Also where the reply has ended: its newest token's keys and values belong there, and nobody relies on them.
    context = make_attention_context(
        jnp.asarray(row.positions), 1, freqs_cis, cache_rows=slot, form=form, window=window, has_place=True
    )
    hidden, cache = hidden_states(params, row.tokens[:, None], config, context, state.cache)
    assert cache is not None
    table, packed, _ = _choose_one(params, state.slots, row, slot[0], hidden[:, 0], takes_part, alternatives)
    return DeviceState(cache, table), packed


def decode_all(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    slots: Int[Array, "S"],
    active: Bool[Array, "S"],
    *,
    config: LlamaConfig,
    form: ModelForm,
    window: int | None,
    alternatives: bool,
) -> tuple[DeviceState, Int32[Array, "1 S P"]]:
    """One token of every active slot whose reply goes on. `slots` are all there are, in order."""
    table = state.slots
    takes_part = active & table.running
    positions = jnp.where(takes_part, table.positions, state.cache.length)
    context = make_attention_context(positions, 1, freqs_cis, form=form, window=window)
    hidden, cache = hidden_states(params, table.tokens[:, None], config, context, state.cache)
    assert cache is not None
    table, token, packed, _ = next_token(params, table, hidden[:, 0], takes_part, _sampler(alternatives))
    counts = jnp.asarray(table.penalties.counts).at[slots, token].add(takes_part.astype(jnp.int32))
    return DeviceState(cache, with_counts(table, counts)), packed[None]


def _sampler(alternatives: bool) -> functools.partial:
    return functools.partial(sample, form=STRAIGHT, alternatives=alternatives)


def _row_of(table: SlotState, slot: Int[Array, ""]) -> SlotState:
    return jax.tree.map(lambda column: jax.lax.dynamic_slice_in_dim(column, slot, 1), table)


def _choose_one(
    params: Params,
    table: SlotState,
    row: SlotState,
    slot: Int[Array, ""],
    hidden: Float[Array, "1 D"],
    active: Bool[Array, "1"],
    alternatives: bool,
) -> tuple[SlotState, Int32[Array, "1 1 P"], Float[Array, "1 V"]]:
    """Sample one row's token and record it in the state of all slots: only what it changes is put back."""
    row, token, packed, scores = next_token(params, row, hidden, active, _sampler(alternatives))

    def put(column: AnyArray, new: AnyArray) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(column, new, slot, 0)

    changed = dataclasses.replace(
        table,
        tokens=put(table.tokens, row.tokens),
        positions=put(table.positions, row.positions),
        running=put(table.running, row.running),
    )
    counts = jnp.asarray(table.penalties.counts).at[slot, token].add(active.astype(jnp.int32))
    return with_counts(changed, counts), packed[None], scores

"""What the device does for the engine, as pure functions: give a slot to a request, copy a prefix, read a chunk of a
prompt, draw the first token, decode a block of tokens. programs.py compiles them."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int, Int32

from llama_core.engine.device_state import SlotTable, State
from llama_core.engine.records import WIDTH, Status, pack
from llama_core.model import kv_cache
from llama_core.model.attention import make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.kv_cache import LayerCache
from llama_core.model.linear import embed
from llama_core.model.llama import hidden_states, logits, rms_norm, run_blocks
from llama_core.model.params import Block, Params
from llama_core.runtime.forms import MAX_STEPS
from llama_core.sampling.sampler import sample


def prepare_slot(
    params: Params,
    state: State,
    freqs_cis: Complex[Array, "C R"],
    slot: Int[Array, ""],
    row: SlotTable,
    is_new: Bool[Array, ""],
) -> tuple[State, None]:
    """Put `row` in the place of `slot`. Of a reply under way, its progress stays: only how it is sampled changes."""
    table = state.slots
    old = jax.tree.map(lambda column: column[slot][None], table)
    changed = dataclasses.replace(
        row,
        tokens=old.tokens,
        positions=old.positions,
        running=old.running,
        context=dataclasses.replace(row.context, counts=old.context.counts),
    )
    chosen = jax.tree.map(lambda new, kept: jnp.where(is_new, new, kept), row, changed)
    return State(state.cache, jax.tree.map(lambda column, new: column.at[slot].set(new[0]), table, chosen)), None


def copy_prefix(
    params: Params,
    state: State,
    freqs_cis: Complex[Array, "C R"],
    source: Int[Array, ""],
    target: Int[Array, ""],
    length: Int[Array, ""],
) -> tuple[State, None]:
    """Copy the first `length` positions of one slot's cache, or a few more, to another's."""
    return State(kv_cache.copy_prefix(state.cache, source, target, length), state.slots), None


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


def embed_chunk(embedding: Float[Array, "V D"], tokens: Int[Array, "1 T"]) -> Float[Array, "1 T D"]:
    """What goes into the first layer."""
    return embed(embedding, tokens)


def read_chunk(
    blocks: tuple[Block, ...],
    layers: tuple[LayerCache, ...],
    freqs_cis: Complex[Array, "C R"],
    hidden: Float[Array, "1 T D"],
    slot: Int[Array, ""],
    start: Int[Array, ""],
    length: Int[Array, ""],
    *,
    config: LlamaConfig,
    windows: tuple[int | None, ...],
) -> tuple[tuple[LayerCache, ...], tuple[Float[Array, "1 T D"], Float[Array, "1 D"]]]:
    """Take the first `length` of these tokens through some layers, into `slot` from position `start` on. What comes
    out, and the last token's row of it."""
    where = make_attention_context(
        start[None], hidden.shape[1], freqs_cis, kv_length=start + length, cache_rows=slot[None]
    )
    # Empty places of a chunk write nothing: what the slot remembers behind the prompt stays good.
    is_token = jnp.arange(hidden.shape[1]) < length
    where = dataclasses.replace(where, positions=jnp.where(is_token, where.positions, len(freqs_cis)))
    hidden, layers = run_blocks(blocks, hidden, config, where, windows, layers)
    return layers, (hidden, jax.lax.dynamic_index_in_dim(hidden, length - 1, axis=1, keepdims=False))


def draw_first(
    params: Params,
    state: State,
    freqs_cis: Complex[Array, "C R"],
    last: Float[Array, "1 D"],
    slot: Int[Array, ""],
    position: Int[Array, ""],
    *,
    config: LlamaConfig,
) -> tuple[State, tuple[Int32[Array, "1 1 P"], Float[Array, "V"]]]:
    """Draw the token that follows a prompt whose last token, at `position`, came out of the layers as `last`; the
    scores that it is drawn from come along."""
    table = dataclasses.replace(state.slots, positions=state.slots.positions.at[slot].set(position))
    row = jax.tree.map(lambda column: column[slot][None], table)
    row, packed, scores = choose_token(params, row, rms_norm(last, params.norm, config.rms_norm_eps), jnp.ones(1, bool))
    table = jax.tree.map(lambda column, new: column.at[slot].set(new[0]), table, row)
    return State(state.cache, table), (packed[None], scores[0])


def decode_block(
    params: Params,
    state: State,
    freqs_cis: Complex[Array, "C R"],
    rows: Int[Array, "N"],
    active: Bool[Array, "N"],
    steps: Int[Array, ""],
    *,
    config: LlamaConfig,
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
        kv_length = jnp.max(jnp.where(takes, table.positions, 0)) + 1
        where = make_attention_context(places, 1, freqs_cis, kv_length, cache_rows=None if everyone else rows)
        hidden, cache = hidden_states(params, table.tokens[:, None], config, where, state.cache)
        table, records, _ = choose_token(params, table, hidden[:, 0], takes)
        return step + 1, State(cache, jax.tree.map(put, state.slots, table)), packed.at[step].set(records)

    nothing = jnp.zeros((MAX_STEPS, rows.shape[0], WIDTH), jnp.int32)
    _, state, packed = jax.lax.while_loop(goes_on, advance, (jnp.int32(0), state, nothing))
    return state, packed

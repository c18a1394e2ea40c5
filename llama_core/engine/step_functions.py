"""What the device does for the engine, as pure functions: give a slot to a request, copy a cached prefix, prefill a
chunk of a prompt, sample the first token, decode a block of tokens. compiled.py compiles them."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int, Int32

from llama_core.engine.device_state import DeviceState, SlotState
from llama_core.engine.records import WIDTH, Status, pack
from llama_core.model import kv_cache
from llama_core.model.attention import PLAIN, ModelForm, make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.kv_cache import LayerCache
from llama_core.model.linear import embed
from llama_core.model.llama import hidden_states, logits, rms_norm, run_blocks
from llama_core.model.mesh.collectives import Weight
from llama_core.model.params import Block, Params
from llama_core.sampling.sampler import SampledToken, sample


def prepare_slot(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    slot: Int[Array, ""],
    row: SlotState,
    is_new: Bool[Array, ""],
) -> tuple[DeviceState, None]:
    """Make `row` the state of `slot`. Unless it is new, the reply's progress stays and only how it is sampled
    changes."""
    table = state.slots
    old = jax.tree.map(lambda column: column[slot][None], table)
    changed = dataclasses.replace(
        row,
        tokens=old.tokens,
        positions=old.positions,
        running=old.running,
        penalties=dataclasses.replace(row.penalties, counts=old.penalties.counts, allowed=old.penalties.allowed),
    )
    chosen = jax.tree.map(lambda new, kept: jnp.where(is_new, new, kept), row, changed)
    return DeviceState(state.cache, jax.tree.map(lambda column, new: column.at[slot].set(new[0]), table, chosen)), None


def copy_prefix(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    source: Int[Array, ""],
    target: Int[Array, ""],
    length: Int[Array, ""],
) -> tuple[DeviceState, None]:
    """Copy the first `length` positions, or a few more, from one slot's cache to another's."""
    return DeviceState(kv_cache.copy_prefix(state.cache, source, target, length), state.slots), None


def clear_slot(
    params: Params, state: DeviceState, freqs_cis: Complex[Array, "C R"], slot: Int[Array, ""]
) -> tuple[DeviceState, None]:
    """Zero a slot's cache. Where it holds NaN, what nobody looks at would spoil the next reply: 0 times NaN is NaN."""
    cleared = jax.tree.map(lambda layer: layer.at[slot].set(jnp.zeros((), layer.dtype)), state.cache)
    return DeviceState(cleared, state.slots), None


def allow(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    slot: Int[Array, ""],
    allowed: Bool[Array, "V"],
) -> tuple[DeviceState, None]:
    """The ids that a constrained reply may go on with; it takes part in steps again."""
    table = state.slots
    mask = jnp.asarray(table.penalties.allowed).at[slot].set(allowed)
    table = dataclasses.replace(
        table,
        running=jnp.asarray(table.running).at[slot].set(True),
        penalties=dataclasses.replace(table.penalties, allowed=mask),
    )
    return DeviceState(state.cache, table), None


def next_token(
    params: Params,
    table: SlotState,
    hidden: Float[Array, "B D"],
    active: Bool[Array, "B"],
    sample: Callable[..., SampledToken] = sample,
) -> tuple[SlotState, Int32[Array, "B"], Int32[Array, "B P"], Float[Array, "B V"]]:
    """Sample each active row's next token: the rows' state with it, but for the counts of the penalties, the token, its
    record, and the logits that it was drawn from."""
    # An id that the tokenizer cannot write has no share: it is not drawn, not an alternative, and not counted.
    scores = jnp.where(table.drawable, logits(params, hidden), -jnp.inf)
    positions = table.positions + 1
    choice = sample(scores, table.sampling, table.penalties, positions)
    is_stop = jnp.any(choice.token[:, None] == table.stops, axis=-1)
    status = jnp.where(is_stop, Status.STOP, jnp.where(positions + 1 >= table.limits, Status.LENGTH, Status.GOING))
    # All log-probabilities of a row are finite or none is: the sum over its logits is part of each.
    status = jnp.where(jnp.isfinite(choice.logprob), status, Status.NOT_FINITE)
    status = jnp.where(active, status, Status.IDLE)
    table = dataclasses.replace(
        table,
        tokens=jnp.where(active, choice.token, table.tokens),
        positions=jnp.where(active, positions, table.positions),
        running=jnp.where(active, (status == Status.GOING) & ~jnp.asarray(table.is_constrained), table.running),
    )
    return table, choice.token, pack(status, choice), scores


def choose_token(
    params: Params, table: SlotState, hidden: Float[Array, "B D"], active: Bool[Array, "B"]
) -> tuple[SlotState, Int32[Array, "B P"], Float[Array, "B V"]]:
    """Sample each active row's next token and record it in the state of the slots, whose rows are those of `hidden`."""
    table, token, packed, scores = next_token(params, table, hidden, active)
    counts = jnp.asarray(table.penalties.counts).at[jnp.arange(hidden.shape[0]), token].add(active.astype(jnp.int32))
    return with_counts(table, counts), packed, scores


def with_counts(table: SlotState, counts: Int[Array, "S V"]) -> SlotState:
    """The state with these counts of the reply's tokens."""
    return dataclasses.replace(table, penalties=dataclasses.replace(table.penalties, counts=counts))


def embed_tokens(embedding: Weight, tokens: Int[Array, "1 T"]) -> Float[Array, "1 T D"]:
    """The input of the first layer."""
    return embed(embedding, tokens)


def prefill_layers(
    blocks: tuple[Block, ...],
    layers: tuple[LayerCache, ...],
    freqs_cis: Complex[Array, "C R"],
    hidden: Float[Array, "1 T D"],
    slot: Int[Array, ""],
    start: Int[Array, ""],
    length: Int[Array, ""],
    *,
    config: LlamaConfig,
    sliding_windows: tuple[int | None, ...],
    form: ModelForm = PLAIN,
    window: int | None = None,
) -> tuple[tuple[LayerCache, ...], tuple[Float[Array, "1 T D"], Float[Array, "1 D"]]]:
    """Run a chunk's first `length` tokens through a group of layers, writing their keys and values to `slot` from
    position `start` on. The group's output, and its row for the last token."""
    context = make_attention_context(
        start[None], hidden.shape[1], freqs_cis, start + length, cache_rows=slot[None], form=form, window=window
    )
    # The empty places at the end of a chunk write nothing: tokens cached behind the prompt stay valid.
    is_token = jnp.arange(hidden.shape[1]) < length
    context = dataclasses.replace(context, positions=jnp.where(is_token, context.positions, len(freqs_cis)))
    hidden, written = run_blocks(blocks, hidden, config, context, sliding_windows, layers)
    return tuple(filter(None, written)), (
        hidden,
        jax.lax.dynamic_index_in_dim(hidden, length - 1, axis=1, keepdims=False),
    )


def sample_first(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    last: Float[Array, "1 D"],
    slot: Int[Array, ""],
    position: Int[Array, ""],
    *,
    config: LlamaConfig,
) -> tuple[DeviceState, tuple[Int32[Array, "1 1 P"], Float[Array, "V"]]]:
    """Sample the token that follows a prompt. `last` is what the layers gave for the prompt's last token, at
    `position`. Returns the record and the logits that the token is drawn from."""
    table = dataclasses.replace(state.slots, positions=jnp.asarray(state.slots.positions).at[slot].set(position))
    row = jax.tree.map(lambda column: column[slot][None], table)
    row, packed, scores = choose_token(params, row, rms_norm(last, params.norm, config.rms_norm_eps), jnp.ones(1, bool))
    table = jax.tree.map(lambda column, new: column.at[slot].set(new[0]), table, row)
    return DeviceState(state.cache, table), (packed[None], scores[0])


# How many steps are done, the state, and the records so far.
Carry = tuple[Int[Array, ""], DeviceState, Int32[Array, "T N P"]]


def decode_block(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    rows: Int[Array, "N"],
    active: Bool[Array, "N"],
    steps: Int[Array, ""],
    *,
    config: LlamaConfig,
    max_steps: int,
) -> tuple[DeviceState, Int32[Array, "T N P"]]:
    """Decode up to `steps` tokens, at most T = `max_steps`, of every active row whose reply goes on; end early when
    none does. `rows` are the slots that the rows belong to."""

    def takes_part(state: DeviceState) -> Bool[Array, "N"]:
        running = state.slots.running
        return active & (running if running.shape == rows.shape else running[rows])

    def goes_on(carry: Carry) -> Bool[Array, ""]:
        step, state, _ = carry
        return (step < steps) & jnp.any(takes_part(state))

    def advance(carry: Carry) -> Carry:
        step, state, packed = carry
        state, records = decode_step(params, state, freqs_cis, rows, takes_part(state), config)
        return step + 1, state, packed.at[step].set(records)

    nothing = jnp.zeros((max_steps, rows.shape[0], WIDTH), jnp.int32)
    _, state, packed = jax.lax.while_loop(goes_on, advance, (jnp.int32(0), state, nothing))
    return state, packed


def decode_step(
    params: Params,
    state: DeviceState,
    freqs_cis: Complex[Array, "C R"],
    rows: Int[Array, "N"],
    takes_part: Bool[Array, "N"],
    config: LlamaConfig,
) -> tuple[DeviceState, Int32[Array, "N P"]]:
    """One token of every row that takes part. The others write nothing: the tokens cached in their slots stay valid."""
    everyone = rows.shape[0] == state.slots.tokens.shape[0]  # then row n is slot n, and nothing need be gathered
    table = state.slots if everyone else jax.tree.map(lambda column: column[rows], state.slots)
    positions = jnp.where(takes_part, table.positions, state.cache.length)
    kv_length = jnp.max(jnp.where(takes_part, table.positions, 0)) + 1
    context = make_attention_context(positions, 1, freqs_cis, kv_length, cache_rows=None if everyone else rows)
    hidden, cache = hidden_states(params, table.tokens[:, None], config, context, state.cache)
    assert cache is not None
    table, records, _ = choose_token(params, table, hidden[:, 0], takes_part)
    if not everyone:
        table = jax.tree.map(lambda column, new: column.at[rows].set(new), state.slots, table)
    return DeviceState(cache, table), records

"""Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) over the cache of keys and values. The G query
heads of a group share a key/value head, which is never copied for them.

`attend` is the one entry for the model; `attention_weights` shows the weights themselves. What attends to the cache is
a field of the `ModelForm`: here is the plain form, in gpu_attention.py are those for GPUs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int

from llama_core.kernels.attention import attend_to_filled
from llama_core.kernels.library import NATIVE
from llama_core.model.kv_cache import (
    HEADS_FIRST,
    CacheLayout,
    LayerCache,
    as_layer,
    read_layer,
    write_layer,
    write_token,
)

# So many positions of the cache are attended to at once: smaller blocks cost more for carrying the running softmax from
# block to block, larger ones read more positions that are not filled.
KEY_BLOCKS = (1024, 256)

# Below every score, and finite: the difference of two of them is a number.
LOWEST = -1e30


# Keys and values of the tokens of this call.
NewKeysValues = tuple[Float[Array, "B T K E"], Float[Array, "B T K E"]]


class ModelForm(NamedTuple):
    """In what one form of the model differs from another; chosen when programs are built.

    `attend_to_cache(q, new, layer, context)` attends from [B, T, H, E] to a layer's keys and values, which hold those
    of these tokens (`new`) already, and gives [B, T, HE]. `scales_late`: a norm's scalar comes after the product.
    """

    layout: CacheLayout
    attend_to_cache: Callable[..., Array]
    scales_late: bool


@dataclass(frozen=True)
class AttentionContext:
    """What attention needs to know about the tokens of one call.

    `cache_rows` are their slots in the cache (None: row b is slot b). `kv_length` is how many positions of the cache
    are read (None: all, in one piece, which can be differentiated); in forms without loops it is `window`, which the
    host knows (None: all). `sliding_window` is how far this layer looks back (None: all the way). `has_place` says of
    one token of one row that its position is one of the cache's.
    """

    positions: Int[Array, "B T"]
    freqs_cis: Complex[Array, "B T R"]
    cache_rows: Int[Array, "B"] | None
    kv_length: Int[Array, ""] | None
    sliding_window: int | None = None
    window: int | None = None
    has_place: bool = False
    form: ModelForm = field(default_factory=lambda: PLAIN)


def make_attention_context(
    start: Int[Array, "B"],
    T: int,
    freqs_cis: Complex[Array, "C R"],
    kv_length: Int[Array, ""] | None = None,
    cache_rows: Int[Array, "B"] | None = None,
    **more: Any,
) -> AttentionContext:
    """The context of T tokens per row that begin at position `start`, with angles from `precompute_freqs_cis`; `more`
    are further fields."""
    positions = start[:, None] + jnp.arange(T)
    return AttentionContext(positions, freqs_cis[positions], cache_rows, kv_length, **more)


def attend(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    context: AttentionContext,
    cache: LayerCache | None,
) -> tuple[Float[Array, "B T HE"], LayerCache | None]:
    """Write the new keys and values to the cache and attend to all that it holds up to each token. Without a cache the
    tokens of this call attend to one another."""
    if cache is None:
        mixed = scaled_dot_product_attention(q, as_layer(k), as_layer(v), context.positions, context.sliding_window)
        return mixed, None
    form, rows = context.form, context.cache_rows
    write = write_token if context.has_place else write_layer
    keys, values = (
        write(layer, new, rows, context.positions, form.layout) for layer, new in zip(cache, (k, v), strict=True)
    )
    return form.attend_to_cache(q, (k, v), (keys, values), context), (keys, values)


def group_queries(q: Float[Array, "B T H E"], heads: int) -> Float[Array, "B K GT E"]:
    """The queries of each key/value head side by side."""
    B, T, H, E = q.shape
    return q.reshape(B, T, heads, H // heads, E).transpose(0, 2, 3, 1, 4).reshape(B, heads, -1, E)


def merge_heads(mixed: Float[Array, "B K GT E"], T: int) -> Float[Array, "B T HE"]:
    """The inverse of `group_queries`, with the heads of each token side by side."""
    B, K, _, E = mixed.shape
    return mixed.reshape(B, K, -1, T, E).transpose(0, 3, 1, 2, 4).reshape(B, T, -1)


def visible_scores(
    grouped: Float[Array, "B K GT E"], keys: Float[Array, "B K W E"], visible: Bool[Array, "B T W"]
) -> Float[Array, "B K GT W"]:
    """q·k / √E in float32, -inf where a token may not look."""
    B, K, _, E = grouped.shape
    scores = jnp.einsum(
        "bkqe,bkwe->bkqw", grouped, keys, precision=_precision(grouped), preferred_element_type=jnp.float32
    ) / math.sqrt(E)
    by_token = scores.reshape(B, K, -1, *visible.shape[1:])
    return jnp.where(visible[:, None, None], by_token, -jnp.inf).reshape(scores.shape)


def row_max(scores: Float[Array, "B K GT W"]) -> Float[Array, "B K GT"]:
    """The maximum of each row. XLA's CPU backend takes it one number at a time, but the maximum of two halves many
    numbers at a time: a tenth less for all of a long prompt."""
    while scores.shape[-1] > 16 and scores.shape[-1] % 2 == 0:
        scores = jnp.maximum(*jnp.split(scores, 2, axis=-1))
    return jnp.max(scores, axis=-1)


def is_visible(
    positions: Int[Array, "B T"], key_positions: Int[Array, "W"], sliding_window: int | None
) -> Bool[Array, "B T W"]:
    """The token at position p sees positions 0 to p, or the last `sliding_window` of these."""
    distance = positions[:, :, None] - key_positions
    return distance >= 0 if sliding_window is None else (distance >= 0) & (distance < sliding_window)


def attention_weights(
    q: Float[Array, "B T H E"], k: Float[Array, "B W K E"], positions: Int[Array, "B T"], sliding_window: int | None
) -> Float[Array, "B K GT W"]:
    """The share of its attention that each query head of each token gives to each of W tokens of one sequence."""
    return _softmax_over_keys(q, as_layer(k), positions, sliding_window)


def _softmax_over_keys(
    q: Float[Array, "B T H E"], keys: Float[Array, "B K W E"], positions: Int[Array, "B T"], sliding_window: int | None
) -> Float[Array, "B K GT W"]:
    visible = is_visible(positions, jnp.arange(HEADS_FIRST.length(keys)), sliding_window)
    return jax.nn.softmax(visible_scores(group_queries(q, keys.shape[1]), keys, visible), axis=-1)


def scaled_dot_product_attention(
    q: Float[Array, "B T H E"],
    keys: Float[Array, "B K W E"],
    values: Float[Array, "B K W E"],
    positions: Int[Array, "B T"],
    sliding_window: int | None = None,
) -> Float[Array, "B T HE"]:
    """Attention over all W keys at once; the key at index w has position w. Softmax in float32."""
    weights = _softmax_over_keys(q, keys, positions, sliding_window).astype(values.dtype)
    mixed = jnp.einsum("bkqw,bkwe->bkqe", weights, values, precision=_precision(q))
    return merge_heads(mixed, q.shape[1])


class RunningSoftmax(NamedTuple):
    """A softmax over the blocks so far: each row's largest score, the sum of exp(score − largest), and the sum of the
    values with these weights."""

    largest: Float[Array, "B K GT"]
    total: Float[Array, "B K GT"]
    mixed: Float[Array, "B K GT E"]


def cached_attention(
    q: Float[Array, "B T H E"],
    keys: Float[Array, "S K C E"],
    values: Float[Array, "S K C E"],
    context: AttentionContext,
) -> Float[Array, "B T HE"]:
    """The same over the filled part of the cache, block by block with a running softmax (Milakov & Gimelshein 2018,
    arXiv:1805.02867): one program, whose work grows with what is filled."""
    (B, T, H, E), K, C = q.shape, keys.shape[1], HEADS_FIRST.length(keys)
    if context.kv_length is None:
        everything = [read_layer(layer, context.cache_rows, 0, C) for layer in (keys, values)]
        return scaled_dot_product_attention(q, everything[0], everything[1], context.positions, context.sliding_window)
    if T == 1 and NATIVE.ready and keys.dtype in (jnp.float32, jnp.bfloat16):
        return _native_attention(q, keys, values, context)
    grouped = group_queries(q, K)
    zeros = jnp.zeros((B, K, H // K * T), jnp.float32)
    carry = RunningSoftmax(zeros + LOWEST, zeros, jnp.zeros((*zeros.shape, E), jnp.float32))
    done: int | Int[Array, ""] = 0
    sizes = [size for size in KEY_BLOCKS if size < C] or [C]
    for size in sizes:
        # Large blocks as far as they are full, small ones for the rest.
        left = context.kv_length - done
        count = (left + size - 1) // size if size == sizes[-1] else left // size

        def add_block(i: Int[Array, ""], carry: RunningSoftmax, size: int = size, done: Any = done) -> RunningSoftmax:
            return _add_block(carry, grouped, (keys, values), context, done + i * size, size)

        carry = jax.lax.fori_loop(0, count, add_block, carry)
        done = done + count * size
    return merge_heads(carry.mixed / jnp.maximum(carry.total, 1e-30)[..., None], T).astype(q.dtype)


def _native_attention(
    q: Float[Array, "B 1 H E"],
    keys: Float[Array, "S K C E"],
    values: Float[Array, "S K C E"],
    context: AttentionContext,
) -> Float[Array, "B 1 HE"]:
    """The same for one token a row, by a native kernel: it reads no position that is not filled, and copies none."""
    B = q.shape[0]
    rows = jnp.arange(B) if context.cache_rows is None else context.cache_rows
    mixed = attend_to_filled(
        q[:, 0].astype(jnp.float32),
        keys,
        values,
        rows.astype(jnp.int32),
        context.positions[:, 0].astype(jnp.int32),
        context.sliding_window,
    )
    return mixed.reshape(B, 1, -1).astype(q.dtype)


def _add_block(
    carry: RunningSoftmax,
    grouped: Float[Array, "B K GT E"],
    layer: LayerCache,
    context: AttentionContext,
    start: Int[Array, ""],
    size: int,
) -> RunningSoftmax:
    """Take `size` positions from `start` on into the running softmax."""
    begin = jnp.minimum(start, HEADS_FIRST.length(layer[0]) - size)  # the last block may overlap the one before it
    key_positions = begin + jnp.arange(size)
    keys, values = (read_layer(half, context.cache_rows, begin, size) for half in layer)
    visible = is_visible(context.positions, key_positions, context.sliding_window) & (key_positions >= start)
    scores = visible_scores(grouped, keys, visible)
    largest = jnp.maximum(carry.largest, row_max(scores))
    shares = jnp.exp(scores - largest[..., None])
    shrink = jnp.exp(carry.largest - largest)
    added = jnp.einsum(
        "bkqw,bkwe->bkqe",
        shares.astype(values.dtype),
        values,
        precision=_precision(grouped),
        preferred_element_type=jnp.float32,
    )
    total = carry.total * shrink + jnp.sum(shares, axis=-1)
    return RunningSoftmax(largest, total, carry.mixed * shrink[..., None] + added)


def _attend_to_blocks(
    q: Float[Array, "B T H E"], new: NewKeysValues, layer: LayerCache, context: AttentionContext
) -> Float[Array, "B T HE"]:
    return cached_attention(q, *layer, context)


PLAIN: ModelForm = ModelForm(HEADS_FIRST, _attend_to_blocks, scales_late=False)


def _precision(q: Array) -> jax.lax.Precision | None:
    """Float32 stays float32 on GPUs that would round it to TF32."""
    return jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else None

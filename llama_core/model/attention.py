"""Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) over keys and values that lie in a cache, and
how the cache is written and read. The G query heads of a group read their key/value head where it lies.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int

# Positions that are looked at together: smaller blocks cost more in hand-overs, larger ones read more than is filled.
KEY_BLOCKS = (1024, 256)

# Below every score, and finite: a difference of two of them is a number.
LOWEST = -1e30


@dataclass(frozen=True)
class Where:
    """Where the tokens of one call stand: their positions and rotary angles, the cache rows that they belong to
    (None: row b is row b), how many positions of the cache they may need to look at (None: all, in one piece, which can
    be differentiated), and how far back this layer looks.
    """

    positions: Int[Array, "B T"]
    freqs_cis: Complex[Array, "B T R"]
    rows: Int[Array, "B"] | None
    filled: Int[Array, ""] | None
    sliding_window: int | None = None


def write_cache(cache: Float[Array, "S K C E"], new: Float[Array, "B T K E"], where: Where) -> Float[Array, "S K C E"]:
    """Put the new keys or values at their rows and positions, in place when the cache is donated.

    What lies past the end of the cache is dropped. A scatter: a slice update a row copies the whole cache on a CPU
    (benchmarks/NOTES.md).
    """
    rows = jnp.arange(new.shape[0]) if where.rows is None else where.rows
    return cache.at[rows[:, None], :, where.positions].set(new.astype(cache.dtype), mode="drop")


def read_cache(
    cache: Float[Array, "S K C E"], where: Where, start: int | Int[Array, ""], size: int
) -> Float[Array, "B K W E"]:
    """W = `size` positions from `start` on, of the rows of this call."""
    if where.rows is None:
        return jax.lax.dynamic_slice_in_dim(cache, start, size, axis=2)
    block = (1, cache.shape[1], size, cache.shape[3])
    return jnp.concatenate([jax.lax.dynamic_slice(cache, (row, 0, start, 0), block) for row in where.rows])


def group_queries(q: Float[Array, "B T H E"], heads: int) -> Float[Array, "B K GT E"]:
    """The queries of each key/value head together."""
    B, T, H, E = q.shape
    return q.reshape(B, T, heads, H // heads, E).transpose(0, 2, 3, 1, 4).reshape(B, heads, -1, E)


def ungroup(mixed: Float[Array, "B K GT E"], T: int) -> Float[Array, "B T HE"]:
    """The other way round, heads side by side."""
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


def largest(scores: Float[Array, "B K GT W"]) -> Float[Array, "B K GT"]:
    """The maximum of each row. XLA's CPU backend takes it one number at a time, but the larger of two halves many at a
    time: a tenth less for all of a long prompt (benchmarks/NOTES.md)."""
    while scores.shape[-1] > 16 and scores.shape[-1] % 2 == 0:
        scores = jnp.maximum(*jnp.split(scores, 2, axis=-1))
    return jnp.max(scores, axis=-1)


def is_visible(
    positions: Int[Array, "B T"], places: Int[Array, "W"], sliding_window: int | None
) -> Bool[Array, "B T W"]:
    """The token at position p sees 0…p, or the last `sliding_window` of these."""
    distance = positions[:, :, None] - places
    return distance >= 0 if sliding_window is None else (distance >= 0) & (distance < sliding_window)


def scaled_dot_product_attention(
    q: Float[Array, "B T H E"],
    keys: Float[Array, "B K W E"],
    values: Float[Array, "B K W E"],
    positions: Int[Array, "B T"],
    sliding_window: int | None = None,
) -> Float[Array, "B T HE"]:
    """Attention over all W keys at once, the key at index w standing at position w. Softmax in float32."""
    visible = is_visible(positions, jnp.arange(keys.shape[2]), sliding_window)
    scores = visible_scores(group_queries(q, keys.shape[1]), keys, visible)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    mixed = jnp.einsum("bkqw,bkwe->bkqe", weights, values, precision=_precision(q))
    return ungroup(mixed, q.shape[1])


def cached_attention(
    q: Float[Array, "B T H E"], keys: Float[Array, "S K C E"], values: Float[Array, "S K C E"], where: Where
) -> Float[Array, "B T HE"]:
    """The same over the filled part of the cache, a block of positions after the other, with a running softmax
    (Milakov & Gimelshein 2018, arXiv:1805.02867): what is read and computed grows with what is filled, in one program.
    """
    B, T, H, E = q.shape
    K, C = keys.shape[1:3]
    if where.filled is None:
        everything = (read_cache(half, where, 0, C) for half in (keys, values))
        return scaled_dot_product_attention(q, *everything, where.positions, where.sliding_window)
    grouped = group_queries(q, K)

    def add_block(start, size, carry):
        highest, total, mixed = carry
        begin = jnp.minimum(start, C - size)  # the last block may reach back into the one before
        places = begin + jnp.arange(size)
        visible = is_visible(where.positions, places, where.sliding_window) & (places >= start)
        scores = visible_scores(grouped, read_cache(keys, where, begin, size), visible)
        new_highest = jnp.maximum(highest, largest(scores))
        shares = jnp.exp(scores - new_highest[..., None])
        shrink = jnp.exp(highest - new_highest)
        block = read_cache(values, where, begin, size)
        added = jnp.einsum(
            "bkqw,bkwe->bkqe",
            shares.astype(block.dtype),
            block,
            precision=_precision(q),
            preferred_element_type=jnp.float32,
        )
        return new_highest, total * shrink + jnp.sum(shares, axis=-1), mixed * shrink[..., None] + added

    nothing = jnp.zeros((B, K, H // K * T), jnp.float32)
    carry, done = (nothing + LOWEST, nothing, jnp.zeros((*nothing.shape, E), jnp.float32)), 0
    sizes = [size for size in KEY_BLOCKS if size < C] or [C]
    for size in sizes:
        # Large blocks as far as they are full, small ones for the rest.
        left = where.filled - done
        count = (left + size - 1) // size if size == sizes[-1] else left // size
        carry = jax.lax.fori_loop(0, count, lambda i, carry: add_block(done + i * size, size, carry), carry)  # noqa: B023
        done = done + count * size
    _, total, mixed = carry
    return ungroup(mixed / jnp.maximum(total, 1e-30)[..., None], T).astype(q.dtype)


def _precision(q: Array) -> jax.lax.Precision | None:
    """Float32 stays float32 on GPUs that would round it to TF32."""
    return jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else None

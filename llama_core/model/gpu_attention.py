"""Attention for GPUs, where a loop or a branch that depends on data makes the card stop and ask the host: by cuDNN, and
for what cuDNN does not take as one masked product over a window that the host knows.

In the tests XLA stands in for cuDNN, through the same function of JAX.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from llama_core.model.attention import LOWEST, PLAIN, AttentionContext, ModelForm, NewKeysValues, is_visible
from llama_core.model.kv_cache import HEADS_FIRST, POSITIONS_FIRST, LayerCache, read_layer

# What a chunk's tokens got from a part of what they see: the mean of its values, and the log of the sum of exp(score).
Part = tuple[Float[Array, "B T H E"], Float[Array, "B T H"]]


def masked_attention(
    q: Float[Array, "B T H E"], new: NewKeysValues, layer: LayerCache, context: AttentionContext
) -> Float[Array, "B T HE"]:
    """Attention over the first `context.window` positions at once, the invisible ones masked. Softmax in float32."""
    size = context.window or HEADS_FIRST.length(layer[0])
    keys, values = (read_layer(half, context.cache_rows, 0, size) for half in layer)
    B, T, H, E = q.shape
    grouped = q.reshape(B, T, keys.shape[1], -1, E)
    precision = jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else None
    scores = jnp.einsum("btkge,bkwe->bkgtw", grouped, keys, precision=precision, preferred_element_type=jnp.float32)
    visible = is_visible(context.positions, jnp.arange(size), context.sliding_window)[:, None, None]
    weights = jax.nn.softmax(jnp.where(visible, scores / math.sqrt(E), LOWEST), axis=-1).astype(values.dtype)
    return jnp.einsum("bkgtw,bkwe->btkge", weights, values, precision=precision).reshape(B, T, -1)


def fused_attention(
    q: Float[Array, "B T H E"], new: NewKeysValues, layer: LayerCache, context: AttentionContext, implementation: str
) -> Float[Array, "B T HE"]:
    """Attention by `jax.nn.dot_product_attention`, which reads no more of the cache than is filled: one program for
    every length. Either one token of each row, or one row's chunk of a prompt."""
    attend = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    if q.shape[1] == 1:
        mixed = _attend_one_each(attend, q, layer, context)
    else:
        mixed = _attend_chunk(attend, q, new, layer, context)
    return mixed.reshape(*q.shape[:2], -1)


def _attend_one_each(
    attend: functools.partial, q: Float[Array, "B 1 H E"], layer: LayerCache, context: AttentionContext
) -> Float[Array, "B 1 H E"]:
    """One token of each row over the whole cache. A row alone is put at its place among empty ones: to cut its slot out
    would copy it, and a slot of which one position is read costs next to nothing."""
    (S, C), rows, position = layer[0].shape[:2], context.cache_rows, context.positions[:, 0]
    if rows is not None:
        is_here = jnp.arange(S) == rows[0]
        q = jnp.where(is_here[:, None, None, None], q, jnp.zeros((), q.dtype))
        position = jnp.where(is_here, position, C)
    # A position past the end says that the row takes no part.
    filled = jnp.where(position < C, position + 1, 1).astype(jnp.int32)
    mixed = attend(
        q,
        *layer,
        mask=_sliding_mask((filled - 1)[:, None], C, context.sliding_window),
        query_seq_lengths=jnp.ones(S, jnp.int32),
        key_value_seq_lengths=filled,
    )
    return mixed if rows is None else jax.lax.dynamic_slice_in_dim(mixed, rows[0], 1)


def _sliding_mask(positions: Int[Array, "B T"], size: int, sliding_window: int | None) -> Bool[Array, "B 1 T W"] | None:
    """What each token may see, where its window is shorter than the cache. (cuDNN knows sliding windows only for tokens
    that count from the first key.)"""
    if sliding_window is None or sliding_window >= size:
        return None
    return is_visible(positions, jnp.arange(size), sliding_window)[:, None]


def _attend_chunk(
    attend: functools.partial,
    q: Float[Array, "1 T H E"],
    new: NewKeysValues,
    layer: LayerCache,
    context: AttentionContext,
) -> Float[Array, "1 T H E"]:
    """A chunk with itself, and with all that is before it. In one call it could not be: cuDNN's causal mask lets the
    first token see the first key and nothing else."""
    T, C = q.shape[1], POSITIONS_FIRST.length(layer[0])
    start, sliding = context.positions[:1, 0], context.sliding_window
    local = None if sliding is None or sliding >= T else (sliding - 1, 0)
    own = attend(q, *new, is_causal=True, local_window_size=local, return_residual=True)
    # cuDNN takes a mask with a log-sum-exp for even lengths only; the last position of a slot is before no token.
    size = C - C % 2
    keys, values = (read_layer(half, context.cache_rows, 0, size, POSITIONS_FIRST) for half in layer)
    mixed, total = attend(
        q,
        keys,
        values,
        mask=_sliding_mask(start[:, None] + jnp.arange(T), size, sliding),
        query_seq_lengths=jnp.full(1, T, jnp.int32),
        key_value_seq_lengths=jnp.clip(start, 1, size).astype(jnp.int32),
        return_residual=True,
    )
    return join(own, (mixed, jnp.where(start > 0, total.astype(jnp.float32), LOWEST))).astype(q.dtype)


def join(one: Part, other: Part) -> Float[Array, "B T H E"]:
    """Attention over two sets of keys from the attention over each: means weighted by their sums of exp(score)
    (Dao et al. 2022, arXiv:2205.14135)."""
    share = jax.nn.sigmoid(one[1].astype(jnp.float32) - other[1].astype(jnp.float32))[..., None]
    return share * one[0].astype(jnp.float32) + (1 - share) * other[0].astype(jnp.float32)


# By the name that a `Form` has for them.
MODEL_FORMS = {
    "blocks": PLAIN,
    "masked": ModelForm(HEADS_FIRST, masked_attention, scales_late=True),
    "cudnn": ModelForm(POSITIONS_FIRST, functools.partial(fused_attention, implementation="cudnn"), scales_late=True),
}

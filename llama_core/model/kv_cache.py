"""The cache of keys and values. Its layout, [S, K, C, E] per layer, is known here and in attention.py alone: the
positions of one head of one slot are one piece of memory.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from llama_core.model.config import LlamaConfig

# A prefix is copied so many positions at a time.
COPY_BLOCK = 256

# The keys and the values of one layer.
LayerCache = tuple[Float[Array, "S K C E"], Float[Array, "S K C E"]]


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys and values of the tokens seen so far, one preallocated pair of arrays per layer.

    Position p of a sequence is always at index p, so writing is an update in place and no shape ever changes.
    Keys and values are separate arrays: in one array they are copied at each layer (keras-team/keras-hub#2780).
    """

    keys: tuple[Float[Array, "S K C E"], ...]
    values: tuple[Float[Array, "S K C E"], ...]

    @property
    def length(self) -> int:
        """C: how many positions a slot has."""
        return self.keys[0].shape[2]

    @property
    def layers(self) -> tuple[LayerCache, ...]:
        """Keys and values of each layer."""
        return tuple(zip(self.keys, self.values, strict=True))

    def with_layers(self, which: slice, layers: tuple[LayerCache, ...]) -> "KVCache":
        """A cache in which `layers` replace the layers `which`."""
        keys, values = list(self.keys), list(self.values)
        keys[which], values[which] = zip(*layers, strict=True)
        return KVCache(tuple(keys), tuple(values))


def init_cache(config: LlamaConfig, batch: int, length: int, dtype: Any = jnp.float32) -> KVCache:
    """An empty cache. Zeros, not uninitialised memory: a masked weight of 0 times NaN would be NaN."""
    shape = (batch, config.num_key_value_heads, length, config.head_dim)
    layers = range(config.num_hidden_layers)
    return KVCache(tuple(jnp.zeros(shape, dtype) for _ in layers), tuple(jnp.zeros(shape, dtype) for _ in layers))


def as_layer(new: Float[Array, "B T K E"]) -> Float[Array, "B K T E"]:
    """Keys or values of a call in the cache's layout, as if they were a cache of T positions."""
    return new.transpose(0, 2, 1, 3)


def layer_length(layer: Float[Array, "S K C E"]) -> int:
    """C: how many positions a slot has."""
    return layer.shape[2]


def write_layer(
    layer: Float[Array, "S K C E"],
    new: Float[Array, "B T K E"],
    cache_rows: Int[Array, "B"] | None,
    positions: Int[Array, "B T"],
) -> Float[Array, "S K C E"]:
    """Put new keys or values at their rows (None: row b is slot b) and positions, in place if the cache is donated.
    Positions past the end of the cache are dropped.

    A scatter: with one slice update per row XLA's CPU backend copies the whole cache at each (295 instead of 73 ms per
    step of a 135M model with four slots).
    """
    rows = jnp.arange(new.shape[0]) if cache_rows is None else cache_rows
    return layer.at[rows[:, None], :, positions].set(new.astype(layer.dtype), mode="drop")


def read_layer(
    layer: Float[Array, "S K C E"], cache_rows: Int[Array, "B"] | None, start: int | Int[Array, ""], size: int
) -> Float[Array, "B K W E"]:
    """The keys or values at W = `size` positions from `start` on, in these rows."""
    if cache_rows is None:
        return jax.lax.dynamic_slice_in_dim(layer, start, size, axis=2)
    block = (1, layer.shape[1], size, layer.shape[3])
    return jnp.concatenate([jax.lax.dynamic_slice(layer, (row, 0, start, 0), block) for row in cache_rows])


def copy_prefix(cache: KVCache, source: Int[Array, ""], target: Int[Array, ""], length: Int[Array, ""]) -> KVCache:
    """Copy the first `length` positions of slot `source`, rounded up to whole blocks, to slot `target`."""
    size = min(COPY_BLOCK, cache.length)

    def copy_block(i: Int[Array, ""], cache: KVCache) -> KVCache:
        def copy(layer: Float[Array, "S K C E"]) -> Float[Array, "S K C E"]:
            block = jax.lax.dynamic_slice(layer, (source, 0, i * size, 0), (1, layer.shape[1], size, layer.shape[3]))
            return jax.lax.dynamic_update_slice(layer, block, (target, 0, i * size, 0))

        return jax.tree.map(copy, cache)

    return jax.lax.fori_loop(0, (length + size - 1) // size, copy_block, cache)

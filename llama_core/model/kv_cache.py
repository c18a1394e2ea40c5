"""The cache of keys and values. How the axes of a layer are ordered is known here and in the files of attention alone.

Of the four axes, slots S come first and the head dimension E last; heads K and positions C stand between them in the
order of a `CacheLayout`. Shapes that hold for both orders are written [S, N, M, E] here.
"""

from dataclasses import dataclass, field, replace
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from llama_core.model.config import LlamaConfig

# A prefix is copied so many positions at a time.
COPY_BLOCK = 256

# The keys and the values of one layer.
LayerCache = tuple[Float[Array, "S N M E"], Float[Array, "S N M E"]]


@dataclass(frozen=True)
class CacheLayout:
    """On which axes of a layer heads and positions stand."""

    heads: int
    positions: int

    def shape(self, S: int, K: int, C: int, E: int) -> tuple[int, ...]:
        """The shape of a layer."""
        return (S, K, C, E) if self.heads < self.positions else (S, C, K, E)

    def length(self, layer: Float[Array, "S N M E"]) -> int:
        """C: how many positions a slot has."""
        return layer.shape[self.positions]


# On a CPU the positions of one head of one slot are one piece of memory.
HEADS_FIRST = CacheLayout(heads=1, positions=2)
# cuDNN reads heads inside positions: with the heads first XLA transposes all of the cache at every step.
POSITIONS_FIRST = CacheLayout(heads=2, positions=1)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys and values of the tokens seen so far, one preallocated pair of arrays per layer.

    Position p of a sequence is always at index p, so writing is an update in place and no shape ever changes.
    Keys and values are separate arrays: in one array they are copied at each layer (keras-team/keras-hub#2780).
    """

    keys: tuple[Float[Array, "S N M E"], ...]
    values: tuple[Float[Array, "S N M E"], ...]
    layout: CacheLayout = field(default=HEADS_FIRST, metadata={"static": True})

    @property
    def length(self) -> int:
        """C: how many positions a slot has."""
        return self.layout.length(self.keys[0])

    @property
    def layers(self) -> tuple[LayerCache, ...]:
        """Keys and values of each layer."""
        return tuple(zip(self.keys, self.values, strict=True))

    def with_layers(self, which: slice, layers: tuple[LayerCache, ...]) -> "KVCache":
        """A cache in which `layers` replace the layers `which`."""
        keys, values = list(self.keys), list(self.values)
        keys[which], values[which] = zip(*layers, strict=True)
        return replace(self, keys=tuple(keys), values=tuple(values))


def init_cache(
    config: LlamaConfig,
    batch: int,
    length: int,
    dtype: Any = jnp.float32,
    layout: CacheLayout = HEADS_FIRST,
    sharding: jax.sharding.Sharding | None = None,
) -> KVCache:
    """An empty cache, on the devices of `sharding` (None: on the first). Zeros, not uninitialised memory: a masked
    weight of 0 times NaN would be NaN."""
    shape = layout.shape(batch, config.num_key_value_heads, length, config.head_dim)
    keys, values = (
        tuple(jnp.zeros(shape, dtype, device=sharding) for _ in range(config.num_hidden_layers)) for _ in range(2)
    )
    return KVCache(keys, values, layout)


def as_layer(new: Float[Array, "B T K E"]) -> Float[Array, "B K T E"]:
    """Keys or values of a call in the cache's layout, as if they were a cache of T positions."""
    return new.transpose(0, 2, 1, 3)


def write_layer(
    layer: Float[Array, "S N M E"],
    new: Float[Array, "B T K E"],
    cache_rows: Int[Array, "B"] | None,
    positions: Int[Array, "B T"],
    layout: CacheLayout,
) -> Float[Array, "S N M E"]:
    """Put new keys or values at their rows (None: row b is slot b) and positions, in place if the cache is donated.
    Positions past the end of the cache are dropped.

    A scatter: with one slice update per row XLA's CPU backend copies the whole cache at each (295 instead of 73 ms per
    step of a 135M model with four slots).
    """
    rows = (jnp.arange(new.shape[0]) if cache_rows is None else cache_rows)[:, None]
    places = layer.at[rows, :, positions] if layout == HEADS_FIRST else layer.at[rows, positions]
    return places.set(new.astype(layer.dtype), mode="drop")


def write_token(
    layer: Float[Array, "S N M E"],
    new: Float[Array, "1 1 K E"],
    cache_rows: Int[Array, "1"] | None,
    positions: Int[Array, "1 1"],
    layout: CacheLayout,
) -> Float[Array, "S N M E"]:
    """`write_layer` for one token of one row, which has a place in the cache. A GPU needs one kernel less for it."""
    block = new.astype(layer.dtype).reshape(layout.shape(1, new.shape[2], 1, new.shape[3]))
    row = 0 if cache_rows is None else cache_rows[0]
    return jax.lax.dynamic_update_slice(layer, block, (row, *_at(positions[0, 0], layout), 0))


def read_layer(
    layer: Float[Array, "S N M E"],
    cache_rows: Int[Array, "B"] | None,
    start: int | Int[Array, ""],
    size: int,
    layout: CacheLayout = HEADS_FIRST,
) -> Float[Array, "B P Q E"]:
    """The keys or values at W = `size` positions from `start` on, in these rows and in this layout."""
    if cache_rows is None:
        return jax.lax.dynamic_slice_in_dim(layer, start, size, axis=layout.positions)
    block = layout.shape(1, layer.shape[layout.heads], size, layer.shape[3])
    return jnp.concatenate([jax.lax.dynamic_slice(layer, (row, *_at(start, layout), 0), block) for row in cache_rows])


def _at(position: int | Int[Array, ""], layout: CacheLayout) -> tuple[int | Int[Array, ""], ...]:
    return (0, position) if layout == HEADS_FIRST else (position, 0)


def copy_prefix(cache: KVCache, source: Int[Array, ""], target: Int[Array, ""], length: Int[Array, ""]) -> KVCache:
    """Copy the first `length` positions of slot `source`, rounded up to whole blocks, to slot `target`."""
    size = min(COPY_BLOCK, cache.length)

    def copy_block(i: Int[Array, ""], cache: KVCache) -> KVCache:
        def copy(layer: Float[Array, "S N M E"]) -> Float[Array, "S N M E"]:
            block = read_layer(layer, source[None], i * size, size, cache.layout)
            return jax.lax.dynamic_update_slice(layer, block, (target, *_at(i * size, cache.layout), 0))

        return jax.tree.map(copy, cache)

    return jax.lax.fori_loop(0, (length + size - 1) // size, copy_block, cache)


def copy_slot(cache: KVCache, source: Int[Array, ""], target: Int[Array, ""]) -> KVCache:
    """Copy all of slot `source` to slot `target`: more than anybody asks for, and without a loop."""
    return jax.tree.map(lambda layer: layer.at[target].set(layer[source]), cache)

"""Top-k and top-p as thresholds: what is less likely than its row's threshold is cut. They are found without sorting;
tokens exactly as likely as the threshold all survive.

`apply_top_k_top_p` is the one entry, so that a platform on which sorting or another search is faster can replace it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from llama_core.runtime.arrays import AnyArray


def apply_top_k_top_p(
    weights: Float[Array, "B V"], top_k: Int[AnyArray, "B"], top_p: Float[AnyArray, "B"]
) -> Float[Array, "B V"]:
    """Zero all but each row's k largest weights (0: all), then all but the largest that together reach the share p of
    what is left (1: all). `weights` are at least 0 and need not add up to 1."""
    weights = _cut(weights, jnp.any(top_k > 0), lambda w: _kth_largest(w, top_k))
    return _cut(weights, jnp.any(top_p < 1), lambda w: _last_of_share(w, top_p))


def _cut(
    weights: Float[Array, "B V"], wanted: Bool[Array, ""], threshold: Callable[[Float[Array, "B V"]], Float[Array, "B"]]
) -> Float[Array, "B V"]:
    """Zero what is below the threshold of its row. Costs nothing if no row wants it."""
    return jax.lax.cond(wanted, lambda w: jnp.where(w >= threshold(w)[:, None], w, 0.0), lambda w: w, weights)


def _kth_largest(weights: Float[Array, "B V"], top_k: Int[AnyArray, "B"]) -> Float[Array, "B"]:
    """The k-th largest weight of each row; 0 where k is 0."""
    found = _largest_where(weights, lambda above: jnp.sum(above, axis=-1, dtype=jnp.int32) >= top_k)
    return jnp.where(top_k > 0, found, 0.0)


def _last_of_share(weights: Float[Array, "B V"], top_p: Float[AnyArray, "B"]) -> Float[Array, "B"]:
    """The smallest weight of the smallest set that reaches the share p; 0 where p is 1, the largest where p is 0."""
    wanted = jnp.maximum(top_p * jnp.sum(weights, axis=-1), jnp.finfo(jnp.float32).tiny)
    found = _largest_where(weights, lambda above: jnp.sum(jnp.where(above, weights, 0.0), axis=-1) >= wanted)
    return jnp.where(top_p < 1, found, 0.0)


def _largest_where(
    weights: Float[Array, "B V"], holds: Callable[[Bool[Array, "B V"]], Bool[Array, "B"]]
) -> Float[Array, "B"]:
    """The largest number t of each row for which `holds(weights >= t)`, which is true at 0 and false from some t on.

    Weights are at least 0, where floats have the same order as their bits read as integers: t is built bit by bit from
    the top, with one reduction per bit (vllm-project/tpu-inference, layers/common/binary_search.py).
    """
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)

    def add_bit(i: Int[Array, ""], t: Int[Array, "B"]) -> Int[Array, "B"]:
        candidate = t | (jnp.int32(1) << (30 - i))
        return jnp.where(holds(bits >= candidate[:, None]), candidate, t)

    t = jax.lax.fori_loop(0, 31, add_bit, jnp.zeros(weights.shape[0], jnp.int32))
    return jax.lax.bitcast_convert_type(t, jnp.float32)

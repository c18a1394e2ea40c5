"""Attention over blocks of the cache against the plain formula in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_attention import reference

from llama_core.model.attention import KEY_BLOCKS, AttentionContext, cached_attention, scaled_dot_product_attention

pytestmark = pytest.mark.usefixtures("quickly_compiled")
S, K, G, E = 3, 2, 2, 8
cached = jax.jit(
    lambda q, keys, values, positions, rows, filled, sliding: cached_attention(
        q,
        keys,
        values,
        AttentionContext(positions, jnp.zeros((*positions.shape, E // 2), jnp.complex64), rows, filled, sliding),
    ),
    static_argnums=6,
)


def inputs(B, T, C, end):
    rng = np.random.default_rng(B * C + end)
    q = rng.normal(size=(B, T, K * G, E)).astype(np.float32)
    keys, values = rng.normal(size=(2, S, K, C, E)).astype(np.float32)
    positions = np.maximum(end - T + np.arange(T) - 5 * np.arange(B)[:, None], 0).astype(np.int32)
    return q, keys, values, positions


# All windows over the longest cache, and each over two of the others.
@pytest.mark.parametrize(
    "T, C, end, sliding",
    [
        *((3, 2500, end, sliding) for end in (1024, 2300) for sliding in (None, 3, 300)),
        *((1, 40, 7, sliding) for sliding in (None, 3)),
        (4, 40, 40, 3),
        *((1, 300, 300, sliding) for sliding in (None, 300)),
        (7, 300, 260, 3),
        *((5, 1100, 1100, sliding) for sliding in (None, 300)),
    ],
)
def test_blocks_of_the_cache_give_the_plain_formula(T, C, end, sliding):
    q, keys, values, positions = inputs(S, T, C, end)
    found = cached(q, keys, values, positions, None, np.int32(end), sliding)
    np.testing.assert_allclose(found, reference(q, keys, values, positions, sliding), atol=2e-5)
    # What lies behind is never looked at.
    keys[:, :, -(-end // min(KEY_BLOCKS[-1], C)) * KEY_BLOCKS[-1] :] = np.nan
    assert not np.isnan(cached(q, keys, values, positions, None, np.int32(end), sliding)).any()


def test_rows_of_the_cache_are_chosen():
    q, keys, values, positions = inputs(2, 3, 300, 290)
    rows = np.array([2, 0], np.int32)
    found = cached(q, keys, values, positions, rows, np.int32(290), None)
    np.testing.assert_allclose(found, reference(q, keys[rows], values[rows], positions, None), atol=2e-5)


def test_all_at_once_is_the_same_and_has_a_gradient():
    q, keys, values, positions = inputs(S, 4, 300, 280)
    whole = jax.jit(scaled_dot_product_attention)(q, keys, values, positions)
    np.testing.assert_allclose(whole, reference(q, keys, values, positions, None), atol=2e-5)
    context = AttentionContext(jnp.asarray(positions), jnp.zeros((S, 4, E // 2), jnp.complex64), None, None)

    @jax.jit
    def total(q):
        return jnp.sum(cached_attention(q, jnp.asarray(keys), jnp.asarray(values), context) ** 2)

    slope = jax.jit(jax.grad(total))(jnp.asarray(q))
    step = 1e-2 * slope / jnp.linalg.norm(slope)
    difference = (total(q + step) - total(q - step)) / 2e-2
    np.testing.assert_allclose(difference, jnp.linalg.norm(slope), rtol=2e-2)

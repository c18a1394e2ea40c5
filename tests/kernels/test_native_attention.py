"""Attention of one token by the native kernel against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.kernels import NATIVE, prepare_kernels
from llama_core.kernels.attention import attend_to_filled
from llama_core.kernels.library import INSTRUCTION_SETS, usable_cores


@pytest.fixture(autouse=True, scope="module")
def kernels():
    reason = prepare_kernels("auto")
    if reason is not None:
        pytest.skip(reason)
    yield
    NATIVE.set_threads(usable_cores())


def reference(q, keys, values, rows, positions, window):
    """Row by row and head by head."""
    (B, H, E), K, C = q.shape, keys.shape[1], keys.shape[2]
    out = np.zeros((B, H, E))
    for b, h in np.ndindex(B, H):
        if positions[b] >= C:
            continue
        first = 0 if window is None else max(0, positions[b] + 1 - window)
        seen = slice(first, positions[b] + 1)
        k, v = (np.float64(part[rows[b], h // (H // K), seen]) for part in (keys, values))
        scores = k @ np.float64(q[b, h]) / np.sqrt(E)
        shares = np.exp(scores - scores.max())
        out[b, h] = shares @ v / shares.sum()
    return out


attend = jax.jit(attend_to_filled, static_argnames=("sliding_window", "instructions"))


def call(*arguments, window, instructions):
    try:
        return np.asarray(attend(*arguments, sliding_window=window, instructions=instructions))
    except jax.errors.JaxRuntimeError as problem:
        assert "no such instructions" in str(problem)
        pytest.skip("this processor has no such instructions")


@pytest.mark.parametrize("instructions", range(len(INSTRUCTION_SETS)), ids=INSTRUCTION_SETS)
@settings(deadline=None, max_examples=40)  # each shape is a program to compile
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (5, 3, 3, 70, 150))),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    window=st.none() | st.integers(1, 80),
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_attention_is_that_of_float64(instructions, shape, dtype, window, threads, seed):
    (S, K, G, C, E), generator = shape, np.random.default_rng(seed)
    B = int(generator.integers(1, 17))
    keys, values = (np.asarray(jnp.asarray(generator.normal(size=(S, K, C, E)), dtype)) for _ in range(2))
    q = generator.normal(size=(B, K * G, E)).astype(np.float32) * 3
    rows = generator.integers(0, S, B).astype(np.int32)
    positions = generator.integers(0, C + 1, B).astype(np.int32)  # C: takes no part
    NATIVE.set_threads(threads)
    found = call(q, keys, values, rows, positions, window=window, instructions=instructions)
    np.testing.assert_allclose(found, reference(q, keys, values, rows, positions, window), atol=3e-5)


@pytest.mark.parametrize("instructions", range(len(INSTRUCTION_SETS)), ids=INSTRUCTION_SETS)
def test_what_is_not_filled_is_not_read_and_nan_stays_visible(instructions):
    generator = np.random.default_rng(0)
    keys, values = (generator.normal(size=(2, 1, 40, 24)).astype(np.float32) for _ in range(2))
    q, rows, positions = generator.normal(size=(2, 2, 24)).astype(np.float32), np.arange(2), np.array([9, 20])
    keys[:, :, 21:], values[0, :, 10:] = np.nan, np.nan
    keys[1, 0, 7, 3] = np.nan
    rows, positions = rows.astype(np.int32), positions.astype(np.int32)
    found = call(q, keys, values, rows, positions, window=None, instructions=instructions)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


@pytest.mark.parametrize("instructions", range(len(INSTRUCTION_SETS)), ids=INSTRUCTION_SETS)
def test_one_score_far_above_the_others_takes_all(instructions):
    keys, values = np.zeros((1, 1, 50, 16), np.float32), np.arange(800, dtype=np.float32).reshape(1, 1, 50, 16)
    keys[0, 0, 33] = 100
    q, rows, positions = np.full((1, 1, 16), 10, np.float32), np.zeros(1, np.int32), np.full(1, 49, np.int32)
    found = call(q, keys, values, rows, positions, window=None, instructions=instructions)
    np.testing.assert_allclose(found[0, 0], values[0, 0, 33])

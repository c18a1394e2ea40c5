"""The straight form of the sampler gives what the plain form gives, to the last bit."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered import operations

from llama_core.sampling import sampler
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import PenaltyState, make_penalty_state, stack_sampling_params
from llama_core.sampling.thresholds import PLAIN, STRAIGHT, apply_top_k_top_p

V = 300
SPECIAL = [0.0, 1e-45, 1e-38, 1.1754944e-38, 1e-7, 0.25, 0.25000003, 0.5, 1.0, 1e30, 3.4028235e38]
cut = jax.jit(apply_top_k_top_p, static_argnames="form")


def bits(values):
    return np.asarray(values).view(np.int32)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(0, 1, width=32)), min_size=1, max_size=V),
    st.sampled_from([0, 1, 2, 20, V - 1, V, 10**6]),
    st.sampled_from([0.0, 1e-30, 0.3, 0.9, 0.999999, 1.0]),
)
def test_cuts_are_equal_to_the_last_bit(weights, top_k, top_p):
    """Ties, zeros, numbers below the smallest normal one, and sums that overflow."""
    rows = np.zeros((2, V), np.float32)
    rows[0, : len(weights)], rows[1] = weights, np.random.default_rng(len(weights)).random(V)
    k, p = np.array([top_k, 7], np.int32), np.array([top_p, 0.5], np.float32)
    plain, straight = (cut(rows, k, p, form=form) for form in (PLAIN, STRAIGHT))
    np.testing.assert_array_equal(bits(plain), bits(straight))


def test_the_kth_largest_is_that_of_a_sort():
    rows = np.random.default_rng(0).random((4, 5000)).astype(np.float32)
    rows[1] = np.round(rows[1], 2)  # ties
    k = np.array([1, 40, 4999, 5000], np.int32)
    kept = np.asarray(cut(rows, k, np.ones(4, np.float32), form=STRAIGHT)) > 0
    for row, count, found in zip(rows, k, kept, strict=True):
        np.testing.assert_array_equal(found, (row >= np.sort(row)[-count]) & (row > 0))


PARAMS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.7, top_k=50, top_p=0.9, min_p=0.05, seed=1, logprobs=5),
    SamplingParams(temperature=1.3, seed=2),
    SamplingParams(temperature=1e-20, seed=3),
    SamplingParams(temperature=0.9, top_p=0.0, seed=4),
    SamplingParams(temperature=0.0, repetition_penalty=1.3, logit_bias={3: 5.0}, logprobs=20),
    SamplingParams(temperature=1.0, presence_penalty=1.5, frequency_penalty=-0.5, logit_bias={9: -100.0}, seed=5),
]


def logits_of(kind):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (len(PARAMS), V)).astype(np.float32)
    if kind == "ties":
        return np.round(logits)
    if kind == "holes":
        logits[:, rng.integers(0, V, 100)] = -np.inf
    return logits * (1e4 if kind == "huge" else 1)


@pytest.mark.parametrize("kind", ["usual", "ties", "holes", "huge"])
def test_a_sampled_token_and_its_log_probabilities_are_the_same(kind):
    logits, together = logits_of(kind), stack_sampling_params(PARAMS)
    states = [make_penalty_state(params, V, [1, 2, 3], [4, 4, 9]) for params in PARAMS]
    penalties = PenaltyState(
        *(np.concatenate([getattr(state, row.name) for state in states]) for row in dataclasses.fields(PenaltyState))
    )
    positions = np.arange(len(PARAMS), dtype=np.int32) + 10
    sample = jax.jit(sampler.sample, static_argnames=("form", "alternatives"))
    plain, straight, fewer = (
        sample(logits, together, penalties, positions, form=form, alternatives=alternatives)
        for form, alternatives in ((PLAIN, True), (STRAIGHT, True), (STRAIGHT, False))
    )
    np.testing.assert_array_equal(plain.token, straight.token)
    np.testing.assert_array_equal(plain.top, straight.top)
    for name in ("logprob", "final_logprob", "top_logprob", "top_final_logprob"):
        np.testing.assert_allclose(getattr(plain, name), getattr(straight, name), atol=1e-6)
    np.testing.assert_array_equal(fewer.token, straight.token)
    np.testing.assert_allclose(fewer.logprob, straight.logprob, atol=1e-6)
    assert not np.any(fewer.top) and not np.any(fewer.top_logprob)


def test_the_straight_sampler_has_no_loop_and_no_branch():
    together = stack_sampling_params(PARAMS)
    penalties = jax.tree.map(
        lambda row: jnp.repeat(jnp.asarray(row), len(PARAMS), 0), make_penalty_state(SamplingParams(), V)
    )

    def found(form):
        sample = jax.jit(functools.partial(sampler.sample, form=form))
        return operations(sample, logits_of("usual"), together, penalties, np.arange(len(PARAMS)))

    both = {"while", "case"}
    assert both < found(PLAIN) and not (both | {"if"}) & found(STRAIGHT)

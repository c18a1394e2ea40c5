"""The distribution against NumPy in float64 and transformers; the draw against chi-square."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llama_core.sampling import sampler
from llama_core.sampling.params import MAX_ALTERNATIVES, SamplingParams
from llama_core.sampling.sampler import make_penalty_state, next_token_distribution, stack_sampling_params

distribution, draw = jax.jit(sampler.distribution), jax.jit(sampler.draw)


@jax.jit
def sample(logits, knobs, positions):
    """The tokens, where no context matters."""
    return sampler.sample(logits, knobs, no_context(*logits.shape), positions).token


def no_context(rows, vocab_size):
    return jax.tree.map(
        lambda row: jnp.repeat(jnp.asarray(row), rows, 0), make_penalty_state(SamplingParams(), vocab_size)
    )


GRID = [
    SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    for temperature in (0.0, 0.3, 1.0, 1.7)
    for top_k, top_p, min_p in [
        (0, 1.0, 0.0),
        (1, 1.0, 0.0),
        (7, 1.0, 0.0),
        (0, 0.6, 0.0),
        (0, 1.0, 0.2),
        (40, 0.9, 0.05),
    ]
]


def reference(logits, params):
    """The same distribution by sorting, in float64."""
    logits = np.asarray(logits, np.float64)
    if params.temperature == 0:
        return (np.arange(len(logits)) == np.argmax(logits)).astype(float)
    order = np.argsort(-logits, kind="stable")
    p = np.exp((logits[order] - logits.max()) / params.temperature)
    if params.top_k:
        p[params.top_k :] = 0
    p /= p.sum()
    if params.top_p < 1:
        p[np.concatenate([[0.0], np.cumsum(p)[:-1]]) >= max(params.top_p, 1e-30)] = 0
        p /= p.sum()
    p[p < params.min_p * p.max()] = 0
    result = np.empty_like(p)
    result[order] = p / p.sum()
    return result


@pytest.fixture(params=[50, 128256])
def logits(request):
    return np.random.default_rng(request.param).normal(0, 3, request.param).astype(np.float32)


@pytest.mark.parametrize("params", GRID)
def test_the_distribution_is_the_float64_formula(logits, params):
    np.testing.assert_allclose(next_token_distribution(logits, params), reference(logits, params), atol=2e-4)


def test_the_support_is_exactly_that_of_the_formula(logits):
    for params in GRID:
        found = np.asarray(next_token_distribution(logits, params)) > 0
        expected = reference(logits, params) > 0
        if params.top_p == 1.0:  # the last token that top-p lets in depends on the rounding of a sum
            assert (found == expected)[expected].all() and found.sum() <= expected.sum()
        else:
            assert abs(int(found.sum()) - int(expected.sum())) <= max(1, len(logits) // 10_000)


@pytest.mark.parametrize("params", [params for params in GRID if params.temperature > 0])
def test_the_cuts_are_those_of_transformers(params):
    torch = pytest.importorskip("torch")
    from transformers import generation

    logits = np.random.default_rng(5).normal(0, 2, 1000).astype(np.float32)
    scores = generation.TemperatureLogitsWarper(params.temperature)(None, torch.tensor(logits)[None])
    if params.top_k:
        scores = generation.TopKLogitsWarper(params.top_k)(None, scores)
    if params.top_p < 1:
        scores = generation.TopPLogitsWarper(params.top_p)(None, scores)
    if params.min_p:
        scores = generation.MinPLogitsWarper(params.min_p)(None, scores)
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    found = np.asarray(next_token_distribution(logits, params))
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def processed(logits, params, prompt, reply):
    """The scores after transformers' logits processors; OpenAI's two penalties by their formula."""
    import torch
    from transformers import generation

    ids, scores = torch.tensor([prompt + reply]), torch.tensor(logits)[None]
    if params.logit_bias:
        biases = [[[token_id], bias] for token_id, bias in params.logit_bias]
        scores = generation.SequenceBiasLogitsProcessor(biases)(ids, scores)
    if params.repetition_penalty != 1:
        scores = generation.RepetitionPenaltyLogitsProcessor(params.repetition_penalty)(ids, scores)
    counts = torch.bincount(torch.tensor(reply, dtype=torch.long), minlength=len(logits))
    scores = scores - params.presence_penalty * (counts > 0) - params.frequency_penalty * counts
    for wanted, warper, value in [
        (params.temperature > 0, generation.TemperatureLogitsWarper, params.temperature),
        (params.top_k, generation.TopKLogitsWarper, params.top_k),
        (params.top_p < 1, generation.TopPLogitsWarper, params.top_p),
        (params.min_p, generation.MinPLogitsWarper, params.min_p),
    ]:
        scores = warper(value)(ids, scores) if wanted else scores
    return torch.softmax(scores, dim=-1)[0].numpy()


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0, repetition_penalty=1.3),
        SamplingParams(temperature=1.0, repetition_penalty=0.7),
        SamplingParams(temperature=1.0, presence_penalty=1.5),
        SamplingParams(temperature=1.0, frequency_penalty=-0.5),
        SamplingParams(temperature=1.0, logit_bias={3: 4.0, 400: -100.0}),
        SamplingParams(
            temperature=0.6,
            repetition_penalty=1.2,
            presence_penalty=0.5,
            frequency_penalty=0.3,
            top_k=50,
            top_p=0.9,
            min_p=0.02,
            logit_bias={7: 2.0},
        ),
    ],
)
@pytest.mark.parametrize("holes", [False, True])
def test_penalties_bias_and_cuts_in_the_order_of_transformers(params, holes):
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 2, 500).astype(np.float32)
    if holes:  # forbidden tokens, and equal ones where no cut runs through them
        logits[rng.integers(0, 500, 60)] = -np.inf
        logits[20:24] = logits.max() + 1
    prompt, reply = rng.integers(0, 500, 40).tolist(), rng.integers(0, 60, 30).tolist()
    found = np.asarray(next_token_distribution(logits, params, prompt + reply, prompt_tokens=40))
    expected = processed(logits, params, prompt, reply)
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_log_probabilities_before_and_after_the_cuts():
    logits = np.random.default_rng(8).normal(0, 2, (2, 300)).astype(np.float32)
    params = [
        SamplingParams(temperature=0.7, top_k=5, seed=1, logprobs=20),
        SamplingParams(temperature=1.0, frequency_penalty=1.0, seed=2, logprobs=20),
    ]
    contexts = [make_penalty_state(row, 300, [1], [2, 2, 3]) for row in params]
    context = jax.tree.map(lambda *rows: np.concatenate(rows), *contexts)
    choice = jax.jit(sampler.sample)(logits, stack_sampling_params(params), context, np.array([4, 4]))
    raw = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    for row, knobs in enumerate(params):
        cut = processed(logits[row], knobs, [1], [2, 2, 3])
        likeliest = np.argsort(-raw[row], kind="stable")[:MAX_ALTERNATIVES]
        assert choice.top[row].tolist() == likeliest.tolist()
        np.testing.assert_allclose(choice.top_logprob[row], raw[row][likeliest], atol=1e-4)
        np.testing.assert_allclose(np.exp(choice.top_final_logprob[row]), cut[likeliest], atol=2e-4)
        token = int(choice.token[row])
        np.testing.assert_allclose(choice.logprob[row], raw[row][token], atol=1e-4)
        np.testing.assert_allclose(np.exp(choice.final_logprob[row]), cut[token], atol=2e-4)


def test_each_row_has_its_own_knobs(logits):
    rows = jnp.asarray(np.tile(logits, (len(GRID), 1)))
    together = distribution(rows, stack_sampling_params(GRID))
    for row, params in zip(together, GRID, strict=True):
        np.testing.assert_allclose(row, reference(logits, params), atol=2e-4)


def test_top_p_zero_leaves_the_likeliest_token():
    p = next_token_distribution(np.array([0.0, 3.0, 1.0], np.float32), SamplingParams(temperature=1.0, top_p=0.0))
    assert p.tolist() == [0.0, 1.0, 0.0]


def test_values_equal_to_the_threshold_all_survive():
    p = next_token_distribution(np.array([1.0, 2.0, 1.0, 0.0], np.float32), SamplingParams(temperature=1.0, top_k=2))
    assert (np.asarray(p) > 0).tolist() == [True, True, True, False]


def test_a_temperature_near_zero_overflows_nothing():
    logits = np.array([-3e4, 3e4, 2.9e4, -np.inf], np.float32)
    assert next_token_distribution(logits, SamplingParams(temperature=1e-20)).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "params", [SamplingParams(temperature=1.0), SamplingParams(temperature=0.8, top_k=20, top_p=0.9)]
)
def test_draws_follow_the_distribution(params):
    draws, vocabulary = 20_000, 600
    logits = np.random.default_rng(1).normal(0, 1.5, vocabulary).astype(np.float32)
    expected = reference(logits, params)
    knobs = stack_sampling_params([dataclasses.replace(params, seed=3)])
    one_each = jax.jit(jax.vmap(lambda position: sample(jnp.asarray(logits)[None], knobs, position[None])[0]))
    counts = np.bincount(one_each(jnp.arange(draws)), minlength=vocabulary)
    assert counts[expected == 0].sum() == 0
    often = expected * draws >= 5
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum()) * draws
    keep = wanted > 0
    assert stats.chisquare(observed[keep], wanted[keep]).pvalue > 1e-3


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-38, 1e-7, 0.3, 1.0]), min_size=1, max_size=600).filter(any),
    st.sampled_from([0.0, 1e-7, 0.5, 1 - 2**-24]),
)
def test_no_draw_lands_outside_the_support(shares, uniform):
    p = np.zeros(600, np.float32)
    p[: len(shares)] = shares
    p /= p.sum()
    token = int(draw(p[None], np.array([uniform], np.float32))[0])
    assert p[token] > 0


def test_a_draw_depends_on_its_own_row_only():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1, (4, 500)).astype(np.float32)
    params = [SamplingParams(temperature=1.0, seed=seed, top_k=k) for seed, k in [(5, 0), (6, 3), (5, 9), (7, 0)]]
    positions = np.array([10, 11, 12, 13], np.int32)
    together = sample(jnp.asarray(logits), stack_sampling_params(params), positions)
    alone = [
        sample(jnp.asarray(logits[i : i + 1]), stack_sampling_params([params[i]]), positions[i : i + 1])[0]
        for i in range(4)
    ]
    assert together.tolist() == [int(token) for token in alone]


def test_greedy_takes_the_first_of_equals_beside_rows_that_draw():
    logits = jnp.asarray([[0.0, 2.0, 2.0], [0.0, 2.0, 2.0]])
    knobs = stack_sampling_params([SamplingParams(temperature=0.0), SamplingParams(temperature=1.0, seed=1)])
    assert all(int(sample(logits, knobs, jnp.array([p, p]))[0]) == 1 for p in range(20))


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", 1.5),
        ("min_p", -1.0),
        ("max_new_tokens", 0),
        ("max_new_tokens", True),
        ("seed", -1),
        ("seed", 2**32),
        ("stop", "END"),
        ("stop", ("",)),
        ("stop_token_ids", [1]),
        ("stop_token_ids", (-1,)),
        ("logprobs", 21),
        ("logit_bias", ((1, float("nan")),)),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 2.5),
    ],
)
def test_a_knob_out_of_range_is_named(unchecked_types, name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        SamplingParams(**{name: value})


def test_the_table_covers_every_numeric_knob():
    knobs = SamplingParams.knobs()
    assert list(knobs) == [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "max_new_tokens",
    ]
    for name, knob in knobs.items():
        assert getattr(SamplingParams(), name) == knob.default
        assert knob.minimum <= knob.default <= knob.maximum <= knob.limit

"""Ids that the tokenizer cannot write (padding of the embedding, holes in a vocabulary) have no share in anything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import forward
from engine_steps import ids

from llama_core import SamplingParams, load_checkpoint
from llama_core.engine.records import Records, Status, pack
from llama_core.sampling.sampler import make_penalty_state, next_token_distribution, sample, stack_sampling_params

PROMPT, HOLE = [5, 6, 7], 200
in_the_plain_form = pytest.mark.parametrize("form", ["plain"], indirect=True)


@pytest.fixture(scope="module")
def loud(checkpoint):
    """The small checkpoint, in which the padding and a hole of the vocabulary have the largest scores by far."""
    model = load_checkpoint(checkpoint[0])
    padding = model.tokenizer.vocab_size
    assert padding < model.config.vocab_size
    strange = np.array([HOLE, *range(padding, model.config.vocab_size)])
    head = model.params.output.at[strange].multiply(20.0)
    texts = [b"" if token_id == HOLE else text for token_id, text in enumerate(model.tokenizer.token_bytes)]
    tokenizer = dataclasses.replace(model.tokenizer, token_bytes=texts)
    return dataclasses.replace(
        model, params=dataclasses.replace(model.params, output=head), tokenizer=tokenizer
    ), strange


@pytest.fixture
def engine(loud, serve):
    return serve(loud[0].params, loud[0])


def shares_of(model, strange):
    """What is likely after the prompt when only the tokenizer's ids count, in float64."""
    scores = np.asarray(forward(model.params, np.array([PROMPT]), model.config)[0][0, -1], np.float64)
    assert scores.argmax() in strange
    scores[strange] = -np.inf
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


@in_the_plain_form
@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_an_id_that_the_tokenizer_cannot_write_is_never_drawn(engine, loud, temperature):
    wish = dict.fromkeys(loud[1].tolist(), 50.0)
    for seed in range(3):
        params = SamplingParams(temperature, seed=seed, max_new_tokens=40, ignore_eos=True, logprobs=20)
        wishing = dataclasses.replace(params, logit_bias=wish)
        for request in [engine.submit(PROMPT, params), engine.submit(PROMPT, wishing)]:
            drawn = {token.id for token in request} | {other.id for token in request for other in token.top}
            assert len(request.token_ids) == 40 and not drawn & set(loud[1].tolist())


@in_the_plain_form
def test_it_has_no_share_among_the_others(engine, loud):
    shares = shares_of(*loud)
    token = next(iter(engine.submit(PROMPT, SamplingParams(temperature=0.0, max_new_tokens=1, logprobs=20))))
    assert token.id == shares.argmax() and [other.id for other in token.top] == np.argsort(-shares)[:20].tolist()
    np.testing.assert_allclose([np.exp(other.logprob) for other in token.top], np.sort(shares)[::-1][:20], rtol=1e-4)


@in_the_plain_form
def test_the_plot_shows_what_is_drawn_from(engine, loud):
    params = SamplingParams(temperature=0.8, top_p=0.9, repetition_penalty=1.3, seed=1, max_new_tokens=1, logprobs=20)
    plotted = np.asarray(next_token_distribution(engine.next_token_logits(PROMPT), params, PROMPT, len(PROMPT)))
    assert plotted[loud[1]].max() == 0 and abs(plotted.sum() - 1) < 1e-5
    token = next(iter(engine.submit(PROMPT, params)))
    for other in token.top:
        np.testing.assert_allclose(np.exp(other.final_logprob), plotted[other.id], atol=1e-5)


@in_the_plain_form
def test_weights_without_a_tokenizer_keep_all_ids(loud, serve):
    model, strange = loud
    [token] = ids(serve(model.params).submit(PROMPT, SamplingParams(temperature=0.0, max_new_tokens=1)))
    assert token in strange


def test_ends_that_only_the_config_knows_stay_ends(loud):
    model = dataclasses.replace(loud[0], config=dataclasses.replace(loud[0].config, eos_token_id=(1, 310)))
    assert model.drawable[310] and not model.drawable[311] and not model.drawable[HOLE]
    assert model.drawable[[0, 1, 2]].all()  # special tokens have no text and are no holes


def test_a_model_that_can_draw_few_ids_shows_few_alternatives():
    scores = jnp.where(jnp.arange(97) < 8, jnp.linspace(0, 3, 97), -jnp.inf)[None]
    params = stack_sampling_params([SamplingParams(seed=1, logprobs=20)])
    choice = jax.jit(sample)(scores, params, make_penalty_state(SamplingParams(), 97), jnp.zeros(1, jnp.int32))
    records = Records(np.asarray(pack(jnp.full(1, Status.GOING), choice)))
    assert [row[0] for row in records.alternatives(0, 20)] == [7, 6, 5, 4, 3, 2, 1, 0]

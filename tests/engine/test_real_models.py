"""The engine on real programs, against transformers and published text."""

import dataclasses
import gc
import json
import weakref

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import STORIES, TINY, reference_greedy
from engine_steps import ids, params

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine.errors import NotFinite
from llama_core.runtime.forms import PLAIN

# test_compiled.py has the programs of each form; here are those of which the host chooses most.
in_two_forms = pytest.mark.parametrize("form", ["plain", "masked"], indirect=True)


@pytest.fixture
def engine(serve):
    return serve()


@in_two_forms
def test_greedy_replies_are_those_of_transformers_alone_and_in_company(engine, checkpoint):
    theirs = checkpoint[1]
    prompts = [np.random.default_rng(n).integers(3, TINY["vocab_size"], n).tolist() for n in (1, 7, 33, 130)]
    greedy = params(32, ignore_eos=True)
    expected = [reference_greedy(theirs, prompt, 32) for prompt in prompts]
    assert [ids(engine.submit(prompt, greedy)) for prompt in prompts] == expected
    noisy = SamplingParams(temperature=1.0, seed=1, max_new_tokens=60, ignore_eos=True)
    company = [engine.submit([9, 8, 7], noisy)]
    generations = [engine.submit(prompt, greedy) for prompt in prompts]
    assert [ids(generation) for generation in generations] == expected
    assert len(ids(company[0])) == 60


@in_two_forms
def test_same_seed_same_reply_alone_and_in_company(engine):
    seeded = SamplingParams(temperature=1.2, seed=7, max_new_tokens=24, ignore_eos=True)
    alone = ids(engine.submit([3, 4, 5], seeded))
    others = [engine.submit([6 + i], SamplingParams(temperature=0.9, seed=i, max_new_tokens=30)) for i in range(2)]
    assert ids(engine.submit([3, 4, 5], seeded)) == alone
    assert all(ids(other) for other in others)
    different = SamplingParams(temperature=1.2, seed=8, max_new_tokens=24, ignore_eos=True)
    assert ids(engine.submit([3, 4, 5], different)) != alone


@pytest.mark.parametrize("form", ["plain"], indirect=True)
def test_a_real_llama_tells_its_published_stories(form):
    """One after the other; the tests above put replies side by side."""
    if not STORIES.is_dir():
        pytest.skip("stories260K is not here")
    model, cases = load_checkpoint(STORIES), json.loads((STORIES / "expected.json").read_text())["cases"]
    with Engine(model, slots=1, max_seq_len=512, form=form) as engine:
        for case in cases:
            assert model.tokenizer.encode(case["prompt"], bos=True) == case["prompt_ids"]
        generations = [engine.submit(case["prompt_ids"], params(len(case["greedy_ids"]))) for case in cases]
        for case, generation in zip(cases, generations, strict=True):
            assert model.tokenizer.decode(case["prompt_ids"] + ids(generation)) == case["text"]


@in_two_forms
def test_the_begun_part_of_a_reply_counts_for_penalties(engine):
    penalties = dict(temperature=0.9, seed=3, presence_penalty=1.5, frequency_penalty=1.0, max_new_tokens=24)
    prompt = [5, 6, 7]
    whole = ids(engine.submit(prompt, SamplingParams(**penalties, ignore_eos=True)))
    resumed = engine.submit(prompt, SamplingParams(**penalties, ignore_eos=True), reply_ids=whole[:10])
    assert ids(resumed)[:14] == whole[10:]
    told_as_prompt = engine.submit(prompt + whole[:10], SamplingParams(**penalties, ignore_eos=True))
    assert ids(told_as_prompt)[:14] != whole[10:]


@in_two_forms
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_end_the_reply_with_a_named_error(model, serve, temperature, bad):
    engine = serve(dataclasses.replace(model.params, norm=model.params.norm * bad))
    request = engine.submit([5, 6], SamplingParams(temperature=temperature, max_new_tokens=8, logprobs=3))
    with pytest.raises(NotFinite, match="--dtype float32"):
        ids(request)
    assert request.token_ids == [] and request.finish_reason == "error" and engine.healthy
    with pytest.raises(NotFinite):
        engine.next_token_logits([5, 6])


@in_two_forms
def test_a_reply_that_broke_leaves_nothing_in_its_slot(model, checkpoint, serve):
    """Its keys and values were NaN: behind a shorter prompt they would be multiplied by 0, which gives NaN."""
    poisoned = np.array(model.params.token_embedding)
    poisoned[7] = np.nan
    head = jnp.asarray(model.params.token_embedding) if model.params.output is None else model.params.output
    engine = serve(dataclasses.replace(model.params, token_embedding=jnp.asarray(poisoned), output=head))
    for _ in range(3):  # once in each slot
        with pytest.raises(NotFinite):
            ids(engine.submit([5] * 20 + [7, 6], params(3)))
    after = engine.submit([5] * 20 + [6], params(5, ignore_eos=True))
    assert ids(after) == reference_greedy(checkpoint[1], [5] * 20 + [6], 5) and after.cached_tokens == 0


def test_a_closed_engine_gives_its_memory_back_at_once(checkpoint):
    model = load_checkpoint(checkpoint[0])
    with Engine(model, slots=1, max_seq_len=64, form=dataclasses.replace(PLAIN, chunk_sizes=(8, 16))) as engine:
        request = engine.submit([5, 6], SamplingParams(max_new_tokens=3))
        ids(request)
        held = [weakref.ref(model.params.norm), weakref.ref(engine._scheduler.programs.state.cache.keys[0])]
    gc.disable()  # what only the garbage collector finds comes back too late
    try:
        del model
        assert [there() for there in held] == [None, None]
    finally:
        gc.enable()
    assert request.finish_reason == "length" and not engine.ready

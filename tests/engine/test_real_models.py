"""The engine on real programs, against transformers and published text."""

import json

import numpy as np
import pytest
from checkpoints import STORIES, TINY, reference_greedy
from engine_steps import ids, params

from llama_core import Engine, SamplingParams, load_checkpoint


@pytest.fixture(scope="module")
def engine(model):
    with Engine(model, slots=3, max_seq_len=256) as engine:
        yield engine


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


def test_same_seed_same_reply_alone_and_in_company(engine):
    seeded = SamplingParams(temperature=1.2, seed=7, max_new_tokens=24, ignore_eos=True)
    alone = ids(engine.submit([3, 4, 5], seeded))
    others = [engine.submit([6 + i], SamplingParams(temperature=0.9, seed=i, max_new_tokens=30)) for i in range(2)]
    assert ids(engine.submit([3, 4, 5], seeded)) == alone
    assert all(ids(other) for other in others)
    different = SamplingParams(temperature=1.2, seed=8, max_new_tokens=24, ignore_eos=True)
    assert ids(engine.submit([3, 4, 5], different)) != alone


def test_a_real_llama_tells_its_published_stories():
    if not STORIES.is_dir():
        pytest.skip("stories260K is not here")
    model, cases = load_checkpoint(STORIES), json.loads((STORIES / "expected.json").read_text())["cases"]
    with Engine(model, slots=4, max_seq_len=512) as engine:
        for case in cases:
            assert model.tokenizer.encode(case["prompt"], bos=True) == case["prompt_ids"]
        generations = [engine.submit(case["prompt_ids"], params(len(case["greedy_ids"]))) for case in cases]
        for case, generation in zip(cases, generations, strict=True):
            assert model.tokenizer.decode(case["prompt_ids"] + ids(generation)) == case["text"]

"""Scheduling with programs in NumPy; whole replies against transformers; the real stories260K."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest
from checkpoints import STORIES, TINY, reference_greedy
from fakes import FAKE_MODEL, FakePrograms, expected_tokens

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine import EngineError


def params(count, **more):
    return SamplingParams(temperature=0.0, max_new_tokens=count, **more)


@pytest.fixture
def start():
    """Engines on fake programs, closed at the end."""
    engines = []

    def make(slots=2, fails_at=None, **options):
        fake = FakePrograms(slots, fails_at)
        engine = Engine(FAKE_MODEL, slots, compile=lambda *_: fake, **options)
        engines.append((engine, fake))
        return engine, fake

    yield make
    for engine, fake in engines:
        fake.gate.set()
        engine.close()


def ids(generation):
    return [token.id for token in generation]


def wait_for(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def test_everyone_gets_their_own_tokens(start):
    engine, _ = start(slots=3)
    prompts = [[i + 1, 2 * i + 1, 7] * (i % 4 + 1) for i in range(12)]
    generations = [engine.submit(prompt, params(5 + i)) for i, prompt in enumerate(prompts)]
    for i, (prompt, generation) in enumerate(zip(prompts, generations, strict=True)):
        assert ids(generation) == expected_tokens(prompt, 5 + i)
        assert generation.finish_reason == "length"


def test_first_come_first_served(start):
    engine, fake = start(slots=1)
    fake.gate.clear()
    generations = [engine.submit([i + 1], params(3)) for i in range(5)]
    order = []
    threads = [threading.Thread(target=lambda i=i: (ids(generations[i]), order.append(i))) for i in range(5)]
    for thread in threads:
        thread.start()
    fake.gate.set()
    for thread in threads:
        thread.join(5)
    finished = sorted(range(5), key=lambda i: generations[i].submitted + generations[i].time_to_first_token)
    assert finished == [0, 1, 2, 3, 4] == sorted(order)


def test_a_long_prompt_is_read_between_the_others_words(start):
    engine, fake = start(slots=2, max_seq_len=256)
    fake.pace = 0.005
    talking = engine.submit([1], params(100))
    wait_for(lambda: len(talking.tokens) > 3)
    reading = engine.submit([2] * 250, params(2))
    ids(reading)
    talking.cancel()
    kinds = [call[0] for call in fake.calls]
    chunks = [place for place, call in enumerate(fake.calls) if call[0] == "prefill" and call[1] == 1]
    assert len(chunks) == 2 and "decode" in kinds[chunks[0] : chunks[1]]


def test_end_of_text_ends_a_reply_unless_ignored(start):
    engine, fake = start()
    eos = FAKE_MODEL.config.eos_token_id[0]
    fake._next = lambda slot: fake.rows[slot].append(eos) or eos
    stopped = engine.submit([3], params(5))
    assert ids(stopped) == [eos] and stopped.finish_reason == "stop"
    ignored = engine.submit([3], params(5, ignore_eos=True))
    assert ids(ignored) == [eos] * 5 and ignored.finish_reason == "length"


def test_a_reply_ends_where_the_context_ends(start):
    engine, _ = start(max_seq_len=20)
    generation = engine.submit([1] * 15, params(100))
    assert len(ids(generation)) == 5 and generation.finish_reason == "length"


def test_cancelling_frees_the_slot_whatever_it_is_doing(start):
    engine, fake = start(slots=1, max_seq_len=256)
    fake.pace = 0.005
    decoding = engine.submit([1], params(200))
    queued = engine.submit([2], params(5))
    wait_for(lambda: len(decoding.tokens) > 2)
    queued.cancel()
    wait_for(lambda: queued.finish_reason == "cancelled")
    decoding.cancel()
    wait_for(lambda: decoding.finish_reason == "cancelled")
    assert engine.stats().busy == 0
    fake.gate.clear()
    reading = engine.submit([3] * 250, params(5))
    reading.cancel()
    fake.gate.set()
    wait_for(lambda: reading.finish_reason == "cancelled")
    assert ids(reading) == [] and ids(engine.submit([4], params(3))) == expected_tokens([4], 3)


def test_async_iteration_and_leaving_early(start):
    engine, _ = start()

    async def collect(count):
        generation = engine.submit([5], params(count))
        return [token.id async for token in generation], generation.finish_reason

    async def both():
        return await asyncio.gather(collect(4), collect(9))

    assert asyncio.run(both()) == [(expected_tokens([5], 4), "length"), (expected_tokens([5], 9), "length")]


def test_a_failed_device_is_an_error_for_all_and_the_engine_says_so(start):
    engine, _ = start(slots=1, fails_at=6)
    running, queued = engine.submit([1], params(50)), engine.submit([2], params(5))
    for generation in (running, queued):
        with pytest.raises(EngineError, match="the device is gone"):
            ids(generation)
        assert generation.finish_reason == "error"
    assert not engine.healthy
    with pytest.raises(EngineError, match="start the app again"):
        engine.submit([1], params(1))


def test_what_cannot_be_served_is_refused_at_the_door(start):
    engine, _ = start(max_seq_len=20)
    for prompt, words in [([], "empty"), ([1] * 20, "20 tokens"), ([1, 97], "token id 97"), ([-1], "token id -1")]:
        with pytest.raises(EngineError, match=words):
            engine.submit(prompt, params(1))
    with pytest.raises(EngineError, match="slots is 0"):
        Engine(FAKE_MODEL, slots=0, compile=lambda *_: None)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit([1], params(1))


def test_closing_ends_what_runs(start):
    engine, _ = start(slots=1)
    running, queued = engine.submit([1], params(200)), engine.submit([2], params(200))
    engine.close()
    assert ids(running) is not None and running.finish_reason in ("cancelled", "length")
    assert ids(queued) == [] and queued.finish_reason == "cancelled"


def test_context_is_lowered_to_what_the_model_was_made_for(start):
    assert start(max_seq_len=10_000)[0].max_seq_len == FAKE_MODEL.config.max_position_embeddings


@pytest.fixture(scope="module")
def engine(model):
    with Engine(model, slots=3, max_seq_len=256) as engine:
        yield engine


def test_greedy_replies_are_those_of_transformers_alone_and_in_company(engine, checkpoint):
    theirs = checkpoint[1]
    prompts = [
        np.random.default_rng(n).integers(3, TINY["vocab_size"], n).tolist() for n in (1, 7, 33, 130)
    ]
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

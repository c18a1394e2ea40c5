"""Scheduling with programs in NumPy; whole replies against transformers; the real stories260K."""

import asyncio
import itertools
import json
import threading
import time

import fakes
import numpy as np
import pytest
from checkpoints import STORIES, TINY, reference_greedy
from fakes import FAKE_MODEL, VOCAB, FakePrograms, expected_tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine import EngineError, QueueFull


def params(count, **more):
    return SamplingParams(temperature=0.0, max_new_tokens=count, **more)


@pytest.fixture
def start():
    """Engines on fake programs, closed at the end."""
    engines = []

    def make(slots=2, fails_at=None, **options):
        fake = FakePrograms(slots, fails_at)
        engine = Engine(FAKE_MODEL, slots, compile=lambda *_: fake, **options)
        engine.warm_up()
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


@pytest.fixture
def cold():
    """An engine that is not warm yet, its programs, and the event that lets them be compiled."""
    fake, gate = FakePrograms(1), threading.Event()

    def compile(params, config, slots, max_seq_len, form, advance):
        advance(1, 2)
        gate.wait(10)
        advance(2, 2)
        return fake

    engine = Engine(FAKE_MODEL, 1, compile=compile)
    yield engine, gate
    gate.set()
    engine.close()


def test_what_is_asked_before_the_programs_are_there_is_answered_in_order(cold):
    engine, gate = cold
    generations = [engine.submit([i + 1], params(3)) for i in range(3)]
    seen = []
    warm_up = threading.Thread(target=engine.warm_up, args=(lambda *step: seen.append(step),))
    warm_up.start()
    wait_for(lambda: engine.compiled == (1, 2))
    assert engine.healthy and not engine.ready and not any(generation.token_ids for generation in generations)
    assert [generation.queue_position for generation in generations] == [1, 2, 3] and engine.stats().queued == 3
    gate.set()
    for i, generation in enumerate(generations):
        assert ids(generation) == expected_tokens([i + 1], 3)
    assert engine.ready and seen == [(1, 2), (2, 2)]
    begun = [generation.submitted + generation.time_to_first_token for generation in generations]
    assert begun == sorted(begun)


def test_who_gives_up_before_the_programs_are_there_need_not_wait(cold):
    engine, gate = cold
    first, second = engine.submit([1], params(3)), engine.submit([2], params(3))
    first.cancel()
    assert first.finish_reason == "cancelled" and ids(first) == [] and engine.stats().queued == 1
    second.update(SamplingParams(temperature=0.5, max_new_tokens=4))
    gate.set()
    engine.warm_up()
    assert ids(second) == expected_tokens([2], 4, 0.5)


def test_programs_that_cannot_be_compiled_are_said_to_everybody():
    def compile(*_):
        raise RuntimeError("no room\nfor 3 arrays")

    engine = Engine(FAKE_MODEL, 1, compile=compile)
    waiting = engine.submit([1], params(3))
    with pytest.raises(EngineError, match=r"cannot be compiled \(RuntimeError: no room\); if memory is short"):
        engine.warm_up()
    assert not engine.healthy and not engine.ready and waiting.finish_reason == "error"
    for ask in (lambda: ids(waiting), lambda: engine.submit([1], params(3))):
        with pytest.raises(EngineError, match="no room"):
            ask()
    engine.close()


def test_closing_a_cold_engine_ends_its_warm_up(cold):
    engine, gate = cold
    waiting, problems = engine.submit([1], params(3)), []

    def warm_up():
        try:
            engine.warm_up()
        except EngineError as problem:
            problems.append(str(problem))

    thread = threading.Thread(target=warm_up)
    thread.start()
    wait_for(lambda: engine.compiled == (1, 2))
    engine.close()
    assert waiting.finish_reason == "cancelled"
    gate.set()
    thread.join(5)
    assert not engine.ready and "the engine is closed" in problems[0]


def test_first_come_first_served(start):
    engine, fake = start(slots=1)
    fake.gate.clear()
    generations = [engine.submit([i + 1], params(3)) for i in range(5)]
    wait_for(lambda: generations[0].queue_position is None)
    assert [generation.queue_position for generation in generations[1:]] == [1, 2, 3, 4]
    fake.gate.set()
    for generation in generations:
        ids(generation)
    begun = sorted(range(5), key=lambda i: generations[i].submitted + generations[i].time_to_first_token)
    assert begun == [0, 1, 2, 3, 4]


def test_a_long_prompt_is_read_between_the_others_words(start):
    engine, fake = start(slots=2, max_seq_len=256)
    fake.pace = 0.005
    talking = engine.submit([1], params(100))
    wait_for(lambda: len(talking.tokens) > 3)
    reading = engine.submit([2] * 250, params(2))
    ids(reading)
    talking.cancel()
    spoken = [call[0] for call in fake.calls if call[0] == "decode" or call[:2] == ("layers", 1)]
    assert [kind for kind, _ in itertools.groupby(spoken)].count("layers") > 2


def test_a_short_prompt_does_not_wait_for_a_long_one(start):
    engine, fake = start(slots=3)
    writer = engine.submit([1], params(200))
    wait_for(lambda: writer.token_ids)
    fake.gate.clear()
    long, short = engine.submit([2] * 240, params(2)), engine.submit([3] * 40, params(2))
    fake.gate.set()
    assert ids(short) == expected_tokens([3] * 40, 2) and not long.token_ids
    assert ids(long) == expected_tokens([2] * 240, 2)


def test_a_long_prompt_is_read_however_many_short_ones_come(start):
    engine, fake = start(slots=3)
    fake.gate.clear()
    long, *short = [engine.submit(prompt, params(1)) for prompt in ([2] * 240, *([3 + i] * 20 for i in range(60)))]
    fake.gate.set()
    assert ids(long) == expected_tokens([2] * 240, 1) and sum(not reply.token_ids for reply in short) > 20
    for i, reply in enumerate(short):
        assert ids(reply) == expected_tokens([3 + i] * 20, 1)


def test_end_of_text_ends_a_reply_unless_ignored(start, monkeypatch):
    engine, _ = start()
    eos = FAKE_MODEL.config.eos_token_id[0]
    monkeypatch.setattr(fakes, "next_token", lambda row, temperature: eos)
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


def test_a_full_line_takes_no_more(start):
    engine, fake = start(slots=1, max_queue=2)
    fake.gate.clear()
    first = engine.submit([1], params(2))
    wait_for(lambda: first.queue_position is None)
    waiting = [engine.submit([i], params(2)) for i in (2, 3)]
    with pytest.raises(QueueFull, match="2 requests wait already"):
        engine.submit([4], params(2))
    fake.gate.set()
    assert [ids(generation) for generation in waiting] == [expected_tokens([2], 2), expected_tokens([3], 2)]
    assert ids(engine.submit([4], params(2))) == expected_tokens([4], 2)


def test_a_conversation_reads_only_what_is_new(start):
    engine, _ = start(slots=2)
    prompt, new = [5, 6, 7], [8, 9]
    for turn in range(10):
        generation = engine.submit(prompt, params(4))
        reply = ids(generation)
        assert reply == expected_tokens(prompt, 4)
        # The newest token of the last reply was never read back.
        assert generation.prompt_tokens - generation.cached_tokens == (3 if turn == 0 else 1 + len(new))
        prompt = prompt + reply + new
    message_3 = 3 + 2 * 6
    edited = engine.submit(prompt[:message_3] + [50, 51], params(4))
    assert ids(edited) == expected_tokens(prompt[:message_3] + [50, 51], 4)
    assert edited.cached_tokens == message_3


def test_an_edit_leaves_the_old_branch_in_its_slot(start):
    engine, fake = start(slots=2)
    trunk, branch = list(range(1, 21)), [60, 61]
    long = engine.submit(trunk + [30] * 60, params(4))
    ids(long)
    edited = engine.submit(trunk + branch, params(4))
    assert ids(edited) == expected_tokens(trunk + branch, 4) and edited.cached_tokens == 20
    assert ("copy", 0, 1, 20) in fake.calls
    again = engine.submit(trunk + [30] * 60, params(4))
    assert ids(again) == expected_tokens(trunk + [30] * 60, 4) and again.cached_tokens == 79


def test_a_prefix_is_copied_from_a_slot_that_is_busy(start):
    engine, fake = start(slots=2, max_seq_len=256)
    fake.pace = 0.002
    system = [7] * 40
    busy = engine.submit(system + [1], params(150))
    wait_for(lambda: len(busy.token_ids) > 2)
    other = engine.submit(system + [2], params(5))
    assert ids(other) == expected_tokens(system + [2], 5) and other.cached_tokens == 40
    busy.cancel()
    assert ids(busy) == expected_tokens(system + [1], len(busy.token_ids))


def test_looking_at_logits_forgets_nothing(start):
    engine, _ = start(slots=1)
    prompt = [5, 6, 7]
    reply = ids(engine.submit(prompt, params(8)))
    logits = engine.next_token_logits(prompt + reply[:3])
    assert logits.shape == (VOCAB,) and logits.dtype == np.float32
    assert asyncio.run(engine.next_token_logits_async(prompt)).tolist() == logits.tolist()
    further = engine.submit(prompt + reply + [1], params(3))
    assert ids(further) == expected_tokens(prompt + reply + [1], 3)
    assert further.cached_tokens == len(prompt + reply) - 1


def test_a_reply_is_bent_while_it_is_written(start):
    engine, fake = start()
    fake.pace = 0.002
    generation = engine.submit([5, 6], params(60))
    wait_for(lambda: len(generation.token_ids) > 5)
    generation.update(SamplingParams(temperature=0.5, max_new_tokens=60, seed=99))
    reply = ids(generation)
    [(before, changed)] = generation.changes
    assert 5 < before < 60 and changed.temperature == 0.5 and changed.seed == generation.params.seed != 99
    assert reply == expected_tokens([5, 6], 60, changes=generation.changes) != expected_tokens([5, 6], 60)


def test_an_update_can_end_a_reply_sooner(start):
    engine, fake = start(max_seq_len=256)
    fake.pace = 0.002
    generation = engine.submit([5, 6], params(200))
    wait_for(lambda: len(generation.token_ids) > 5)
    generation.update(params(3))
    assert len(ids(generation)) < 100 and generation.finish_reason == "length"
    with pytest.raises(EngineError, match="token id 97"):
        generation.update(SamplingParams(logit_bias={97: 1.0}))


def test_a_crash_in_one_request_leaves_the_others(start):
    engine, fake = start(slots=2)
    fake.gate.clear()
    broken, fine = engine.submit([1], params(9)), engine.submit([2], params(9))

    def crash(records):
        raise ZeroDivisionError("in one request")

    broken.add = crash
    fake.gate.set()
    assert ids(fine) == expected_tokens([2], 9)
    with pytest.raises(ZeroDivisionError, match="in one request"):
        ids(broken)
    assert broken.finish_reason == "error" and engine.healthy
    assert ids(engine.submit([3], params(4))) == expected_tokens([3], 4)


def test_a_reply_that_takes_too_long_is_ended(start):
    engine, fake = start(slots=1, max_seq_len=256, time_limit=0.2)
    fake.pace = 0.01
    running, queued = engine.submit([1], params(200)), engine.submit([2], params(200))
    assert len(ids(running)) > 0 and running.finish_reason == "cancelled"
    ids(queued)
    assert queued.finish_reason == "cancelled"


def test_blocks_grow_after_the_first_word(start):
    engine, fake = start(max_seq_len=256)
    fake.pace = 0.001
    ids(engine.submit([1], params(200)))
    steps = [call[2] for call in fake.calls if call[0] == "decode"]
    assert steps[0] == 1 and max(steps) > 4


def test_statistics_tell_what_happened(start):
    engine, _ = start()
    prompt = [1, 2, 3]
    reply = ids(engine.submit(prompt, params(5)))
    ids(engine.submit(prompt + reply + [4], params(5)))
    stats = engine.stats()
    assert (stats.requests, stats.tokens_in, stats.tokens_cached, stats.tokens_out) == (2, 5, 7, 10)
    assert (stats.busy, stats.queued, stats.context_used, stats.context_size) == (0, 0, 13, 2 * engine.max_seq_len)
    assert stats.tokens_per_second > 0 and stats.tokens_in_per_second > 0 and stats.time_to_first_token > 0


PROMPTS = st.lists(st.integers(0, 3), min_size=1, max_size=60)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), PROMPTS, st.integers(1, 25)),
        st.tuples(st.just("edit"), st.integers(0, 9), st.integers(0, 60), st.integers(1, 25)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("update"), st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.9])),
        st.tuples(st.just("wait"), st.integers(0, 9)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, slots=st.integers(1, 4), pace=st.sampled_from([0.0, 0.0002]))
def test_any_interleaving_gives_everyone_what_they_get_alone(start, actions, slots, pace):
    engine, fake = start(slots=slots)
    fake.pace = pace
    generations = []
    for kind, *details in actions:
        if kind == "submit":
            generations.append(engine.submit(details[0], params(details[1])))
        elif generations:
            chosen = generations[details[0] % len(generations)]
            if kind == "cancel":
                chosen.cancel()
            elif kind == "update":
                chosen.update(SamplingParams(temperature=details[1], max_new_tokens=25))
            elif kind == "wait":
                ids(chosen)
            else:
                conversation = chosen.prompt_ids + chosen.token_ids
                generations.append(engine.submit([*conversation[: details[1]], 9], params(details[2])))
    for generation in generations:
        reply = ids(generation)
        assert reply == expected_tokens(generation.prompt_ids, len(reply), changes=generation.changes)
        if generation.finish_reason != "cancelled":
            assert generation.finish_reason == ("stop" if reply[-1] == VOCAB - 1 else "length")
    engine.close()


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

"""The life of a request: its ends, cancels, updates, errors, and what the engine counts of it."""

import asyncio
import traceback
from collections.abc import Sequence

import fakes
import pytest
from engine_steps import ids, params, wait_for
from fakes import FAKE_MODEL, expected_tokens

from llama_core import Engine, SamplingParams
from llama_core.engine import EngineDead, EngineError, RequestStatus, metrics


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
    fake.pause_after = 5
    decoding = engine.submit([1], params(200))
    queued = engine.submit([2], params(5))
    wait_for(lambda: fake.is_paused)
    queued.cancel()
    decoding.cancel()
    fake.gate.set()
    wait_for(lambda: queued.finish_reason == decoding.finish_reason == "cancelled")
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


class UnreadPrompt(Sequence):
    """So long that it has to be refused by its length."""

    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        raise AssertionError("its tokens were read")


def test_a_prompt_that_cannot_fit_is_refused_unread(start, unchecked_types):
    with pytest.raises(EngineError, match="1000000 tokens"):
        start(max_seq_len=20)[0].submit(UnreadPrompt(), params(1))


def test_closing_ends_what_runs(start):
    engine, _ = start(slots=1)
    running, queued = engine.submit([1], params(200)), engine.submit([2], params(200))
    engine.close()
    assert ids(running) is not None and running.finish_reason in ("shutdown", "length")
    assert ids(queued) == [] and queued.finish_reason == "shutdown"


def test_context_is_lowered_to_what_the_model_was_made_for(start):
    assert start(max_seq_len=10_000)[0].max_seq_len == FAKE_MODEL.config.max_position_embeddings


def test_a_reply_is_bent_while_it_is_written(start):
    engine, fake = start()
    fake.pause_after = 10
    generation = engine.submit([5, 6], params(60))
    wait_for(lambda: fake.is_paused)
    generation.update(SamplingParams(temperature=0.5, max_new_tokens=60, seed=99))
    fake.gate.set()
    reply = ids(generation)
    [(before, changed)] = generation.changes
    assert 5 < before < 60 and changed.temperature == 0.5 and changed.seed == generation.params.seed != 99
    assert reply == expected_tokens([5, 6], 60, changes=generation.changes) != expected_tokens([5, 6], 60)


def test_an_update_can_end_a_reply_sooner(start):
    engine, fake = start(max_seq_len=256)
    fake.pause_after = 10
    generation = engine.submit([5, 6], params(200))
    wait_for(lambda: fake.is_paused)
    generation.update(params(3))
    fake.gate.set()
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
    engine, fake = start(slots=1, max_seq_len=256)
    fake.pause_after = 30
    running, queued = engine.submit([1], params(200)), engine.submit([2], params(200))
    wait_for(lambda: fake.is_paused)
    engine._scheduler._time_limit = 0.0  # the limit is there in the middle of the reply, however slow the machine is
    fake.gate.set()
    assert len(ids(running)) > 0 and running.finish_reason == "time_limit"
    ids(queued)
    assert queued.finish_reason == "time_limit"


def test_statistics_tell_what_happened(start):
    engine, _ = start()
    prompt = [1, 2, 3]
    reply = ids(engine.submit(prompt, params(5)))
    ids(engine.submit(prompt + reply + [4], params(5)))
    stats = engine.stats()
    assert (stats.requests, stats.tokens_in, stats.tokens_cached, stats.tokens_out) == (2, 5, 7, 10)
    assert (stats.busy, stats.queued, stats.context_used, stats.context_size) == (0, 0, 13, 2 * engine.max_seq_len)
    assert stats.tokens_per_second > 0 and stats.tokens_in_per_second > 0 and stats.time_to_first_token > 0


def test_refusals_do_not_pile_up_in_one_exception(start):
    engine, fake = start(fails_at=1)
    with pytest.raises(EngineError):
        ids(engine.submit([1], params(5)))
    problems = []
    for _ in range(3):
        with pytest.raises(EngineDead, match="the device is gone") as found:
            engine.submit([1], params(5))
        problems.append(found.value)
    assert len(set(map(id, problems))) == 3
    depths = [sum(1 for _ in traceback.walk_tb(problem.__traceback__)) for problem in problems]
    assert depths[0] == depths[2]


def test_a_request_only_moves_forward(start):
    engine, fake = start(slots=1)
    fake.gate.clear()
    first, second = engine.submit([1, 2], params(3)), engine.submit([3], params(3))
    wait_for(lambda: first.status is RequestStatus.PREFILLING)
    assert second.status is RequestStatus.WAITING and first.finish_reason is None
    fake.gate.set()
    ids(second)
    assert first.status is second.status is RequestStatus.FINISHED


def test_what_is_counted_for_speeds_is_forgotten_as_new_counts_come(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: clock[0])
    rate = metrics.Rate()
    for second in range(1000):
        clock[0] = float(second)
        rate.add(3)
    assert len(rate._events) <= metrics.RATE_SECONDS + 1
    assert rate.per_second() == pytest.approx(3, rel=0.3)

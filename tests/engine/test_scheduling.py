"""Who runs when: first come first served, long and short prompts side by side, and everyone gets their own tokens."""

import itertools

import pytest
from engine_steps import ids, params, wait_for
from fakes import VOCAB, expected_tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_core import SamplingParams
from llama_core.engine import QueueFull


def begun(generation):
    """When the first token came."""
    return generation.submitted + generation.time_to_first_token


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
    wait_for(lambda: generations[0].queue_position is None)
    assert [generation.queue_position for generation in generations[1:]] == [1, 2, 3, 4]
    fake.gate.set()
    for generation in generations:
        ids(generation)
    assert generations == sorted(generations, key=begun)


def test_a_long_prompt_is_read_between_the_others_words(start):
    engine, fake = start(slots=2, max_seq_len=256)
    fake.pause_after = 5
    talking = engine.submit([1], params(250))
    wait_for(lambda: fake.is_paused)
    reading = engine.submit([2] * 250, params(2))
    fake.gate.set()
    ids(reading)
    talking.cancel()
    spoken = [call[0] for call in fake.calls if call[0] == "decode" or call[:2] == ("layers", 1)]
    assert [kind for kind, _ in itertools.groupby(spoken)].count("layers") > 2


def test_a_short_prompt_does_not_wait_for_a_long_one(start):
    engine, fake = start(slots=3)
    fake.pause_after = 5
    writer = engine.submit([1], params(200))
    wait_for(lambda: fake.is_paused)
    long, short = engine.submit([2] * 240, params(2)), engine.submit([3] * 40, params(2))
    fake.gate.set()
    assert ids(short) == expected_tokens([3] * 40, 2) and ids(long) == expected_tokens([2] * 240, 2)
    assert begun(short) < begun(long) and ids(writer)


def test_a_long_prompt_is_read_however_many_short_ones_come(start):
    engine, fake = start(slots=3)
    fake.gate.clear()
    long, *short = [engine.submit(prompt, params(1)) for prompt in ([2] * 240, *([3 + i] * 20 for i in range(60)))]
    fake.gate.set()
    assert ids(long) == expected_tokens([2] * 240, 1)
    for i, reply in enumerate(short):
        assert ids(reply) == expected_tokens([3 + i] * 20, 1)
    assert sum(begun(reply) > begun(long) for reply in short) > 20


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


def test_blocks_grow_after_the_first_word(start):
    engine, fake = start(max_seq_len=256)
    ids(engine.submit([1], params(200)))
    steps = [call[2] for call in fake.calls if call[0] == "decode"]
    assert steps[0] == 1
    assert max(steps) > 4 if engine.stats().attention == "blocks" else max(steps) == 1  # a GPU gains nothing by it


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


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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

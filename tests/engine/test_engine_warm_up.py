"""Requests before, while and after the programs are compiled."""

import threading

import pytest
from engine_steps import ids, params, wait_for
from fakes import FAKE_MODEL, expected_tokens

from llama_core import Engine, SamplingParams
from llama_core.engine import EngineError


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


def test_no_room_for_the_programs_is_one_line_with_numbers(model):
    def compile(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes\nand a long report")

    with pytest.raises(EngineError, match=r"ran out of memory.* weights, .* start the app with ") as refusal:
        Engine(model, 4, 512, compile=compile).warm_up()
    assert "\n" not in str(refusal.value)


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
    assert waiting.finish_reason == "shutdown"
    gate.set()
    thread.join(60)
    assert not engine.ready and "the engine is closed" in problems[0]


def test_who_gives_up_before_the_warm_up_lets_the_others_move_up(cold):
    engine, _ = cold
    first, second, third = (engine.submit([i + 1], params(3)) for i in range(3))
    first.cancel()
    assert (second.queue_position, third.queue_position) == (1, 2)


def test_warming_up_twice_compiles_once(start):
    engine, fake = start()
    running = engine.submit([1], params(3))
    with engine:
        assert ids(running) == expected_tokens([1], 3) == ids(engine.submit([1], params(3)))
    assert not engine.ready

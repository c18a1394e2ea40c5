"""Engines on fake programs."""

import threading

import pytest
from fakes import FAKE_MODEL, FakePrograms

from llama_core import Engine


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


@pytest.fixture
def cold():
    """An engine that is not warm yet, its programs, and the event that lets them be compiled."""
    fake, gate = FakePrograms(1), threading.Event()

    def compile(params, config, slots, max_seq_len, form, advance):
        advance(1, 2)
        gate.wait(60)
        advance(2, 2)
        return fake

    engine = Engine(FAKE_MODEL, 1, compile=compile)
    yield engine, gate
    gate.set()
    engine.close()

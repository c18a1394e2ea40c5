"""The forms in which engines run here, and engines on fake programs."""

import dataclasses
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from fakes import FAKE_MODEL, FakePrograms
from gpu_products import as_on_a_gpu

from llama_core import Engine
from llama_core.engine.compiled import compile_programs
from llama_core.runtime.forms import CUDNN, MASKED, PLAIN

# As on such a machine, but for chunks that are quickly compiled, for parts of one layer, and for a window that short
# tests outgrow.
FORMS = {
    "plain": dataclasses.replace(PLAIN, chunk_sizes=(32, 256), layers_per_group=1),
    "masked": dataclasses.replace(MASKED, chunk_sizes=(16, 256), windows=(64,)),
    "cudnn": dataclasses.replace(CUDNN, chunk_sizes=(16, 256)),
}


@pytest.fixture(scope="session", params=FORMS)
def form(request):
    """Each form in turn."""
    return FORMS[request.param]


@pytest.fixture(autouse=True)
def stands_in_for_a_gpu(request):
    """For tests in each form; not as long as `form` lasts, which is to the end of the run."""
    if "form" not in request.fixturenames:
        yield
        return
    with as_on_a_gpu(request.getfixturevalue("form")):
        yield


@pytest.fixture(scope="session")
def programs(model, form):
    """Compiled once for all tests of a form; they leave slots, caches and penalties behind."""
    # A length that divides by nothing else, so that the cache's copies can be told apart in the compiled text.
    with as_on_a_gpu(form):
        return compile_programs(model.params, model.config, slots=3, max_seq_len=307, form=form)


@pytest.fixture
def serve(model, programs):
    """Engines on these programs, with the model's weights or others of the same shapes. Without a tokenizer, if none is
    given: transformers draws from the padding of the vocabulary too."""
    bare, engines = SimpleNamespace(params=model.params, config=model.config), []

    def make(params=None, model=bare):
        mine = programs
        if params is not None:
            state = jax.tree.map(jnp.copy, programs.state)
            mine = dataclasses.replace(programs, params=params, state=state)
        engines.append(Engine(model, 3, 307, compile=lambda *_: mine, form=programs.form))
        engines[-1].warm_up()
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture(params=[PLAIN, dataclasses.replace(CUDNN, chunk_sizes=PLAIN.chunk_sizes)], ids=["plain", "straight"])
def start(request):
    """Engines on fake programs, closed at the end; in both forms, of which the second makes one token a dispatch."""
    engines = []

    def make(slots=2, fails_at=None, **options):
        fake = FakePrograms(slots, fails_at)
        engine = Engine(FAKE_MODEL, slots, compile=lambda *_: fake, form=request.param, **options)
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

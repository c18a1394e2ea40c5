"""The compiled programs: one set of shapes for everything, the cache in place, the same numbers as the plain model."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llama_core import Engine, SamplingParams, model_forward
from llama_core.programs import CHUNK_SIZES, compile_programs, split_prompt, windows_for

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module")
def programs(model):
    # A length that divides by nothing else, so that the cache's copies can be told apart in the compiled text.
    return compile_programs(model.params, model.config, slots=3, max_seq_len=307)


@pytest.fixture
def forbid_compiling():
    """Fails if XLA compiles or JAX traces anything in the test's body."""
    seen = []

    def listen(event, seconds, **_):
        if event.endswith(("backend_compile_duration", "jaxpr_trace_duration")):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_windows_grow_and_end_with_the_whole_cache():
    assert windows_for(307) == (256, 307)
    assert windows_for(2048) == (256, 1024, 2048)
    assert windows_for(100) == (100,)
    assert windows_for(256) == (256,)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 49, 127, 128, 129, 300, 500, 5000])
def test_a_prompt_is_cut_into_chunks_that_programs_exist_for(length):
    chunks = split_prompt(length)
    assert sum(chunks) == length and all(0 < size <= max(CHUNK_SIZES) for size in chunks)


@pytest.mark.parametrize("length", [1, 16, 17, 130, 270])
def test_prefill_draws_the_token_that_the_model_finds_likeliest(programs, model, length):
    ids = np.random.default_rng(length).integers(3, 300, length).tolist()
    start = 0
    for size in split_prompt(length):
        token = programs.prefill(1, ids[start : start + size], start, GREEDY)
        start += size
    logits, _ = model_forward(model.params, np.array([ids], np.int32), model.config)
    assert int(token[0]) == int(jnp.argmax(logits[0, -1]))


def test_the_cache_is_donated(programs):
    before = programs.state
    programs.prefill(0, [5, 6, 7], 0, GREEDY)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))


def test_no_program_copies_the_cache(programs, model):
    """Donation alone does not promise it: XLA copies where it cannot update in place."""
    config = model.config
    shape = f"f32[3,{config.num_key_value_heads},307,{config.head_dim}]"
    for name, program in programs.compiled.items():
        assert not re.search(rf"= {re.escape(shape)}\S* copy\(", program.as_text()), name


def test_no_program_computes_angles_or_sorts(programs):
    """The seed document computed frequencies and mask tables on every call; sorting the vocabulary halves speed."""
    for name, program in programs.compiled.items():
        operations = set(re.findall(r"= \S+ ([a-z-]+)\(", program.as_text()))
        assert "fusion" in operations  # else the pattern reads nothing
        assert not operations & {"cosine", "sine", "sort", "power"}, name


def test_nothing_compiles_after_warm_up(model, forbid_compiling):
    """Sliders move, prompts of 1 to 500 tokens arrive, three chats run."""
    with Engine(model, slots=3, max_seq_len=512) as engine:
        forbid_compiling.clear()
        generations = []
        for i, length in enumerate([1, 2, 7, 16, 17, 40, 64, 100, 129, 200, 256, 300, 383, 384, 450, 499, 500]):
            params = SamplingParams(
                temperature=i / 8, top_k=i % 5 * 10, top_p=1 - i / 40, min_p=i / 50, seed=i, max_new_tokens=8,
            )
            generations.append(engine.submit([5 + i] * length, params))
        for generation in generations:
            assert [token.id for token in generation]
        assert forbid_compiling == []


def test_the_listener_does_see_compilations(forbid_compiling):
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    assert forbid_compiling

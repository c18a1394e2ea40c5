"""The compiled programs: one set of shapes for everything, the cache in place, the same numbers as the plain model."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import reference_greedy, reference_logits
from lowered import operations

from llama_core import SamplingParams
from llama_core.engine.compiled import program_table
from llama_core.engine.device_state import new_slot_state
from llama_core.engine.pacing import BatchSizer
from llama_core.engine.records import Records, Status
from llama_core.sampling.sampler import make_penalty_state, next_token_distribution, sample, stack_sampling_params


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


GREEDY = SamplingParams(temperature=0.0)


def read_prompt(programs, slot, ids, params=GREEDY, limit=300, stops=(), start=0):
    """Prepare and read all of a prompt; the records of its first token."""
    programs.prepare(slot, new_slot_state(ids, [], start, limit, stops, params, 320), True)
    while start < len(ids):
        chunk = programs.start_prefill(
            slot, ids[start : start + BatchSizer(programs.form).chunk_length(len(ids) - start, decoding=0)], start
        )
        programs.prefill_layers(chunk, programs.num_layer_groups)
        start += chunk.length
    return Records.of(programs.sample_first(chunk)[0].to_host()[slot])


def decode(programs, slots, steps):
    """A block of this many tokens, in as many programs as the form needs; the records of each slot."""
    most = programs.form.max_block_steps
    blocks = [programs.decode(slots, min(most, steps)).to_host() for _ in range(-(-steps // most))]
    return {slot: Records.of(np.concatenate([block[slot] for block in blocks])) for slot in slots}


@pytest.mark.parametrize("length", [1, 32, 33, 130, 270])
def test_prefill_draws_the_token_that_the_model_finds_likeliest(programs, checkpoint, length):
    ids = np.random.default_rng(length).integers(3, 300, length).tolist()
    records = read_prompt(programs, 1, ids)
    assert records.token_ids == reference_greedy(checkpoint[1], ids, 1) and records.last_status == Status.GOING


def test_a_block_ends_where_the_device_sees_the_end(programs, checkpoint):
    ids = [7, 8, 9]
    expected = reference_greedy(checkpoint[1], ids, 9)
    read_prompt(programs, 0, ids, limit=len(ids) + 9)
    read_prompt(programs, 2, ids, stops=[expected[4]])
    read = decode(programs, [0, 2], 16)
    ours, stopped = read[0], read[2]
    assert ours.token_ids == expected[1:] and ours.last_status == Status.LENGTH
    stop = expected.index(expected[4], 1)
    assert stopped.token_ids == expected[1 : stop + 1] and stopped.last_status == Status.STOP
    assert len(decode(programs, [0], 4)[0].rows) == 0


def test_a_copied_prefix_is_as_good_as_a_read_one(programs, checkpoint):
    ids = np.random.default_rng(3).integers(3, 300, 60).tolist()
    read_prompt(programs, 0, ids)
    programs.copy_prefix(0, 1, 50)
    branch = ids[:50] + [5, 6, 7]
    records = read_prompt(programs, 1, branch, start=50)
    assert records.token_ids == reference_greedy(checkpoint[1], branch, 1)


def test_what_a_slot_remembers_survives_its_neighbours(programs, checkpoint):
    """Idle rows and the empty places of a chunk write nothing into the cache."""
    ids = np.random.default_rng(4).integers(3, 300, 90).tolist()
    read_prompt(programs, 0, ids)
    read_prompt(programs, 0, ids[:5])  # a chunk of 5 tokens and 27 empty places, over the same ids
    read_prompt(programs, 1, [5, 6])
    read_prompt(programs, 2, [5, 7])
    decode(programs, [1, 2], 8)
    records = read_prompt(programs, 0, ids + [11], start=90)
    assert records.token_ids == reference_greedy(checkpoint[1], ids + [11], 1)


def test_penalties_count_the_reply_while_it_grows(programs, checkpoint):
    """Drawn on the device one after the other, against the distribution of the whole context each time."""
    params = SamplingParams(temperature=1.0, seed=3, repetition_penalty=1.2, frequency_penalty=2.0, logprobs=20)
    prompt = [7, 8, 9, 8]
    records = [read_prompt(programs, 0, prompt, params), decode(programs, [0], 8)[0]]
    ids = list(prompt)
    for block in records:
        for step, token in enumerate(block.token_ids):
            logits = reference_logits(checkpoint[1], [ids])[0, -1]
            shares = next_token_distribution(logits, params, ids, prompt_tokens=len(prompt))
            model_share = np.exp(logits[token]) / np.exp(logits).sum()
            np.testing.assert_allclose(np.exp(block.logprobs(step)), [model_share, shares[token]], atol=1e-4)
            ids.append(token)


def test_replies_with_a_seed_are_drawn_as_the_plain_sampler_draws(programs, checkpoint):
    """Beside each other and one alone, against the logits of the whole context each time."""
    kinds = [
        SamplingParams(temperature=0.8, top_k=40, top_p=0.9, min_p=0.02, seed=11, logprobs=5),
        SamplingParams(temperature=1.3, seed=12, repetition_penalty=1.2, presence_penalty=0.5, logit_bias={9: 2.0}),
        SamplingParams(temperature=0.0, frequency_penalty=0.4),
    ]
    replies = {slot: [5 + slot, 40, 7] for slot in range(3)}
    for slot, params in enumerate(kinds):
        replies[slot] += read_prompt(programs, slot, replies[slot], params).token_ids
    for slots in ([0, 1, 2], [1], [0, 2]):
        for slot, records in decode(programs, slots, 4).items():
            replies[slot] += records.token_ids
    draw = jax.jit(sample)
    for slot, params in enumerate(kinds):
        ids = replies[slot]
        assert len(ids) == 3 + 1 + 8
        for end in range(3, len(ids)):
            logits = reference_logits(checkpoint[1], [ids[:end]])[0, -1:]
            state = make_penalty_state(params, 320, ids[:3], ids[3:end])
            expected = draw(logits, stack_sampling_params([params]), state, np.array([end], np.int32))
            assert int(expected.token[0]) == ids[end]


def test_the_cache_is_donated(programs):
    before = programs.state
    read_prompt(programs, 0, [5, 6, 7])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))


def test_no_program_copies_the_cache(programs):
    """Donation alone does not promise it: XLA copies where it cannot update in place."""
    shape = ",".join(map(str, programs.state.cache.keys[0].shape))
    for name, program in programs.compiled.items():
        assert not re.search(rf"= f32\[{shape}\]\S* (copy|transpose)\(", program.as_text()), name


def test_no_program_computes_angles_or_sorts(programs):
    """The seed document computed frequencies and mask tables on every call; sorting the vocabulary halves speed."""
    for name, program in programs.compiled.items():
        operations = set(re.findall(r"= \S+ ([a-z-]+)\(", program.as_text()))
        assert "fusion" in operations  # else the pattern reads nothing
        assert not operations & {"cosine", "sine", "sort", "power"}, name


def test_straight_programs_have_no_loop_and_no_branch(programs, model):
    """At each of them a GPU would stop and ask the host."""
    given = model.params, programs.state, programs.freqs_cis, programs.form, programs.layer_groups
    table = program_table(model.config, *given)
    assert set(table) == set(programs.compiled)
    found = {name: operations(jax.jit(function), *arguments) for name, (function, arguments) in table.items()}
    assert all(len(names) > 3 for names in found.values())
    stops = {name for name, names in found.items() if names & {"while", "case", "if", "custom_call"}}
    assert bool(stops) != programs.form.is_straight


def test_nothing_compiles_after_warm_up(serve, forbid_compiling):
    """Sliders move, prompts of 1 to 300 tokens arrive, three chats run."""
    engine = serve()
    forbid_compiling.clear()
    generations = []
    for i, length in enumerate([1, 2, 7, 16, 17, 40, 64, 100, 129, 200, 256, 299, 300]):
        params = SamplingParams(
            temperature=i / 8,
            top_k=i % 5 * 10,
            top_p=1 - i / 40,
            min_p=i / 50,
            seed=i,
            max_new_tokens=7,
            repetition_penalty=1 + i / 20,
            presence_penalty=i / 10,
            logit_bias={5: float(i)},
            logprobs=i % 3 or None,
        )
        generations.append(engine.submit([5 + i] * length, params))
    for generation in generations[:-1]:
        assert [token.id for token in generation]
        generations[-1].update(SamplingParams(temperature=0.5, top_k=3, max_new_tokens=7))
    edited = engine.submit(generations[-1].prompt_ids[:200] + [9, 9], params)  # a prefix is copied
    assert [token.id for token in edited] and engine.next_token_logits([5, 6, 7]).shape == (320,)
    assert forbid_compiling == []


def test_the_listener_does_see_compilations(forbid_compiling):
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    assert forbid_compiling

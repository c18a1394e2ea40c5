"""What the prefix cache holds is not prefilled again."""

import asyncio

import numpy as np
from engine_steps import ids, params, wait_for
from fakes import VOCAB, expected_tokens

from llama_core.engine import CacheScope


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
    fake.pause_after = 5
    system = [7] * 40
    busy = engine.submit(system + [1], params(150))
    wait_for(lambda: fake.is_paused)
    other = engine.submit(system + [2], params(5))
    fake.gate.set()
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


def test_people_share_the_system_prompt_and_nothing_behind_it(start):
    engine, _ = start(slots=3)
    system, question = [7] * 5, list(range(1, 21))
    first, second = CacheScope("first", 5), CacheScope("second", 5)

    def cached(scope, prompt=(*system, *question)):
        request = engine.submit(prompt, params(4), cache_scope=scope)
        assert ids(request) == expected_tokens(list(prompt), 4)
        return request.cached_tokens

    assert cached(first) == 0
    assert cached(first) == 24  # all but the last token, which is always prefilled
    assert cached(second) == 5
    assert cached(second) == cached(first) == 24  # each found its own again
    assert cached(CacheScope("third", 3)) == 3  # a shorter system prompt that begins in the same way


def test_who_asks_the_same_does_not_inherit_what_followed(start):
    """A slot keeps what lies behind a prompt that is only looked at, unless it was somebody else's."""
    engine, _ = start(slots=1)
    prompt, longer = [7, 7, 1, 2, 3], [7, 7, 1, 2, 3, 4, 5, 6]
    ids(engine.submit(longer, params(4), cache_scope=CacheScope("first", 2)))
    engine.next_token_logits(prompt, CacheScope("second", 2))
    again = engine.submit(longer, params(4), cache_scope=CacheScope("second", 2))
    ids(again)
    assert again.cached_tokens == len(prompt)


def test_logits_that_are_looked_at_open_nothing_to_others(start):
    engine, _ = start(slots=1)
    prompt = [7, 7, 1, 2, 3, 4]
    engine.next_token_logits(prompt, CacheScope("first", 2))
    other = engine.submit(prompt, params(2), cache_scope=CacheScope("second", 2))
    ids(other)
    assert other.cached_tokens == 2

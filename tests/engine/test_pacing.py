"""How much is asked of the device at once."""

import pytest

from llama_core.engine.pacing import BLOCK_SECONDS, LONGEST_GAP, BatchSizer
from llama_core.runtime.forms import PLAIN


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 32, 33, 96, 97, 128, 129, 384, 385, 512, 513, 600, 5000])
@pytest.mark.parametrize("writing", [0, 1, 3])
def test_a_prompt_is_read_in_chunks_that_programs_exist_for(length, writing):
    chunks, sizer = [], BatchSizer(PLAIN)
    while sum(chunks) < length:
        chunks.append(sizer.chunk_length(length - sum(chunks), writing))
    assert sum(chunks) == length and min(chunks) > 0 and max(chunks) <= max(PLAIN.chunk_sizes)
    empty = sum(min(size for size in PLAIN.chunk_sizes if size >= chunk) - chunk for chunk in chunks)
    assert empty < max(PLAIN.chunk_sizes[1], length / 3)


@pytest.mark.parametrize("step_seconds", [0.0002, 0.004, 0.04, 0.3])
def test_a_block_takes_about_as_long_as_a_word_may(step_seconds):
    sizer = BatchSizer(PLAIN)
    assert sizer.decode_steps(alone=True, hurried=False) == 1  # nothing is known yet
    sizer.observe(8 * step_seconds, steps=8, alone=True)
    steps = sizer.decode_steps(alone=True, hurried=False)
    assert steps == 1 or steps * step_seconds <= BLOCK_SECONDS
    assert steps == PLAIN.max_block_steps or (steps + 1) * step_seconds > BLOCK_SECONDS
    assert sizer.decode_steps(alone=True, hurried=True) == 1


@pytest.mark.parametrize("step_seconds, token_seconds", [(0.04, 0.0005), (0.2, 0.01), (0.01, 0.0001), (0.04, 0.002)])
def test_a_long_prompt_does_not_hold_up_words(step_seconds, token_seconds):
    """A device that takes this long for a step and for a token in each of ten parts, more the deeper it is in a prompt:
    gaps stay below the longest one unless the least that can be asked for takes longer, and are not far below it."""
    sizer, gaps, read = BatchSizer(PLAIN), [], 0
    sizer.observe(step_seconds, steps=1, alone=False)
    while read < 4000:
        chunk, done = sizer.chunk_length(4000 - read, decoding=3), 0
        while done < 10:
            parts = min(10 - done, sizer.groups_per_turn(chunk, decoding=3))
            depth = 1 + read / 2000
            gaps.append(step_seconds + parts * chunk * token_seconds * depth)
            sizer.observe(gaps[-1], 1, False, {chunk}, parts)
            done += parts
        read += chunk
    longest = LONGEST_GAP * max(step_seconds, BLOCK_SECONDS)
    least = step_seconds + PLAIN.chunk_sizes[0] * token_seconds * 3
    assert max(gaps[5:]) <= 1.2 * max(longest, least)
    assert sum(gaps) / len(gaps) >= 0.6 * longest


def test_a_slow_turn_of_the_machine_changes_nothing():
    sizer = BatchSizer(PLAIN)
    for seconds in (0.04, 0.04, 0.4, 0.04):
        sizer.observe(seconds, steps=1, alone=False)
    assert sizer.groups_per_turn(32, decoding=2) == 1  # nothing is known
    for seconds in (0.051, 0.051, 0.5, 0.051):
        sizer.observe(seconds, 1, False, sizes={32}, groups=1)
    assert sizer.chunk_length(1000, decoding=2) == 32 and sizer.groups_per_turn(32, decoding=2) == 2


def test_a_crowd_at_the_start_is_read_before_a_word_alone_was_timed():
    sizer = BatchSizer(PLAIN)
    for _ in range(8):
        parts = sizer.groups_per_turn(32, decoding=3)
        sizer.observe(0.031 + 0.005 * parts, 1, False, sizes={32}, groups=parts)
    assert sizer.groups_per_turn(32, decoding=3) >= 3


def test_what_was_measured_at_another_depth_is_not_trusted():
    sizer = BatchSizer(PLAIN)
    for _ in range(5):
        sizer.observe(0.04, steps=1, alone=False)
    for size, seconds in ((32, 0.045), (128, 0.08)):  # at the beginning, and deep in the prompt
        sizer.groups_per_turn(size, decoding=3)
        for _ in range(5):
            sizer.observe(seconds, 1, False, sizes={size}, groups=1)
    assert 40 / sizer.groups_per_turn(32, decoding=3) >= 40 * 32 / 128

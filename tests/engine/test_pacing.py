"""How much is asked of the device at once."""

import pytest

from llama_core.engine.pacing import BLOCK_SECONDS, LONGEST_GAP, Pace
from llama_core.runtime.forms import CHUNK_SIZES, MAX_STEPS


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 32, 33, 96, 97, 128, 129, 384, 385, 512, 513, 600, 5000])
@pytest.mark.parametrize("writing", [0, 1, 3])
def test_a_prompt_is_read_in_chunks_that_programs_exist_for(length, writing):
    chunks, pace = [], Pace()
    while sum(chunks) < length:
        chunks.append(pace.chunk(length - sum(chunks), writing))
    assert sum(chunks) == length and min(chunks) > 0 and max(chunks) <= max(CHUNK_SIZES)
    empty = sum(min(size for size in CHUNK_SIZES if size >= chunk) - chunk for chunk in chunks)
    assert empty < max(CHUNK_SIZES[1], length / 3)


@pytest.mark.parametrize("step_seconds", [0.0002, 0.004, 0.04, 0.3])
def test_a_block_takes_about_as_long_as_a_word_may(step_seconds):
    pace = Pace()
    assert pace.steps(alone=True, hurried=False) == 1  # nothing is known yet
    pace.observe(8 * step_seconds, steps=8, alone=True)
    steps = pace.steps(alone=True, hurried=False)
    assert steps == 1 or steps * step_seconds <= BLOCK_SECONDS
    assert steps == MAX_STEPS or (steps + 1) * step_seconds > BLOCK_SECONDS
    assert pace.steps(alone=True, hurried=True) == 1


@pytest.mark.parametrize("step_seconds, token_seconds", [(0.04, 0.0005), (0.2, 0.01), (0.01, 0.0001), (0.04, 0.002)])
def test_a_long_prompt_does_not_hold_up_words(step_seconds, token_seconds):
    """A device that takes this long for a step and for a token in each of ten parts, more the deeper it is in a prompt:
    gaps stay below the longest one unless the least that can be asked for takes longer, and are not far below it."""
    pace, gaps, read = Pace(), [], 0
    pace.observe(step_seconds, steps=1, alone=False)
    while read < 4000:
        chunk, done = pace.chunk(4000 - read, writing=3), 0
        while done < 10:
            parts = min(10 - done, pace.parts(chunk, writing=3))
            depth = 1 + read / 2000
            gaps.append(step_seconds + parts * chunk * token_seconds * depth)
            pace.observe(gaps[-1], 1, False, {chunk}, parts)
            done += parts
        read += chunk
    longest = LONGEST_GAP * max(step_seconds, BLOCK_SECONDS)
    least = step_seconds + CHUNK_SIZES[0] * token_seconds * 3
    assert max(gaps[5:]) <= 1.2 * max(longest, least)
    assert sum(gaps) / len(gaps) >= 0.6 * longest


def test_a_slow_turn_of_the_machine_changes_nothing():
    pace = Pace()
    for seconds in (0.04, 0.04, 0.4, 0.04):
        pace.observe(seconds, steps=1, alone=False)
    assert pace.parts(32, writing=2) == 1  # nothing is known
    for seconds in (0.051, 0.051, 0.5, 0.051):
        pace.observe(seconds, 1, False, sizes={32}, parts=1)
    assert pace.chunk(1000, writing=2) == 32 and pace.parts(32, writing=2) == 2


def test_a_crowd_at_the_start_is_read_before_a_word_alone_was_timed():
    pace = Pace()
    for _ in range(8):
        parts = pace.parts(32, writing=3)
        pace.observe(0.031 + 0.005 * parts, 1, False, sizes={32}, parts=parts)
    assert pace.parts(32, writing=3) >= 3


def test_what_was_measured_at_another_depth_is_not_trusted():
    pace = Pace()
    for _ in range(5):
        pace.observe(0.04, steps=1, alone=False)
    for size, seconds in ((32, 0.045), (128, 0.08)):  # at the beginning, and deep in the prompt
        pace.parts(size, writing=3)
        for _ in range(5):
            pace.observe(seconds, 1, False, sizes={size}, parts=1)
    assert 40 / pace.parts(32, writing=3) >= 40 * 32 / 128

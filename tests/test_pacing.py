"""How much is asked of the device at once."""

import pytest

from llama_core.pacing import BLOCK_SECONDS, LONGEST_GAP, Pace
from llama_core.programs import CHUNK_SIZES, MAX_STEPS


@pytest.mark.parametrize("length", [1, 3, 15, 16, 17, 64, 65, 128, 129, 255, 256, 257, 300, 5000])
@pytest.mark.parametrize("in_company", [False, True])
def test_a_prompt_is_read_in_chunks_that_programs_exist_for(length, in_company):
    chunks, pace = [], Pace()
    while sum(chunks) < length:
        chunks.append(pace.chunk(length - sum(chunks), in_company))
    assert sum(chunks) == length and min(chunks) > 0 and max(chunks) <= max(CHUNK_SIZES)
    empty = sum(min(size for size in CHUNK_SIZES if size >= chunk) - chunk for chunk in chunks)
    assert empty < max(16, length)


@pytest.mark.parametrize("step_seconds", [0.0002, 0.004, 0.04, 0.3])
def test_a_block_takes_about_as_long_as_a_word_may(step_seconds):
    pace = Pace()
    assert pace.steps(alone=True, hurried=False) == 1  # nothing is known yet
    pace.observe(8 * step_seconds, chunk=0, steps=8, alone=True)
    steps = pace.steps(alone=True, hurried=False)
    assert steps == 1 or steps * step_seconds <= BLOCK_SECONDS
    assert steps == MAX_STEPS or (steps + 1) * step_seconds > BLOCK_SECONDS
    assert pace.steps(alone=True, hurried=True) == 1


@pytest.mark.parametrize("step_seconds, token_seconds", [(0.04, 0.002), (0.2, 0.01), (0.01, 0.0001), (0.04, 0.008)])
def test_a_long_prompt_does_not_hold_up_words(step_seconds, token_seconds):
    """A device that takes this long for a step and for each token of a prompt: the gaps settle below the longest one,
    and no smaller chunk is used than that asks for."""
    pace, gaps = Pace(), []
    pace.observe(step_seconds, chunk=0, steps=1, alone=False)
    for _ in range(30):
        chunk = pace.chunk(4000, in_company=True)
        gaps.append(step_seconds + chunk * token_seconds)
        pace.observe(gaps[-1], chunk, steps=1, alone=False)
    longest = LONGEST_GAP * max(step_seconds, BLOCK_SECONDS)
    assert max(gaps[20:]) <= longest or chunk == CHUNK_SIZES[0]
    assert max(gaps[20:]) >= longest / 12 or chunk == CHUNK_SIZES[-1]

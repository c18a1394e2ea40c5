"""What the tests of the engine do again and again."""

import time

from llama_core import SamplingParams


def params(count, **more):
    return SamplingParams(temperature=0.0, max_new_tokens=count, **more)


def ids(generation):
    return [token.id for token in generation]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)

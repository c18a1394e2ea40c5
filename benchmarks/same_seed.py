"""Same seed, same reply: how many replies differ from what the same request got alone.

    python -m benchmarks.same_seed --model ../models/stories260K --dtype bfloat16

Asks the same 24 requests, each with a seed of its own, alone, alone again, and beside one and three other chats. Prints
how many replies of each turn differ from the first, and as its last line one JSON object.
"""

import argparse
import json
import platform
from collections.abc import Callable

from llama_core import Engine, SamplingParams, load_checkpoint  # isort: skip - sets XLA's flags before jax is imported

import jax
import numpy as np

REQUESTS, TOKENS, OTHERS = 24, 48, (0, 1, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="weights/guide", help="a folder, a Hub id or random:NAME")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--longest", type=int, default=200, help="longest prompt in tokens")
    options = parser.parse_args()
    model = load_checkpoint(options.model, options.dtype)
    draws, highest = np.random.default_rng(0), model.config.vocab_size - 3
    prompts = [draws.integers(3, highest, size).tolist() for size in draws.integers(4, options.longest, REQUESTS)]
    with Engine(model, slots=4, max_seq_len=options.longest + TOKENS + 8) as engine:
        first = [ask(engine, prompt, seed, 0) for seed, prompt in enumerate(prompts)]
        differ = {count: differing(first, lambda *asked, n=count: ask(engine, *asked, n), prompts) for count in OTHERS}
    for count, number in differ.items():
        print(f"beside {count} other chats: {number} of {REQUESTS} differ")
    print(
        json.dumps(
            {
                "benchmark": "same_seed",
                "model": options.model,
                "dtype": options.dtype,
                "device": jax.devices()[0].device_kind,
                "machine": platform.machine(),
                "jax": jax.__version__,
                "requests": REQUESTS,
                "tokens": TOKENS,
                "longest_prompt": options.longest,
                "differ_beside": differ,
            }
        )
    )


def differing(first: list[list[int]], again: Callable[[list[int], int], list[int]], prompts: list[list[int]]) -> int:
    return sum(again(prompt, seed) != before for seed, (prompt, before) in enumerate(zip(prompts, first, strict=True)))


def ask(engine: Engine, prompt: list[int], seed: int, others: int) -> list[int]:
    """The reply to a prompt while so many other replies are written, none of them shorter."""
    endless = SamplingParams(temperature=1.0, seed=1000, max_new_tokens=10_000, ignore_eos=True)
    beside = [engine.submit([3 + i, 4, 5], endless) for i in range(others)]
    for request in beside:
        next(iter(request))
    params = SamplingParams(temperature=1.0, seed=seed, max_new_tokens=TOKENS, ignore_eos=True)
    reply = [token.id for token in engine.submit(prompt, params)]
    for request in beside:
        request.cancel()
        list(request)
    return reply


if __name__ == "__main__":
    main()

"""Decoding speed: this engine and transformers `generate` on the same random checkpoint, interleaved in one run.

    python -m benchmarks.decode --model random:135M --tokens 64 --rounds 5

Prints a table, and as its last line one JSON object. Speeds are new tokens a second, reading the prompt included;
`bandwidth_fraction` is the bytes of weights that each decoded token has to read, over what this machine was just
measured to read.
"""

import json

from benchmarks.common import (
    bytes_a_token,
    chat_options,
    machine,
    make_pair,
    medians,
    memory_bandwidth,
    random_prompts,
    speed,
    transformers_replies,
)
from llama_core import Engine, SamplingParams
from llama_core.config import NAMED_CONFIGS


def main() -> None:
    options = chat_options(__doc__).parse_args()
    config = NAMED_CONFIGS[options.model.removeprefix("random:")]
    theirs, ours = make_pair(config)
    with Engine(ours, slots=4, max_seq_len=options.prompt + options.tokens + 1) as engine:
        figures = medians(measure(engine, theirs, config, options, seed) for seed in range(options.rounds + 1))
        report(options, config, engine.device, figures)


def measure(engine: Engine, theirs, config, options, seed: int) -> dict[str, float]:
    """One round: each measurement once, ours and theirs in turn."""
    params = SamplingParams(temperature=0.0, max_new_tokens=options.tokens, ignore_eos=True)
    prompts, decode = random_prompts(config, 5, options.prompt, seed), []

    def our_replies(chosen):
        generations = [engine.submit(prompt, params) for prompt in chosen]
        replies = [[token.id for token in generation] for generation in generations]
        decode.append(generations[0].tokens_per_second)
        return replies

    return {
        "one": speed(lambda: our_replies(prompts[:1])),
        "one_transformers": speed(lambda: transformers_replies(theirs, prompts[:1], options.tokens)),
        "four": speed(lambda: our_replies(prompts[1:])),
        "four_transformers": speed(lambda: transformers_replies(theirs, prompts[1:], options.tokens)),
        "decode": decode[0],
        "bandwidth": memory_bandwidth(),
    }


def report(options, config, device: str, figures: dict[str, float]) -> None:
    result = {
        "benchmark": "decode", "model": options.model, "prompt": options.prompt, "tokens": options.tokens,
        "rounds": options.rounds, **machine(device),
        "tokens_per_second": round(figures["one"], 2),
        "transformers_tokens_per_second": round(figures["one_transformers"], 2),
        "ratio": round(figures["one"] / figures["one_transformers"], 3),
        "four_tokens_per_second": round(figures["four"], 2),
        "four_transformers_tokens_per_second": round(figures["four_transformers"], 2),
        "four_ratio": round(figures["four"] / figures["four_transformers"], 3),
        "decode_tokens_per_second": round(figures["decode"], 2),
        "bandwidth_gb_per_second": round(figures["bandwidth"] / 1e9, 2),
        "bandwidth_fraction": round(figures["decode"] * bytes_a_token(config) / figures["bandwidth"], 3),
    }
    print(f"{'':24}{'this engine':>14}{'transformers':>14}{'ratio':>8}")
    for label, prefix in (("one reply, tokens/s", ""), ("four at once, tokens/s", "four_")):
        ours, theirs = result[f"{prefix}tokens_per_second"], result[f"{prefix}transformers_tokens_per_second"]
        print(f"{label:24}{ours:14.1f}{theirs:14.1f}{result[f'{prefix}ratio']:8.2f}")
    print(f"decoding alone reads {result['bandwidth_fraction']:.0%} of {result['bandwidth_gb_per_second']} GB/s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

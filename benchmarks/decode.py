"""Decoding speed: this engine and transformers `generate` on the same random checkpoint, interleaved in one run.

    python -m benchmarks.decode --model random:135M --tokens 64 --rounds 5

Prints a table, and as its last line one JSON object. Speeds are new tokens a second, reading the prompt included;
`bandwidth_fraction` is the bytes of weights that each decoded token has to read, over what this machine was just
measured to read.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from types import SimpleNamespace

from llama_core import Engine, LlamaConfig, SamplingParams  # isort: skip - sets XLA's flags before jax is imported

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from llama_core.config import NAMED_CONFIGS
from llama_core.params import build_params, params_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:135M", choices=[f"random:{name}" for name in NAMED_CONFIGS])
    parser.add_argument("--prompt", type=int, default=32, help="length of the prompt in tokens")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each reply")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = NAMED_CONFIGS[options.model.removeprefix("random:")]
    theirs, ours = make_pair(config)
    prompt = np.random.default_rng(0).integers(3, config.vocab_size - 3, options.prompt).tolist()
    params = SamplingParams(temperature=0.0, max_new_tokens=options.tokens, ignore_eos=True)
    rows = {name: [] for name in ("one", "one_transformers", "four", "four_transformers", "decode", "bandwidth")}
    with Engine(ours, slots=4, max_seq_len=options.prompt + options.tokens + 1) as engine:
        for warm_up in range(options.rounds + 1):
            measured = measure(engine, theirs, prompt, params)
            for name, value in measured.items() if warm_up else ():
                rows[name].append(value)
        device = engine.device
    report(options, config, device, {name: statistics.median(values) for name, values in rows.items()})


def make_pair(config: LlamaConfig):
    """The same random weights in transformers and for our engine, float32 both."""
    torch.manual_seed(0)
    values = {**config.to_dict(), "torch_dtype": None}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
    tensors = dict(theirs.named_parameters())
    params = build_params(config, lambda name, shape: jnp.asarray(tensors[name].detach().numpy()))
    return theirs, SimpleNamespace(params=params, config=config)


def measure(engine: Engine, theirs, prompt: list[int], params: SamplingParams) -> dict[str, float]:
    """One round: each measurement once, ours and theirs in turn."""
    decode = []

    def our_replies(count):
        generations = [engine.submit(prompt, params) for _ in range(count)]
        replies = [[token.id for token in generation] for generation in generations]
        decode.append(generations[0].tokens_per_second)
        return replies

    def their_replies(count):
        with torch.inference_mode():
            ids = torch.tensor([prompt] * count)
            out = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=params.max_new_tokens,
                                  min_new_tokens=params.max_new_tokens, do_sample=False, pad_token_id=0)
        return out[:, len(prompt):].tolist()

    speeds = {
        "one": speed(our_replies, 1), "one_transformers": speed(their_replies, 1),
        "four": speed(our_replies, 4), "four_transformers": speed(their_replies, 4),
    }
    return {**speeds, "decode": decode[0], "bandwidth": memory_bandwidth()}


def speed(replies, count: int) -> float:
    """New tokens a second of `count` replies at once."""
    start = time.perf_counter()
    tokens = sum(map(len, replies(count)))
    return tokens / (time.perf_counter() - start)


def memory_bandwidth(size: int = 1 << 28) -> float:
    """Bytes a second that this machine reads from memory: the better of two ways to add up a gigabyte."""
    weights, vector = jnp.ones((size >> 12, 1 << 12)), jnp.ones(1 << 12)
    product = jax.jit(lambda w, v: w @ v)
    product(weights, vector).block_until_ready()

    def timed(work):
        start = time.perf_counter()
        work()
        return 4 * size / (time.perf_counter() - start)

    by_jax = max(timed(lambda: product(weights, vector).block_until_ready()) for _ in range(3))
    if jax.devices()[0].platform != "cpu":
        return by_jax
    tensor = torch.ones(size)
    return max(by_jax, *(timed(lambda: tensor.sum()) for _ in range(3)))


def report(options, config: LlamaConfig, device: str, medians: dict[str, float]) -> None:
    read = params_bytes(config)
    if not config.tie_word_embeddings:  # of a table that is no head, one row a token is read
        read -= 4 * config.vocab_size * config.hidden_size
    packages = ("jax", "jaxlib", "torch", "transformers", "numpy")
    result = {
        "benchmark": "decode", "model": options.model, "prompt": options.prompt, "tokens": options.tokens,
        "rounds": options.rounds, "dtype": "float32", "device": device, "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "tokens_per_second": round(medians["one"], 2),
        "transformers_tokens_per_second": round(medians["one_transformers"], 2),
        "ratio": round(medians["one"] / medians["one_transformers"], 3),
        "four_tokens_per_second": round(medians["four"], 2),
        "four_transformers_tokens_per_second": round(medians["four_transformers"], 2),
        "four_ratio": round(medians["four"] / medians["four_transformers"], 3),
        "decode_tokens_per_second": round(medians["decode"], 2),
        "bandwidth_gb_per_second": round(medians["bandwidth"] / 1e9, 2),
        "bandwidth_fraction": round(medians["decode"] * read / medians["bandwidth"], 3),
    }
    print(f"{'':24}{'this engine':>14}{'transformers':>14}{'ratio':>8}")
    for label, prefix in (("one reply, tokens/s", ""), ("four at once, tokens/s", "four_")):
        ours, theirs = result[f"{prefix}tokens_per_second"], result[f"{prefix}transformers_tokens_per_second"]
        print(f"{label:24}{ours:14.1f}{theirs:14.1f}{result[f'{prefix}ratio']:8.2f}")
    print(f"decoding alone reads {result['bandwidth_fraction']:.0%} of {result['bandwidth_gb_per_second']} GB/s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

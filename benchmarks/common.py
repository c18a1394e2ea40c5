"""What the benchmarks share: the same weights in two libraries, prompts, the machine and how fast it reads."""

import argparse
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from llama_core import LlamaConfig  # isort: skip - sets XLA's flags before jax is imported

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.params import params_bytes, stack_params
from llama_core.runtime.cores import usable_cores


def chat_options(doc: str) -> argparse.ArgumentParser:
    """The options of a benchmark that writes replies; `doc` is the script's own description."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--model", default="random:135M", choices=[f"random:{name}" for name in NAMED_CONFIGS])
    parser.add_argument("--prompt", type=int, default=32, help="length of a chat's prompt in tokens")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each reply")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def make_pair(config: LlamaConfig) -> tuple[Any, Any]:
    """The same random weights in transformers and for our engine, float32 both."""
    torch.manual_seed(0)
    values = {**config.to_dict(), "torch_dtype": None}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
    tensors = theirs.state_dict()
    params = stack_params(config, lambda name, shape: tensors[name].numpy())
    return theirs, SimpleNamespace(params=params, config=config)


def random_prompts(config: LlamaConfig, count: int, length: int, seed: int) -> list[list[int]]:
    """Prompts that no cache has seen before."""
    return np.random.default_rng(seed).integers(3, config.vocab_size - 3, (count, length)).tolist()


def transformers_replies(theirs: Any, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy replies by `generate`."""
    with torch.inference_mode():
        ids = torch.tensor(prompts)
        out = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return out[:, ids.shape[1] :].tolist()


def speed(replies: Callable[[], list[list[int]]]) -> float:
    """New tokens a second."""
    start = time.perf_counter()
    tokens = sum(map(len, replies()))
    return tokens / (time.perf_counter() - start)


def bandwidth_share(step: Callable[[], object], bytes_read: int, pairs: int = 12) -> tuple[float, float]:
    """Which share of the fastest plain read a `step` reaches that reads so many bytes, and that read in bytes a second:
    medians of `pairs` in turn, since what a shared machine can read doubles and halves within seconds."""
    readers, size = plain_readers()
    shares, reads = [], []
    for _ in range(pairs):
        taken = seconds(step)
        reads.append(size / min(map(seconds, readers)))
        shares.append(bytes_read / taken / reads[-1])
    return statistics.median(shares), statistics.median(reads)


def plain_readers() -> tuple[list[Callable[[], object]], int]:
    """Ways to add up a gigabyte, each run once already, and how many bytes that is."""
    size = 1 << 28
    weights, vector = jnp.ones((size >> 12, 1 << 12)), jnp.ones(1 << 12)
    product = jax.jit(lambda w, v: w @ v)
    readers = [lambda: product(weights, vector).block_until_ready()]
    if jax.devices()[0].platform == "cpu":
        readers.append(torch.ones(size).sum)
    for read in readers:
        read()
    return readers, 4 * size


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bytes_a_token(config: LlamaConfig) -> int:
    """Bytes of float32 weights that a decoded token has to read: of an embedding that is no head, one row."""
    embedding = 0 if config.tie_word_embeddings else 4 * config.vocab_size * config.hidden_size
    return params_bytes(config) - embedding


def medians(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    """The median of each figure; the first round warms up and does not count."""
    counted = list(rounds)[1:]
    return {name: statistics.median(values[name] for values in counted) for name in counted[0]}


def machine(device: str) -> dict[str, Any]:
    """Where a figure was measured and with what."""
    packages = ("jax", "jaxlib", "torch", "transformers", "numpy")
    return {
        "device": device,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "dtype": "float32",
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }

"""A GPU: how fast it reads, and what the engine makes of it. One chat and many, greedy and sampled, with and without
alternatives, prompts, what the engine adds to its programs; the same with weights in int8; and beside it the same
shapes in torch where that is there.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --models tiny --chats 1 2 --prompts 16 --tokens 8 --form masked      on a CPU, to try it

Random weights; rounded ones are asked without alternatives only. Prints a table, and as its last line one JSON object.
`share` is the bytes of the weights that a token of one chat reads, over its time, over the plain read. What no time is
left for is named under "skipped".
"""

import argparse
import dataclasses
import functools
import gc
import importlib.metadata
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

from llama_core import Engine, SamplingParams  # isort: skip - sets XLA's flags before jax is imported

import jax
import jax.numpy as jnp
import numpy as np

from llama_core.checkpoint.memory_plan import Plan, best_dtype, free_bytes
from llama_core.engine.compiled import CompiledPrograms, compile_programs
from llama_core.engine.device_state import new_slot_state
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.parameter_table import Placement
from llama_core.model.params import Params, init_model_params
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix
from llama_core.runtime import forms

FORMS = {"auto": None, "plain": forms.PLAIN, "masked": forms.MASKED, "cudnn": forms.CUDNN}
GREEDY = {"temperature": 0.0}
SAMPLED = {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.05, "seed": 1}
PROMPT = 32  # tokens of a chat's prompt
PEER_SECONDS = 75  # so long one shape takes in torch, with its compilation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["1B", "8B"], choices=NAMED_CONFIGS)
    parser.add_argument("--chats", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--prompts", nargs="+", type=int, default=[512, 3072, 8192], help="lengths in tokens")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each reply")
    parser.add_argument("--quantize", nargs="+", default=["none", "int8"], choices=["none", *ROUNDINGS])
    parser.add_argument("--dtype", default=best_dtype(jax.devices()[0]))
    parser.add_argument("--form", default="auto", choices=FORMS)
    parser.add_argument("--seconds", type=float, default=230, help="what is left when they are over is skipped")
    options = parser.parse_args()
    start, device = time.perf_counter(), jax.devices()[0]
    read, copy = plain_speeds(1 << 32 if device.platform == "gpu" else 1 << 26)
    result = {
        "benchmark": "gpu",
        "device": device.device_kind,
        "dtype": options.dtype,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")},
        "read_gb_per_second": round(read / 1e9, 1),
        "copy_gb_per_second": round(copy / 1e9, 1),
        "models": {},
        "skipped": [],
    }
    print(f"{device.device_kind}: reads {read / 1e9:.0f} GB/s, copies {copy / 1e9:.0f} GB/s")
    for name, quantize in itertools.product(options.models, options.quantize):
        label = name if quantize == "none" else f"{name} {quantize}"
        if time.perf_counter() - start > options.seconds:
            result["skipped"].append(label)
            continue
        result["models"][label] = measure(label, name, quantize, options, read, start, result["skipped"])
        gc.collect()
    for name in options.models:
        if device.platform == "gpu" and start + options.seconds - time.perf_counter() > PEER_SECONDS:
            result["models"].setdefault(name, {})["torch"] = torch_speeds(name, options)
        else:
            result["skipped"].append(f"{name} in torch")
    result["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps(result))


def plain_speeds(size: int) -> tuple[float, float]:
    """Bytes a second of adding up `size` bytes of bfloat16, and (read and written together) of copying them."""
    data = jnp.ones(size // 2, jnp.bfloat16)
    add = jax.jit(lambda x: jnp.sum(x, dtype=jnp.float32))
    copy = jax.jit(lambda x: x + jnp.bfloat16(1))
    return size / best_seconds(lambda: add(data)), 2 * size / best_seconds(lambda: copy(data))


def best_seconds(work, rounds: int = 8) -> float:
    """The shortest time of several, the first not counted."""
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        work().block_until_ready()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def random_weights(config: LlamaConfig, dtype: str, quantize: str) -> Params:
    """Weights whose numbers do not matter, made on the card by one program: drawing them one by one takes seconds, and
    so does rounding them on the host. So a few rows are rounded, and repeated."""

    def finish(placement: Placement, weight: jax.Array) -> jax.Array | QuantizedMatrix:
        if quantize == "none" or not placement.row.may_be_quantized:
            return weight
        *rows, columns = weight.shape
        noise = np.random.default_rng(0).normal(size=(64, columns)).astype(np.float32) / columns**0.5
        few = dataclasses.replace(ROUNDINGS[quantize].round(noise), dtype=dtype)
        which = jnp.arange(np.prod(rows)).reshape(rows) % len(noise)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[which], few)

    def make(key: jax.Array) -> Params:
        return init_model_params(key, config, jnp.dtype(dtype), finish)

    return jax.jit(make)(jax.random.key(0))


def measure(label: str, name: str, quantize: str, options, read: float, start: float, skipped: list[str]) -> dict:
    """All figures of one shape in one format."""
    config, kept = NAMED_CONFIGS[name], []
    weights = random_weights(config, options.dtype, quantize)
    model, length = SimpleNamespace(params=weights, config=config), fitting_length(config, options)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    size -= 0 if config.tie_word_embeddings else weights.token_embedding.nbytes
    asked = kinds(options.tokens)[: None if quantize == "none" else 2]

    def keep(*arguments) -> CompiledPrograms:
        kept.append(compile_programs(*arguments))
        return kept[0]

    begin, form = time.perf_counter(), FORMS[options.form]
    with Engine(model, max(options.chats), length, compile=keep, form=form, max_queue=max(options.chats)) as engine:
        found = {
            "warm_up_seconds": round(time.perf_counter() - begin, 1),
            "attention": engine.stats().attention,
            "context": engine.max_seq_len,
            "gb_a_token": round(size / 1e9, 2),
            "prompt_tokens_per_second": {},
        }
        print(f"{label}: {found['warm_up_seconds']} s to warm up, attention {found['attention']}")
        speed_of = functools.partial(decode_speed, engine, config)
        found["tokens_per_second"] = chats(
            label, speed_of, options.chats, asked, size / read, start + options.seconds, skipped
        )
        for tokens in (tokens for tokens in options.prompts if tokens < engine.max_seq_len):
            speed = max(prompt_speed(engine, config, tokens, seed) for seed in range(4))
            found["prompt_tokens_per_second"][str(tokens)] = round(speed)
            print(f"{label}  prompt of {tokens:5}  {speed:10.0f} tokens/s")
        speeds = found["tokens_per_second"].items()
        found["share"] = {label: round(speed * size / read, 3) for label, speed in speeds if label.startswith("1 ")}
        found["overhead"] = round(overhead(engine, kept[0], config, options.tokens), 3)
        print(f"{label}  the engine adds {found['overhead']:.1%} to its programs")
    return found


def chats(
    name: str,
    speed_of: Callable[[int, SamplingParams, int], float],
    counts: list[int],
    asked: list[tuple[str, SamplingParams]],
    read_seconds: float,
    end: float,
    skipped: list[str],
) -> dict:
    """Tokens a second by the number of chats and what is asked. Reading the weights plainly takes `read_seconds`."""
    found = {}
    for count, (label, params) in itertools.product(counts, asked):
        if time.perf_counter() > end:
            skipped.append(f"{name}, {count} chats, {label}")
            continue
        speeds = (speed_of(count, params, seed) for seed in range(3))
        speed = found[f"{count} {label}"] = round(statistics.median(speeds), 1)
        share = f"{speed * read_seconds / count:4.0%} of the read"
        print(f"{name}  {count:3} chats  {label:24}{speed:10.1f} tokens/s  {share}")
    return found


def kinds(tokens: int) -> list[tuple[str, SamplingParams]]:
    """What is asked of a chat, by name: as a program asks, and as the page does, with alternatives."""
    return [
        (f"{how}{with_}", SamplingParams(**knobs, max_new_tokens=tokens, ignore_eos=True, logprobs=count))
        for with_, count in (("", None), (", alternatives", 5))
        for how, knobs in (("greedy", GREEDY), ("sampled", SAMPLED))
    ]


def fitting_length(config: LlamaConfig, options) -> int:
    """The longest context for all prompts that the card has room for, in half steps."""
    length, free = max(*options.prompts, PROMPT + options.tokens) + 64, free_bytes(jax.devices()[0])
    plan = Plan(config, options.dtype, max(options.chats), length)
    while free is not None and plan.cache + plan.workspace > free and length > PROMPT + options.tokens:
        length //= 2
        plan = Plan(config, options.dtype, max(options.chats), length)
    return length


def decode_speed(engine: Engine, config: LlamaConfig, count: int, params: SamplingParams, seed: int) -> float:
    """Tokens a second of so many chats together, from the moment when all of them have begun."""
    requests = [engine.submit(prompt, params) for prompt in random_prompts(config, count, PROMPT, seed)]
    while not all(request.token_ids for request in requests):
        time.sleep(0.0005)
    begin, before = time.perf_counter(), sum(len(request.token_ids) for request in requests)
    first = min(requests, key=lambda request: request.submitted)
    for _ in first:
        pass
    seconds, after = time.perf_counter() - begin, sum(len(request.token_ids) for request in requests)
    for request in requests:
        list(request)
    return (after - before) / seconds


def prompt_speed(engine: Engine, config: LlamaConfig, tokens: int, seed: int) -> float:
    """Prompt tokens a second up to the first token of the reply."""
    [prompt] = random_prompts(config, 1, tokens, 100 + seed)
    request = engine.submit(prompt, SamplingParams(**GREEDY, max_new_tokens=1))
    list(request)
    return tokens / request.time_to_first_token


def overhead(engine: Engine, programs: CompiledPrograms, config: LlamaConfig, tokens: int, pairs: int = 4) -> float:
    """The engine's time a token over that of the bare program, less one: the median of pairs in turn."""
    over, params = [], SamplingParams(**SAMPLED, max_new_tokens=tokens, ignore_eos=True)
    for seed in range(pairs):
        engine_speed = decode_speed(engine, config, 1, params, 200 + seed)
        over.append(bare_speed(programs, config, tokens) / engine_speed - 1)
    return statistics.median(over)


def bare_speed(programs: CompiledPrograms, config: LlamaConfig, tokens: int) -> float:
    """Tokens a second of the decode program without the engine, each token dispatched before the last is read. Only
    while the engine is idle: the state is shared."""
    [prompt] = random_prompts(config, 1, PROMPT, 300)
    params = SamplingParams(**SAMPLED)
    programs.prepare(0, new_slot_state(prompt, [], 0, 10**6, [], params, config.vocab_size), True)
    chunk = programs.start_prefill(0, prompt, 0)
    programs.prefill_layers(chunk, programs.num_layer_groups)
    programs.sample_first(chunk)[0].to_host()
    last = programs.decode([0], 1)
    last.to_host()
    begin = time.perf_counter()
    for _ in range(tokens):
        current = programs.decode([0], 1)
        last.to_host()
        last = current
    last.to_host()
    return tokens / (time.perf_counter() - begin)


def random_prompts(config: LlamaConfig, count: int, length: int, seed: int) -> list[list[int]]:
    """Prompts that no cache has seen before."""
    return np.random.default_rng(seed).integers(3, config.vocab_size - 3, (count, length)).tolist()


def torch_speeds(name: str, options) -> dict | str:
    """The same shape in torch, in a process of its own; why not, where it is not there."""
    command = [sys.executable, "-m", "benchmarks.torch_peer", "--model", name, "--dtype", options.dtype]
    run = subprocess.run(command, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


if __name__ == "__main__":
    main()

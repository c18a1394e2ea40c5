"""Loading: time and peak memory of `load_checkpoint` for a bfloat16 checkpoint, beside plainly reading its bytes; and
what serving takes with weights of 16 and 8 bits.

    python -m benchmarks.load --model random:1B --rounds 3

Writes the checkpoint (2.5 GB for 1B) to a temporary folder; each round reads the file and loads it. Prints a table, and
as its last line one JSON object. Ratios: peak memory over what stays resident, and time over reading the bytes into
fresh memory by NumPy, each in a process of its own and from the page cache. Then this checkpoint and a Q8_0 GGUF file
are loaded as the app does, and serve a reply in a slot of 2 048 tokens: the peak of the process, and that of
loading over what the weights take.
"""

import argparse
import base64
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llama_core import save_checkpoint  # isort: skip - sets XLA's flags before jax is imported

import gguf
import jax.numpy as jnp
import numpy as np

from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.params import params_bytes, placements, stack_params
from llama_core.runtime.cores import usable_cores
from tests.helpers.gguf_files import add_key, byte_level, finish, tokenizer_keys

# Memory is that of the process, before and after; the peak is counted from a warm start on.
LOAD = """
import json, sys, time
from llama_core import load_checkpoint
def memory(row):
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(row))
load_checkpoint("random:tiny", "bfloat16")
before = memory("VmRSS")
start = time.perf_counter()
model = load_checkpoint(sys.argv[1], "bfloat16")
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak": memory("VmHWM") - before, "resident": memory("VmRSS") - before}))
"""

READ = """
import sys, time
import numpy
start = time.perf_counter()
data = numpy.fromfile(sys.argv[1], numpy.uint8)
print(time.perf_counter() - start)
"""

# What Python and the libraries take is counted in `served` and not in `loading`.
SERVE = """
import json, sys
from llama_core import Engine, SamplingParams, load_checkpoint
import llama_core.checkpoint.gguf.tensors
def peak():  # not ru_maxrss, which begins with what the parent had
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
load_checkpoint("random:tiny", quantize="q8")
before = peak()
model = load_checkpoint(sys.argv[1], quantize="auto")
loaded = peak()
with Engine(model, slots=1, max_seq_len=2048) as engine:
    request = engine.submit([5] * 600, SamplingParams(max_new_tokens=16, ignore_eos=True))
    words = len(list(request))
row = {"weights": model.weights, "words": words, "weight_bytes": model.weight_bytes}
print(json.dumps({**row, "loading": loaded - before, "served": peak()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:1B", choices=[f"random:{name}" for name in NAMED_CONFIGS])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = NAMED_CONFIGS[options.model.removeprefix("random:")]
    with tempfile.TemporaryDirectory(prefix="glass-llama-") as folder:
        saved = write(Path(folder) / "model", config)
        rows = {"read": [], "seconds": [], "peak": [], "resident": []}
        for _ in range(options.rounds):
            rows["read"].append(alone(READ, f"{folder}/model/model.safetensors"))
            for name, value in alone(LOAD, f"{folder}/model").items():
                rows[name].append(value)
        write_q8(Path(folder) / "q8.gguf", config)
        serving = [alone(SERVE, f"{folder}/{name}") for name in ("model", "q8.gguf")]
    medians = {"save": saved} | {name: statistics.median(values) for name, values in rows.items()}
    report(options, config, medians, serving)


def write(folder: Path, config: LlamaConfig) -> float:
    """A random checkpoint with a tokenizer of bytes; the seconds that saving took."""
    block = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(jnp.bfloat16)
    params = stack_params(config, lambda name, shape: np.resize(block, shape))
    ranks = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
    start = time.perf_counter()
    save_checkpoint(folder, config, params, {"tokenizer.model": ranks})
    return time.perf_counter() - start


def write_q8(path: Path, config: LlamaConfig) -> None:
    """A GGUF file of random weights in Q8_0, with a tokenizer of bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    for key, value in tokenizer_keys(byte_level(), config).items():
        add_key(writer, key, value)
    noise = np.random.default_rng(0).normal(0, 0.02, (1 << 15, 32)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    blocks = gguf.quants.quantize(noise, kind)
    for placement in placements(config):
        for tensor, (_, shape) in zip(placement.row.tensors, placement.tensors.items(), strict=True):
            name = tensor.gguf.format(layer=placement.layer)
            if len(shape) == 1:
                writer.add_tensor(name, np.ones(shape, np.float32))
            else:
                small = np.resize(blocks, (shape[0], shape[1] // 32 * blocks.shape[1]))
                writer.add_tensor(name, small, raw_dtype=kind)
    finish(writer, path)


def alone(program: str, path: str):
    """What a program prints about a path, run in a process of its own."""
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout)


def report(options, config: LlamaConfig, medians: dict[str, float], serving: list[dict]) -> None:
    size = params_bytes(config, jnp.bfloat16)
    result = {
        "benchmark": "load",
        "model": options.model,
        "rounds": options.rounds,
        "dtype": "bfloat16",
        "bytes": size,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "safetensors")},
        "save_seconds": round(medians["save"], 2),
        "read_seconds": round(medians["read"], 3),
        "load_seconds": round(medians["seconds"], 3),
        "time_ratio": round(medians["seconds"] / medians["read"], 2),
        "peak_bytes": int(medians["peak"]),
        "resident_bytes": int(medians["resident"]),
        "memory_ratio": round(medians["peak"] / medians["resident"], 3),
        "serving": serving,
    }
    print(f"{options.model}: {size / 1e9:.2f} GB of weights")
    print(f"reading the file   {result['read_seconds']:7.2f} s")
    print(f"loading            {result['load_seconds']:7.2f} s   {result['time_ratio']:.2f} times")
    print(f"resident           {result['resident_bytes'] / 1e9:7.2f} GB")
    print(f"peak               {result['peak_bytes'] / 1e9:7.2f} GB  {result['memory_ratio']:.2f} times")
    for row in serving:
        row["loading_ratio"] = round(row["loading"] / row["weight_bytes"], 3)
        sizes = f"weights {row['weight_bytes'] / 1e9:.2f} GB, loading {row['loading_ratio']:.2f} times that"
        print(f"serving {row['weights']}: {row['served'] / 1e9:.2f} GB; {sizes}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

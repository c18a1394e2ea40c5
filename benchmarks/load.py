"""Loading: time and peak memory of `load_checkpoint` for a bfloat16 checkpoint, beside plainly reading its bytes.

    python -m benchmarks.load --model random:1B --rounds 3

Writes the checkpoint (2.5 GB for 1B) to a temporary folder; each round reads the file and loads it. Prints a table, and
as its last line one JSON object. Ratios: peak memory over what stays resident, and time over reading the bytes into
fresh memory by NumPy, each in a process of its own and from the page cache.
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

import jax.numpy as jnp
import numpy as np

from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.params import params_bytes, stack_params
from llama_core.runtime.cores import usable_cores

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
    report(options, config, {"save": saved} | {name: statistics.median(values) for name, values in rows.items()})


def write(folder: Path, config: LlamaConfig) -> float:
    """A random checkpoint with a tokenizer of bytes; the seconds that saving took."""
    block = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(jnp.bfloat16)
    params = stack_params(config, lambda name, shape: np.resize(block, shape))
    ranks = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
    start = time.perf_counter()
    save_checkpoint(folder, config, params, {"tokenizer.model": ranks})
    return time.perf_counter() - start


def alone(program: str, path: str):
    """What a program prints about a path, run in a process of its own."""
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout)


def report(options, config: LlamaConfig, medians: dict[str, float]) -> None:
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
    }
    print(f"{options.model}: {size / 1e9:.2f} GB of weights")
    print(f"reading the file   {result['read_seconds']:7.2f} s")
    print(f"loading            {result['load_seconds']:7.2f} s   {result['time_ratio']:.2f} times")
    print(f"resident           {result['resident_bytes'] / 1e9:7.2f} GB")
    print(f"peak               {result['peak_bytes'] / 1e9:7.2f} GB  {result['memory_ratio']:.2f} times")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

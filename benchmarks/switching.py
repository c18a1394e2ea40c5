"""Switching models: what the process still holds after each of several switches between a small and a larger model.

    python -m benchmarks.switching --models random:tiny random:135M --switches 10

Does what the page does: another model is loaded beside the one that is served, takes its place, answers once, and the
old one is let go. Prints resident memory, live JAX arrays and the time after each switch, and as its last line one JSON
object. Ratio: for each model, resident memory at its last turn over that at its first.
"""

import argparse
import gc
import json
import platform
import threading
import time

from llama_core import SamplingParams  # isort: skip - sets XLA's flags before jax is imported

import jax

from llama_core.runtime.cores import usable_cores
from web.models.manager import ModelManager
from web.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs=2, default=["random:tiny", "random:135M"])
    parser.add_argument("--switches", type=int, default=10)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--max-seq-len", type=int, default=256)
    options = parser.parse_args()
    rows = []
    with ModelManager(Settings(slots=options.slots, max_seq_len=options.max_seq_len)) as manager:
        for turn in range(options.switches + 1):
            name, start = options.models[turn % 2], time.perf_counter()
            manager.put(name, lambda *_: None)
            list(manager.served.engine.submit([5, 6, 7], SamplingParams(max_new_tokens=8)))
            for thread in [thread for thread in threading.enumerate() if thread.name == "drain"]:
                thread.join()
            rows.append(measure(name, time.perf_counter() - start))
            print(
                f"{turn:3d} {name:14s} resident {rows[-1]['resident'] / 1e6:7.0f} MB   arrays "
                f"{rows[-1]['arrays'] / 1e6:7.0f} MB   objects {rows[-1]['objects']:8d}   {rows[-1]['seconds']:5.1f} s",
                flush=True,
            )
    ratios = {name: ratio([row["resident"] for row in rows if row["model"] == name]) for name in options.models}
    print(
        json.dumps(
            {
                "benchmark": "switching",
                "switches": options.switches,
                "slots": options.slots,
                "max_seq_len": options.max_seq_len,
                "machine": platform.machine(),
                "cores": usable_cores(),
                "python": platform.python_version(),
                "jax": jax.__version__,
                "ratios": ratios,
                "rows": rows,
            }
        )
    )


def measure(name: str, seconds: float) -> dict:
    """What the process holds now."""
    with open("/proc/self/status") as status:
        resident = 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    arrays = sum(array.nbytes for array in jax.live_arrays())
    return {
        "model": name,
        "resident": resident,
        "arrays": arrays,
        "objects": len(gc.get_objects()),
        "seconds": round(seconds, 1),
    }


def ratio(sizes: list[int]) -> float:
    return round(sizes[-1] / sizes[0], 3)


if __name__ == "__main__":
    main()

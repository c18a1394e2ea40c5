"""What rounding the weights costs: the next-token distribution against that of float32, on the guide's held-out text.

python -m benchmarks.quality weights/guide
"""

import argparse
import json
from pathlib import Path

from llama_core import load_checkpoint, model_forward  # isort: skip - sets XLA's flags before jax is imported

import jax
import numpy as np

TEXT = Path(__file__).parents[1] / "guide" / "held_out.txt"
LENGTH, SEQUENCES = 256, 10
WAYS = {name: {"quantize": name} for name in ("bf16", "int8", "q8", "q4")}


def log_probabilities(model, tokens: np.ndarray) -> np.ndarray:
    """Of every token after every prefix, [N, V]; of the second half of each sequence, which has some context."""
    run = jax.jit(lambda params, row: jax.nn.log_softmax(model_forward(params, row[None], model.config)[0][0]))
    half = tokens.shape[1] // 2
    return np.concatenate([np.asarray(run(model.params, row))[half:] for row in tokens]).astype(np.float64)


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", help="folders or files")
    options = parser.parse_args()
    rows = [row for name in options.models for row in compare(name)]
    print(f"{'model':28}{'weights':>26}{'positions':>11}{'KL, nats':>10}{'same first':>12}")
    for row in rows:
        print(
            f"{row['model'][-27:]:28}{row['weights']:>26}{row['positions']:11}{row['kl']:10.5f}{row['agreement']:12.2%}"
        )
    print(json.dumps({"benchmark": "quality", "rows": rows}))


def compare(name: str) -> list[dict]:
    """Each way against float32."""
    exact = load_checkpoint(name, quantize="none")
    length = min(LENGTH, exact.config.longest_context)
    count = SEQUENCES * LENGTH * 2 // length
    ids = exact.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    tokens = np.resize(np.array(ids, np.int32), (count, length))
    base = log_probabilities(exact, tokens)
    rows = []
    for way in WAYS.values():
        model = load_checkpoint(name, **way)
        found = log_probabilities(model, tokens)
        kl = float(np.mean(np.sum(np.exp(base) * (base - found), axis=-1)))
        agreement = float(np.mean(base.argmax(-1) == found.argmax(-1)))
        rows.append({"model": name, "weights": model.weights, "positions": len(base), "kl": kl, "agreement": agreement})
    return rows


if __name__ == "__main__":
    main()

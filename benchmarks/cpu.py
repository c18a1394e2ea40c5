"""Weights of small numbers on a CPU: this engine against llama.cpp and transformers, in turn, on weights of one shape.

    python -m benchmarks.cpu --llama-cpp path/to/python        # an environment that has llama-cpp-python
    python -m benchmarks.cpu --shape 1B --formats q8 q4

llama.cpp reads a GGUF file of random weights, which is written here; our engine rounds random weights of the same shape
to the same formats, or reads the file that `--model` names, as llama.cpp does then.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import machine, seconds  # sets XLA's flags before jax is imported

import gguf  # isort: skip
import numpy as np
import torch
import transformers

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.checkpoint.model import Model
from llama_core.kernels import NATIVE, prepare_kernels
from llama_core.kernels.library import usable_cores
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.parameter_table import AXES
from llama_core.model.params import placements

CONTEXTS, CHATS = (128, 1024), (1, 8)
# How each format is asked for here, and the type of its matrices in a GGUF file.
FORMATS = {
    "bf16": ({"quantize": "bf16"}, gguf.GGMLQuantizationType.BF16),
    "q8": ({"quantize": "q8"}, gguf.GGMLQuantizationType.Q8_0),
    "q4": ({"quantize": "q4"}, gguf.GGMLQuantizationType.Q4_1),
    "float32": ({}, gguf.GGMLQuantizationType.F32),
}


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="135M", choices=list(NAMED_CONFIGS))
    parser.add_argument("--model", help="a GGUF file instead of random weights")
    parser.add_argument("--formats", nargs="+", default=["bf16", "q8", "q4"], choices=list(FORMATS))
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS))
    parser.add_argument("--chats", nargs="+", type=int, default=list(CHATS))
    parser.add_argument("--llama-cpp", help="the python of an environment that has llama-cpp-python")
    parser.add_argument("--transformers", action="store_true", help="measure transformers in bfloat16 too")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = [row for name in options.formats for row in measure_format(name, options)]
    print(f"{'format':8}{'chats':>6}{'context':>8}{'':>9}{'ours':>9}{'llama.cpp':>10}{'ratio':>7}{'transf.':>9}")
    for row in found:
        cells = [f"{row.get(peer, float('nan')):9.1f}" for peer in ("ours", "llama_cpp")]
        ratio, theirs = row.get("ratio", float("nan")), row.get("transformers", float("nan"))
        print(
            f"{row['format']:8}{row['chats']:6}{row['context']:8}{row['what']:>9}{''.join(cells)}{ratio:8.2f}{theirs:9.1f}"
        )
    facts = {"shape": options.model or options.shape, "rounds": options.rounds, "threads": usable_cores()}
    print(
        json.dumps({"benchmark": "cpu", **facts, **machine("cpu"), "instructions": NATIVE.instructions, "rows": found})
    )


def measure_format(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every number of chats and context in one format, all peers in turn."""
    asked, kind = FORMATS[name]
    prepare_kernels("on")
    model = load_checkpoint(options.model or f"random:{options.shape}", **asked)
    longest = max(options.contexts) + options.tokens + 8
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = options.model
        if path is None and options.llama_cpp:
            path = str(write_gguf(model.config, kind, Path(folder) / "model.gguf"))
        peers = {"ours": Ours(model, max(options.chats), longest, options.tokens)}
        if options.llama_cpp:
            peers["llama_cpp"] = LlamaCpp(options.llama_cpp, path, options.tokens)
        if options.transformers:
            peers["transformers"] = Transformers(model.config, options.tokens)
        for chats in options.chats:
            for context in options.contexts:
                rows += summary(name, chats, context, in_turn(peers, chats, context, options.rounds))
        for peer in peers.values():
            peer.close()
    return rows


def in_turn(peers: dict[str, Any], chats: int, context: int, rounds: int) -> list[dict[str, dict[str, float]]]:
    """Each peer's speeds, once a round; one round before goes uncounted."""
    taken = []
    for number in range(rounds + 1):
        taken.append({name: peer.measure(chats, context, number) for name, peer in peers.items()})
    return taken[1:]


def summary(name: str, chats: int, context: int, rounds: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Medians of the speeds, and of the ratios of each round."""
    rows = []
    for what in ("decode", "prefill"):
        if what == "prefill" and chats > 1:
            continue
        row: dict[str, Any] = {"format": name, "chats": chats, "context": context, "what": what}
        for peer in rounds[0]:
            row[peer] = round(statistics.median(one[peer][what] for one in rounds if what in one[peer]), 2)
        if "llama_cpp" in row:
            ratios = [one["ours"][what] / one["llama_cpp"][what] for one in rounds]
            row["ratio"] = round(statistics.median(ratios), 3)
        rows.append(row)
    return rows


class Ours:
    """This engine: the time to the first token is the prompt's, that of the others is decoding."""

    def __init__(self, model: Model, slots: int, length: int, tokens: int):
        self.model, self.tokens = model, tokens
        self.engine = Engine(model, slots=slots, max_seq_len=length)
        self.engine.warm_up()

    def measure(self, chats: int, context: int, seed: int) -> dict[str, float]:
        """Tokens a second."""
        vocabulary = self.model.config.vocab_size
        prompts = np.random.default_rng(seed + context).integers(3, vocabulary - 3, (chats, context)).tolist()
        params = SamplingParams(temperature=0.0, max_new_tokens=self.tokens, ignore_eos=True)
        results: dict[str, float] = {}
        if chats == 1:
            first = SamplingParams(temperature=0.0, max_new_tokens=1, ignore_eos=True)
            results["prefill"] = context / seconds(lambda: list(self.engine.submit(prompts[0], first)))
        else:  # so that all prompts are in the cache and the replies run side by side
            for prompt in prompts:
                list(self.engine.submit(prompt, SamplingParams(temperature=0.0, max_new_tokens=1, ignore_eos=True)))
        results["decode"] = self._decode(prompts, params)
        return results

    def _decode(self, prompts: list[list[int]], params: SamplingParams) -> float:
        requests = [self.engine.submit(prompt, params) for prompt in prompts]
        for request in requests:
            list(request)
        return sum(request.tokens_per_second for request in requests)

    def close(self) -> None:
        """Let go of the weights."""
        self.engine.close()


class LlamaCpp:
    """llama.cpp in its own process."""

    def __init__(self, python: str, path: str, tokens: int):
        script = str(Path(__file__).parent / "peers" / "llama_cpp_peer.py")
        self.tokens = tokens
        self.process = subprocess.Popen(
            [python, script, path, str(usable_cores())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        print("llama-cpp-python", json.loads(self._read())["version"], flush=True)

    def measure(self, chats: int, context: int, seed: int) -> dict[str, float]:
        """Tokens a second."""
        assert self.process.stdin is not None
        print(
            json.dumps({"chats": chats, "context": context, "tokens": self.tokens}), file=self.process.stdin, flush=True
        )
        return json.loads(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("llama.cpp ended; try its environment by hand")
        return line

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Transformers:
    """transformers in bfloat16, eager."""

    def __init__(self, config: LlamaConfig, tokens: int):
        values = {**config.to_dict(), "torch_dtype": None}
        self.tokens = tokens
        torch.set_num_threads(usable_cores())
        self.model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval().to(torch.bfloat16)

    def measure(self, chats: int, context: int, seed: int) -> dict[str, float]:
        """Tokens a second."""
        tokens = max(4, self.tokens // 4)
        with torch.inference_mode():
            ids = torch.randint(3, 500, (chats, context))
            out: Any = None

            def prefill() -> None:
                nonlocal out
                out = self.model(ids, use_cache=True, logits_to_keep=1)

            def decode() -> None:
                nonlocal out
                for _ in range(tokens):
                    out = self.model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)

            return {"prefill": chats * context / seconds(prefill), "decode": chats * tokens / seconds(decode)}

    def close(self) -> None:
        """Let go of the weights."""
        del self.model


def write_gguf(config: LlamaConfig, kind: gguf.GGMLQuantizationType, path: Path) -> Path:
    """A GGUF file of this shape with random weights and no tokenizer."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    generator = np.random.default_rng(0)
    for placement in placements(config):
        for tensor in placement.row.tensors:
            shape = tuple(AXES[axis](config) for axis in tensor.axes.split())
            name = tensor.gguf.format(layer=placement.layer)
            values = generator.standard_normal(shape, np.float32) * np.float32(0.02)
            if len(shape) == 1:
                writer.add_tensor(name, 1 + values)
            else:
                writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


if __name__ == "__main__":
    main()

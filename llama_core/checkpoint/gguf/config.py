"""The metadata of a GGUF file → `LlamaConfig`. Keys: ggml-org/ggml, docs/gguf.md; what they mean: ggml-org/llama.cpp,
src/llama-model.cpp."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from llama_core.checkpoint.gguf.header import Header, Value
from llama_core.checkpoint.layout import CheckpointError
from llama_core.model.checks import ConfigError, quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.rope import ROPE_FREQUENCIES
from llama_core.model.rope_scaling import RopeScaling

# By `general.architecture`; files of Mistral models say llama.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
# The Hub's names of what a model must have. `A.` stands for the architecture.
NEEDED = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}


class Keys:
    """The metadata of one file, with its values checked as they are asked for."""

    def __init__(self, name: str, metadata: Mapping[str, Value]):
        self.file_name, self._metadata = name, metadata
        self.architecture = self.text("general.architecture") or ""

    def number(self, key: str) -> int | float | None:
        """A number; None if the key is absent. `A.` at its start stands for the architecture. Raises
        `CheckpointError`."""
        return self._value(key, (int, float), "a number")

    def text(self, key: str) -> str | None:
        """A text; None if the key is absent. Raises `CheckpointError`."""
        return self._value(key, (str,), "text")

    def whole_key(self, key: str) -> str:
        """The key as it stands in the file."""
        return f"{self.architecture}{key[1:]}" if key.startswith("A.") else key

    def _value(self, key: str, types: tuple[type, ...], words: str) -> Any:
        value = self._metadata.get(self.whole_key(key))
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            found = value.tolist() if isinstance(value, np.ndarray) else value
            raise CheckpointError(
                f"{self.file_name}: {self.whole_key(key)} is {quote_value(found)}; expected {words}; this model is "
                "not supported"
            )
        return value


def gguf_config(header: Header, names: frozenset[str]) -> LlamaConfig:
    """The configuration of a model with tensors of these names, from the header that has its metadata. Not among it are
    the ends of a reply, which the tokenizer knows, and factors of rotary frequencies (`with_rope_factors`).

    Raises `CheckpointError`, `ConfigError` for models that are not supported.
    """
    keys = Keys(header.file.name, header.metadata)
    _require_supported(keys)
    values: dict[str, Any] = {hub: keys.number(f"A.{key}") for hub, key in NEEDED.items()}
    missing = next((key for hub, key in NEEDED.items() if values[hub] is None), None)
    if missing is not None:
        raise CheckpointError(
            f"{header.file.name} has no key {keys.whole_key(f'A.{missing}')}; this is not a whole model, choose "
            "another file"
        )
    embedding = next((info for info in header.tensors if info.name == "token_embd.weight"), None)
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    values |= {
        # The table itself, which may have more rows than there are tokens; in a later part of split files: the tokens.
        "vocab_size": embedding.shape[0] if embedding else len(tokens) if isinstance(tokens, list) else 0,
        "num_key_value_heads": keys.number("A.attention.head_count_kv") or values["num_attention_heads"],
        "head_dim": keys.number("A.attention.key_length"),
        "tie_word_embeddings": "output.weight" not in names,
        "attention_bias": "blk.0.attn_q.bias" in names,
        "mlp_bias": "blk.0.ffn_gate.bias" in names,
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_theta": keys.number("A.rope.freq_base") or 10000.0,
        "rope_scaling": _rope_scaling(keys),
    }
    config = LlamaConfig.from_dict(values | _family(keys))
    _require_whole_heads(keys, config)
    return config


def _require_supported(keys: Keys) -> None:
    if keys.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{keys.file_name}: architecture {quote_value(keys.architecture)} is not supported; expected "
            f"{', '.join(ARCHITECTURES)}"
        )
    if keys.number("A.expert_count"):
        raise CheckpointError(f"{keys.file_name} is a mixture of experts, which is not supported; choose another model")


def _require_whole_heads(keys: Keys, config: LlamaConfig) -> None:
    """Raises `CheckpointError` unless rotary embeddings turn all of a head, and values are as long as keys."""
    for key in ("A.rope.dimension_count", "A.attention.value_length"):
        length = keys.number(key)
        if length not in (None, config.head_dim):
            raise CheckpointError(
                f"{keys.file_name}: {keys.whole_key(key)} is {length} in heads of {config.head_dim}; models with other "
                "than whole heads are not supported"
            )


def _family(keys: Keys) -> dict[str, Any]:
    """The family by its name on the Hub, and which layers have a sliding window: all of them if there is one."""
    window = keys.number("A.attention.sliding_window") or None
    if keys.architecture == "llama":
        return {"model_type": "mistral" if window else "llama", "sliding_window": window}
    return {
        "model_type": keys.architecture,
        "use_sliding_window": window is not None,
        "max_window_layers": 0,
        "sliding_window": window,
    }


def _rope_scaling(keys: Keys) -> dict[str, Any] | None:
    """The Hub's `rope_scaling`; None without one."""
    factor = keys.number("A.rope.scaling.factor") or keys.number("A.rope.scale_linear")
    kind = keys.text("A.rope.scaling.type") or "linear"
    if kind == "none" or factor in (None, 0, 1):
        return None
    names = {
        "original_max_position_embeddings": "original_context_length",
        "beta_fast": "yarn_beta_fast",
        "beta_slow": "yarn_beta_slow",
    }
    found = {hub: keys.number(f"A.rope.scaling.{key}") for hub, key in names.items()}
    scaling = {"rope_type": kind, "factor": factor} | {hub: value for hub, value in found.items() if value is not None}
    times = keys.number("A.rope.scaling.attn_factor")
    if kind == "yarn" and times not in (None, 1):
        # llama.cpp multiplies by it what the Hub replaces by it.
        scaling["attention_factor"] = times * (0.1 * math.log(max(factor, 1.0)) + 1.0)
    return scaling


def with_rope_factors(config: LlamaConfig, factors: np.ndarray, name: str) -> LlamaConfig:
    """The configuration with the rotary scaling of which these are the factors, [R]: Llama 3's, which files have as a
    tensor instead of keys. `name` is for errors.

    Raises `ConfigError` for factors of another kind of scaling.
    """
    if len(factors) == config.head_dim // 2 and np.allclose(factors, 1.0):
        return config
    llama3 = RopeScaling("llama3", factor=float(factors.max(initial=1.0)))  # its other numbers are the defaults
    scaled = dataclasses.replace(config, rope_scaling=llama3)
    expected = ROPE_FREQUENCIES["default"](config, 1) / ROPE_FREQUENCIES["llama3"](scaled, 1)
    if config.rope_scaling.rope_type != "default" or not _are_close(factors, expected):
        raise ConfigError(
            f"{name}: rope_freqs.weight holds {len(factors)} factors of another rotary scaling than Llama 3's; models "
            "with it are not supported"
        )
    return scaled


def _are_close(factors: np.ndarray, expected: np.ndarray) -> bool:
    return factors.shape == expected.shape and np.allclose(factors, expected, rtol=1e-4)

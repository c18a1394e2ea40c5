"""Model families that share Llama's forward pass. How each one differs is a row of `FAMILIES`.

Defaults and rules are those of transformers (models/*/configuration_*.py), which reads the same `config.json`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_core.model.checks import ConfigError, quote_value, require_int

FULL, SLIDING = "full_attention", "sliding_attention"  # what `layer_types` may say of a layer


def _none_slide(values: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    return ()


def _named_or_all_slide(values: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """With a `sliding_window`: the layers that `layer_types` names, else all."""
    if values.get("sliding_window") is None:
        return ()
    named = _named_layers(values, layers)
    return tuple(range(layers)) if named is None else named


def _named_or_upper_slide(values: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """With `use_sliding_window`: the layers that `layer_types` names, else those from `max_window_layers` on."""
    require_int("max_window_layers", values["max_window_layers"], 0, 2**31 - 1)
    if not values.get("use_sliding_window") or values.get("sliding_window") is None:
        return ()
    named = _named_layers(values, layers)
    return tuple(range(values["max_window_layers"], layers)) if named is None else named


def _named_layers(values: Mapping[str, Any], layers: int) -> tuple[int, ...] | None:
    """The sliding layers of `layer_types`; None if the configuration has no such key. Raises `ConfigError`."""
    kinds = values.get("layer_types")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in (FULL, SLIDING) for kind in kinds):
        raise ConfigError(
            f"config: layer_types is {quote_value(kinds)}; expected a list of {layers}, one for each layer, of "
            f"{FULL} and {SLIDING}"
        )
    return tuple(layer for layer, kind in enumerate(kinds) if kind == SLIDING)


@dataclass(frozen=True)
class Family:
    """How one architecture differs from Llama.

    `defaults` stand for keys that `config.json` leaves out. `bias_keys` are the keys for biases that it may set;
    `qkv_bias` and `qk_norm` it always has. `sliding_layers(values, layers)` says which layers have a sliding window.
    Checkpoints that were saved without their head, or long ago, call the architecture by one of `other_names`.
    """

    architecture: str
    other_names: tuple[str, ...]
    bias_keys: tuple[str, ...] = ()
    qkv_bias: bool = False
    qk_norm: bool = False
    sliding_layers: Callable[[Mapping[str, Any], int], tuple[int, ...]] = _none_slide
    defaults: Mapping[str, Any] = field(default_factory=dict)


_QWEN = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "bos_token_id": None,
    "eos_token_id": None,
    "sliding_window": 4096,
    "max_window_layers": 28,
}

_MISTRAL = {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}

# By the `model_type` of config.json.
FAMILIES = {
    "llama": Family("LlamaForCausalLM", ("LlamaModel", "LLaMAForCausalLM"), bias_keys=("attention_bias", "mlp_bias")),
    "mistral": Family("MistralForCausalLM", ("MistralModel",), sliding_layers=_named_or_all_slide, defaults=_MISTRAL),
    "qwen2": Family(
        "Qwen2ForCausalLM", ("Qwen2Model",), qkv_bias=True, sliding_layers=_named_or_upper_slide, defaults=_QWEN
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        ("Qwen3Model",),
        bias_keys=("attention_bias",),
        qk_norm=True,
        sliding_layers=_named_or_upper_slide,
        defaults={**_QWEN, "head_dim": 128},
    ),
    "ministral": Family(
        "MinistralForCausalLM", ("MinistralModel",), sliding_layers=_named_or_all_slide, defaults=_MISTRAL
    ),
}


def family_of(values: Mapping[str, Any]) -> str:
    """The row of `FAMILIES` that computes the model of this `config.json`. Raises `ConfigError`."""
    by_architecture = {
        known: name for name, family in FAMILIES.items() for known in (family.architecture, *family.other_names)
    }
    names = values.get("architectures") or []
    names = [name for name in (names if isinstance(names, list) else [names]) if isinstance(name, str)]
    found = next((by_architecture[name] for name in names if name in by_architecture), None)
    model_type = values.get("model_type") or found or "llama"
    if names and found is None:
        expected = ", ".join(family.architecture for family in FAMILIES.values())
        raise ConfigError(f"config: architecture {quote_value(', '.join(names))} is not supported; expected {expected}")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"config: model_type {quote_value(model_type)} is not supported; expected {', '.join(FAMILIES)}"
        )
    if found not in (None, model_type):
        raise ConfigError(f"config: model_type {model_type!r} is not that of {names[0]}; correct one of the two")
    return model_type


def sliding_layers_of(family: str, values: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """Which of the layers have a sliding window. Raises `ConfigError`."""
    return FAMILIES[family].sliding_layers(values, layers)

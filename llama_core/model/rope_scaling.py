"""How rotary angles are stretched for long contexts, as a model's configuration says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_core.model.checks import ConfigError, quote_value, require_bool, require_number, require_supported


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for contexts longer than the one trained on.

    `rope_type` is a row of `ROPE_KEYS`; the numbers are those of Hub `rope_scaling` / `rope_parameters`.
    """

    rope_type: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def longest_context(self, max_position_embeddings: int) -> int:
        """How many positions these angles are made for.

        "dynamic" is switched on for a model that was trained on `max_position_embeddings` positions, to go `factor`
        times as far without training; "yarn" names the length that it stretches. Configurations with the other kinds
        name the stretched length itself.
        """
        trained = {"dynamic": max_position_embeddings, "yarn": self.original_max_position_embeddings}
        return max(max_position_embeddings, int(trained.get(self.rope_type, 0) * self.factor))

    def to_dict(self) -> dict[str, Any]:
        """The Hub's `rope_scaling`: the keys that this kind has."""
        needs, may_have = ROPE_KEYS[self.rope_type]
        values = {key: getattr(self, key) for key in ("rope_type", *needs, *may_have)}
        return {key: value for key, value in values.items() if value is not None}


# Which keys each kind of scaling needs, and which it may have. A kind without a row here is refused: wrong angles give
# fluent nonsense.
ROPE_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "dynamic": (("factor",), ()),
    "yarn": (
        ("factor", "original_max_position_embeddings"),
        ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"),
    ),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
}


def read_rope(values: Mapping[str, Any], max_position_embeddings: int) -> tuple[float | None, RopeScaling]:
    """Theta (None: not given) and the scaling from a Hub config in either dialect. `max_position_embeddings` is the
    trained length where the config names no other. Raises `ConfigError`."""
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, Mapping) or any(isinstance(value, Mapping) for value in rope.values()):
        raise ConfigError(
            f"config: rope_scaling is {quote_value(rope)}; expected one object with rope_type for all layers"
        )
    require_supported("partial_rotary_factor", rope.get("partial_rotary_factor"))
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if not isinstance(kind, str) or kind not in ROPE_KEYS:
        raise ConfigError(
            f"config: rope_type {quote_value(kind)} is not supported; expected one of {', '.join(ROPE_KEYS)}"
        )
    needs, may_have = ROPE_KEYS[kind]
    trained = values.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    rope = {**rope, "original_max_position_embeddings": trained or max_position_embeddings}
    numbers = {key: rope[key] for key in may_have if rope.get(key) is not None} | {key: rope.get(key) for key in needs}
    for key, value in numbers.items():
        require = require_bool if key == "truncate" else require_number
        require(f"{kind} rotary scaling: {key}", value)
    scaling = RopeScaling(rope_type=kind, **numbers)
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise ConfigError(f"config: high_freq_factor is {scaling.high_freq_factor}; expected more than low_freq_factor")
    return rope.get("rope_theta") or values.get("rope_theta"), scaling

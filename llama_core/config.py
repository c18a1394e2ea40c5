"""What a checkpoint says about itself: `LlamaConfig`, read from and written to a Hub `config.json`."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


class ConfigError(ValueError):
    """A model configuration that cannot be used; the message names the key, its value and the remedy."""


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


# Which keys each kind of rotary scaling needs. A kind without a row here is refused: wrong angles give fluent nonsense.
ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}

# Architectures whose forward pass is exactly the one in model.py.
ARCHITECTURES = ("LlamaForCausalLM",)


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama. Field names and defaults are the Hub's (transformers `LlamaConfig`).

    Raises `ConfigError` for shapes that cannot be a model.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = 1
    eos_token_id: tuple[int, ...] = (2,)
    dtype: str = "float32"

    def __post_init__(self):
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "max_position_embeddings"):
            _require_int(name, getattr(self, name), minimum=1, maximum=2**31 - 1)
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ConfigError(
                    f"config: hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                    f"{self.num_attention_heads} and no head_dim is given; correct one of the three"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        self._validate()

    def _validate(self):
        _require_int("head_dim", self.head_dim, minimum=2, maximum=65536)
        if self.head_dim % 2:
            raise ConfigError(f"config: head_dim {self.head_dim} is odd; rotary embeddings turn pairs, so it is even")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"config: num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}; each key/value head must serve the same number of query heads"
            )
        for name in ("rms_norm_eps", "rope_theta", "initializer_range"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < math.inf:
                raise ConfigError(f"config: {name} is {value!r}; expected a positive number")
        if not isinstance(self.tie_word_embeddings, bool):
            raise ConfigError(f"config: tie_word_embeddings is {self.tie_word_embeddings!r}; expected true or false")
        ids = self.eos_token_id if self.bos_token_id is None else (*self.eos_token_id, self.bos_token_id)
        for token_id in ids:
            _require_int("bos_token_id / eos_token_id", token_id, minimum=0, maximum=self.vocab_size - 1)

    @property
    def queries_per_kv_head(self) -> int:
        """G: how many query heads share one key/value head (1 = multi-head, H = multi-query)."""
        return self.num_attention_heads // self.num_key_value_heads

    @classmethod
    def from_json(cls, text: str) -> "LlamaConfig":
        """Parse the text of a `config.json`. Raises `ConfigError`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise ConfigError(f"config.json is not valid JSON ({problem}); download it again") from None
        if not isinstance(values, dict):
            raise ConfigError(f"config.json holds a {type(values).__name__}, expected an object; download it again")
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LlamaConfig":
        """Read a Hub config in either dialect: `rope_theta`/`rope_scaling`/`torch_dtype` (transformers 4) or
        `rope_parameters`/`dtype` (transformers 5). Keys that do not concern the model are ignored.

        Raises `ConfigError` for architectures, activations and biases that model.py does not compute.
        """
        _refuse_other_models(values)
        # `null` means the same as an absent key, except for bos_token_id, where it says that there is none.
        known = {name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None}
        known.pop("rope_scaling", None)
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        if not isinstance(rope, Mapping):
            raise ConfigError(f"config: rope_scaling is {rope!r}; expected an object with rope_type")
        if rope.get("rope_theta") is not None:
            known["rope_theta"] = rope["rope_theta"]
        known["rope_scaling"] = _rope_scaling(rope)
        known["dtype"] = str(values.get("dtype") or values.get("torch_dtype") or "float32")
        eos = values.get("eos_token_id", 2)
        known["eos_token_id"] = () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)
        if "bos_token_id" in values:
            known["bos_token_id"] = values["bos_token_id"]
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The Hub `config.json` of this model, in the dialect that transformers 4 and 5 both read."""
        values = asdict(self)
        scaling = values.pop("rope_scaling")
        if scaling["rope_type"] != "default":
            values["rope_scaling"] = {key: scaling[key] for key in ("rope_type", *ROPE_KEYS[scaling["rope_type"]])}
        values["torch_dtype"] = values.pop("dtype")
        values["eos_token_id"] = list(self.eos_token_id) or None
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", **values}

    def to_json(self) -> str:
        """`to_dict` as the text of a `config.json`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def _refuse_other_models(values: Mapping[str, Any]) -> None:
    names = values.get("architectures") or []
    if names and not set(names) & set(ARCHITECTURES):
        found, expected = ", ".join(map(str, names)), ", ".join(ARCHITECTURES)
        raise ConfigError(f"config: architecture {found} is not supported; expected {expected}")
    if not names and values.get("model_type", "llama") != "llama":
        raise ConfigError(f"config: model_type {values['model_type']!r} is not supported; expected 'llama'")
    if values.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ConfigError(f"config: hidden_act {values['hidden_act']!r} is not supported; Llama uses 'silu'")
    for name in ("attention_bias", "mlp_bias"):
        if values.get(name):
            raise ConfigError(f"config: {name} is {values[name]!r}; biased projections are not supported yet")
    if values.get("quantization_config"):
        raise ConfigError(
            "config: the weights are quantised (quantization_config); choose the unquantised repository of this model"
        )


def _rope_scaling(values: Mapping[str, Any]) -> RopeScaling:
    kind = values.get("rope_type") or values.get("type") or "default"
    if kind not in ROPE_KEYS:
        raise ConfigError(f"config: rope_type {kind!r} is not supported; expected one of {', '.join(ROPE_KEYS)}")
    numbers = {}
    for key in ROPE_KEYS[kind]:
        value = values.get(key)
        if not _is_number(value) or not 0 < value < math.inf:
            raise ConfigError(f"config: {kind} rotary scaling has {key} = {value!r}; expected a positive number")
        numbers[key] = value
    return RopeScaling(rope_type=kind, **numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_int(name: str, value: Any, minimum: int, maximum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ConfigError(f"config: {name} is {value!r}; expected a whole number from {minimum} to {maximum}")


_LLAMA3 = RopeScaling("llama3", factor=8.0)

# Shapes for random models (`random:NAME`). The two big ones are Meta's published configurations.
NAMED_CONFIGS = {
    "tiny": LlamaConfig(
        vocab_size=4096, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=4094, eos_token_id=(4095,),
    ),
    "135M": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0,
        tie_word_embeddings=True, bos_token_id=49150, eos_token_id=(49151,),
    ),
    "1B": LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0,
        rope_scaling=replace(_LLAMA3, factor=32.0), tie_word_embeddings=True, bos_token_id=128000,
        eos_token_id=(128001, 128008, 128009),
    ),
    "8B": LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0,
        rope_scaling=_LLAMA3, bos_token_id=128000, eos_token_id=(128001, 128008, 128009),
    ),
}

"""What a checkpoint says about itself: `LlamaConfig`, read from and written to a Hub `config.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llama_core.model.checks import ConfigError, require_bool, require_int, require_number, require_supported
from llama_core.model.families import FAMILIES, FULL, SLIDING, Family, family_of, sliding_layers_of
from llama_core.model.rope_scaling import RopeScaling, read_rope

# The type of a field that may be given as None, which `__post_init__` replaces: who reads it always gets an int.
if TYPE_CHECKING:
    FilledIn = int
else:
    FilledIn = int | None
FROM_OTHERS: Any = None

# The largest size that is believed: above every published model, below what would fill memory while it is checked.
MAXIMA = {
    "vocab_size": 10**7,
    "hidden_size": 10**6,
    "intermediate_size": 10**7,
    "num_hidden_layers": 1000,
    "num_attention_heads": 10**4,
    "num_key_value_heads": 10**4,
    "max_position_embeddings": 2**31 - 1,
}


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama or of a near relative. Field names and defaults are the Hub's (transformers `LlamaConfig`);
    `num_key_value_heads` and `head_dim` may be None, which stands for `num_attention_heads` and for D / H.
    `sliding_layers` are the layers whose tokens see `sliding_window` positions, their own included.

    Raises `ConfigError` for shapes that cannot be a model.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: FilledIn = FROM_OTHERS
    head_dim: FilledIn = FROM_OTHERS
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = 1
    eos_token_id: tuple[int, ...] = (2,)
    dtype: str = "float32"
    model_type: str = "llama"
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    sliding_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        for name, maximum in MAXIMA.items():
            require_int(name, getattr(self, name), minimum=1, maximum=maximum)
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ConfigError(
                    f"config: hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                    f"{self.num_attention_heads} and no head_dim is given; correct one of the three"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        self._validate()

    def _validate(self) -> None:
        require_int("head_dim", self.head_dim, minimum=4, maximum=65536)
        if self.head_dim % 2:
            raise ConfigError(f"config: head_dim {self.head_dim} is odd; rotary embeddings turn pairs, so it is even")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"config: num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}; each key/value head must serve the same number of query heads"
            )
        for name in ("rms_norm_eps", "rope_theta", "initializer_range"):
            require_number(name, getattr(self, name))
        if self.rope_theta <= 1:
            raise ConfigError(f"config: rope_theta is {self.rope_theta}; expected a number above 1")
        for name in ("tie_word_embeddings", "attention_bias", "mlp_bias"):
            require_bool(name, getattr(self, name))
        if self.sliding_layers:
            require_int("sliding_window", self.sliding_window, minimum=1, maximum=2**31 - 1)
        ids = self.eos_token_id if self.bos_token_id is None else (*self.eos_token_id, self.bos_token_id)
        for token_id in ids:
            require_int("bos_token_id / eos_token_id", token_id, minimum=0, maximum=self.vocab_size - 1)

    @property
    def queries_per_kv_head(self) -> int:
        """G: how many query heads share one key/value head (1 = multi-head, H = multi-query)."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def longest_context(self) -> int:
        """How many tokens a conversation may have: `max_position_embeddings`, more where the rotary scaling goes past
        the length that the configuration names."""
        return min(self.rope_scaling.longest_context(self.max_position_embeddings), 2**31 - 1)

    @property
    def family(self) -> Family:
        """How this architecture differs from Llama."""
        return FAMILIES[self.model_type]

    def window_of(self, layer: int) -> int | None:
        """How many positions a token of this layer sees, its own included; None: all of them."""
        return self.sliding_window if layer in self.sliding_layers else None

    @classmethod
    def from_json(cls, text: str) -> "LlamaConfig":
        """Parse the text of a `config.json`. Raises `ConfigError`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as problem:  # a number of 5000 digits is a ValueError of another kind
            raise ConfigError(f"config.json is not valid JSON ({problem}); download it again") from None
        if not isinstance(values, dict):
            raise ConfigError(f"config.json holds a {type(values).__name__}, expected an object; download it again")
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LlamaConfig":
        """Read a Hub config in either dialect: `rope_theta`/`rope_scaling`/`torch_dtype` (transformers 4) or
        `rope_parameters`/`dtype` (transformers 5). Keys that do not concern the model are ignored.

        Raises `ConfigError` for architectures, activations and rotary scalings that the model does not compute.
        """
        family = family_of(values)
        for name in ("hidden_act", "partial_rotary_factor", "quantization_config"):
            require_supported(name, values.get(name))
        # `null` means the same as an absent key, except where it says that there is none.
        given = {key: value for key, value in values.items() if value is not None or key in NULLABLE}
        values = {**FAMILIES[family].defaults, **given}
        from_others = ("num_key_value_heads", "head_dim")  # whose None has replaced the default of the family
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known = {name: value for name, value in known.items() if value is not None or name not in from_others}
        known |= {"model_type": family, "dtype": _dtype(values), "eos_token_id": _eos(values)}
        trained_length = values.get("max_position_embeddings", cls.max_position_embeddings)
        theta, known["rope_scaling"] = read_rope(values, trained_length)
        if theta is not None:
            known["rope_theta"] = theta
        for key in {"attention_bias", "mlp_bias"} - set(FAMILIES[family].bias_keys):
            known.pop(key, None)
        layers = values.get("num_hidden_layers", cls.num_hidden_layers)
        require_int("num_hidden_layers", layers, 1, MAXIMA["num_hidden_layers"])
        known["sliding_layers"] = sliding_layers_of(family, values, layers)
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The Hub `config.json` of this model, in the dialect that transformers 4 and 5 both read."""
        values = {**asdict(self), "eos_token_id": list(self.eos_token_id) or None}
        layers = values.pop("sliding_layers")
        if values.pop("rope_scaling")["rope_type"] != "default":
            values["rope_scaling"] = self.rope_scaling.to_dict()
        kinds = [SLIDING if layer in layers else FULL for layer in range(self.num_hidden_layers)]
        if "max_window_layers" in self.family.defaults:
            values |= {"use_sliding_window": bool(layers), "layer_types": kinds}
        elif not layers:
            values["sliding_window"] = None
        elif FULL in kinds:
            values["layer_types"] = kinds
        values["torch_dtype"] = values.pop("dtype")
        return {"architectures": [self.family.architecture], "hidden_act": "silu", **values}

    def to_json(self) -> str:
        """`to_dict` as the text of a `config.json`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


# Keys where `null` does not mean the same as an absent key.
NULLABLE = ("bos_token_id", "eos_token_id", "num_key_value_heads", "head_dim", "sliding_window")


def _dtype(values: Mapping[str, Any]) -> str:
    dtype = values.get("dtype") or values.get("torch_dtype")
    return dtype if isinstance(dtype, str) else "float32"


def _eos(values: Mapping[str, Any]) -> tuple[Any, ...]:
    eos = values.get("eos_token_id", 2)
    return () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)


_LLAMA3 = RopeScaling("llama3", factor=8.0)

# Shapes for random models (`random:NAME`). The two big ones are Meta's published configurations.
NAMED_CONFIGS = {
    "tiny": LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=4094,
        eos_token_id=(4095,),
    ),
    "135M": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        bos_token_id=49150,
        eos_token_id=(49151,),
    ),
    "360M": LlamaConfig(
        vocab_size=49152,
        hidden_size=960,
        intermediate_size=2560,
        num_hidden_layers=32,
        num_attention_heads=15,
        num_key_value_heads=5,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        bos_token_id=49150,
        eos_token_id=(49151,),
    ),
    "1B": LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=replace(_LLAMA3, factor=32.0),
        tie_word_embeddings=True,
        bos_token_id=128000,
        eos_token_id=(128001, 128008, 128009),
    ),
    "8B": LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=_LLAMA3,
        bos_token_id=128000,
        eos_token_id=(128001, 128008, 128009),
    ),
}

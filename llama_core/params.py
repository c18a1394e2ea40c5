"""The parameter table: what every tensor of a Llama is called, how it is shaped and how it starts.

Initialising, counting and loading are each a walk over this table. Matrices are stored as checkpoints store
them, [out, in]: nothing is transposed on the way in, and on a CPU it is the fastest order for decoding
(benchmarks/NOTES.md).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from llama_core.config import LlamaConfig

# What an axis letter measures (ARCHITECTURE: D model width, H query heads, K key/value heads, E head dim, ...).
AXES: dict[str, Callable[[LlamaConfig], int]] = {
    "D": lambda config: config.hidden_size,
    "F": lambda config: config.intermediate_size,
    "V": lambda config: config.vocab_size,
    "HE": lambda config: config.num_attention_heads * config.head_dim,
    "KE": lambda config: config.num_key_value_heads * config.head_dim,
    "E": lambda config: config.head_dim,
}


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `hub_name` has `{layer}` in it for tensors that every block has; `exists` says in which
    models there is one."""

    field: str
    hub_name: str
    axes: tuple[str, ...]
    exists: Callable[[LlamaConfig], bool] = lambda config: True

    def shape(self, config: LlamaConfig) -> tuple[int, ...]:
        """The tensor's shape in a model of this configuration."""
        return tuple(AXES[axis](config) for axis in self.axes)


def _has_qkv_bias(config: LlamaConfig) -> bool:
    return config.attention_bias or config.family.qkv_bias


def _has_o_bias(config: LlamaConfig) -> bool:
    return config.attention_bias


def _has_mlp_bias(config: LlamaConfig) -> bool:
    return config.mlp_bias


def _has_qk_norm(config: LlamaConfig) -> bool:
    return config.family.qk_norm


BLOCK_PARAMETERS = (
    Parameter("attention_norm", "model.layers.{layer}.input_layernorm.weight", ("D",)),
    Parameter("wq", "model.layers.{layer}.self_attn.q_proj.weight", ("HE", "D")),
    Parameter("wk", "model.layers.{layer}.self_attn.k_proj.weight", ("KE", "D")),
    Parameter("wv", "model.layers.{layer}.self_attn.v_proj.weight", ("KE", "D")),
    Parameter("wo", "model.layers.{layer}.self_attn.o_proj.weight", ("D", "HE")),
    Parameter("ffn_norm", "model.layers.{layer}.post_attention_layernorm.weight", ("D",)),
    Parameter("w_gate", "model.layers.{layer}.mlp.gate_proj.weight", ("F", "D")),
    Parameter("w_up", "model.layers.{layer}.mlp.up_proj.weight", ("F", "D")),
    Parameter("w_down", "model.layers.{layer}.mlp.down_proj.weight", ("D", "F")),
    Parameter("q_bias", "model.layers.{layer}.self_attn.q_proj.bias", ("HE",), _has_qkv_bias),
    Parameter("k_bias", "model.layers.{layer}.self_attn.k_proj.bias", ("KE",), _has_qkv_bias),
    Parameter("v_bias", "model.layers.{layer}.self_attn.v_proj.bias", ("KE",), _has_qkv_bias),
    Parameter("o_bias", "model.layers.{layer}.self_attn.o_proj.bias", ("D",), _has_o_bias),
    Parameter("q_norm", "model.layers.{layer}.self_attn.q_norm.weight", ("E",), _has_qk_norm),
    Parameter("k_norm", "model.layers.{layer}.self_attn.k_norm.weight", ("E",), _has_qk_norm),
    Parameter("gate_bias", "model.layers.{layer}.mlp.gate_proj.bias", ("F",), _has_mlp_bias),
    Parameter("up_bias", "model.layers.{layer}.mlp.up_proj.bias", ("F",), _has_mlp_bias),
    Parameter("down_bias", "model.layers.{layer}.mlp.down_proj.bias", ("D",), _has_mlp_bias),
)
MODEL_PARAMETERS = (
    Parameter("token_embedding", "model.embed_tokens.weight", ("V", "D")),
    Parameter("norm", "model.norm.weight", ("D",)),
    Parameter("output", "lm_head.weight", ("V", "D"), lambda config: not config.tie_word_embeddings),
)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """The weights of one transformer block. None: models of this configuration have no such tensor."""

    attention_norm: Float[Array, "D"]
    wq: Float[Array, "HE D"]
    wk: Float[Array, "KE D"]
    wv: Float[Array, "KE D"]
    wo: Float[Array, "D HE"]
    ffn_norm: Float[Array, "D"]
    w_gate: Float[Array, "F D"]
    w_up: Float[Array, "F D"]
    w_down: Float[Array, "D F"]
    q_bias: Float[Array, "HE"] | None = None
    k_bias: Float[Array, "KE"] | None = None
    v_bias: Float[Array, "KE"] | None = None
    o_bias: Float[Array, "D"] | None = None
    q_norm: Float[Array, "E"] | None = None
    k_norm: Float[Array, "E"] | None = None
    gate_bias: Float[Array, "F"] | None = None
    up_bias: Float[Array, "F"] | None = None
    down_bias: Float[Array, "D"] | None = None


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """All weights of a model, one leaf a tensor. With tied embeddings `output` is None: the head reads
    `token_embedding`."""

    token_embedding: Float[Array, "V D"]
    blocks: tuple[Block, ...]
    norm: Float[Array, "D"]
    output: Float[Array, "V D"] | None


def model_parameters(config: LlamaConfig) -> tuple[Parameter, ...]:
    """The rows outside the blocks; a tied head has none of its own."""
    return tuple(row for row in MODEL_PARAMETERS if row.exists(config))


def block_parameters(config: LlamaConfig) -> tuple[Parameter, ...]:
    """The rows of every block."""
    return tuple(row for row in BLOCK_PARAMETERS if row.exists(config))


def hub_tensors(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name in a Hub checkpoint and shape of every tensor of the model, in the order in which `build_params` asks."""
    for row in model_parameters(config):
        yield row.hub_name, row.shape(config)
    for layer in range(config.num_hidden_layers):
        for row in block_parameters(config):
            yield row.hub_name.format(layer=layer), row.shape(config)


def named_tensors(config: LlamaConfig, params: Params) -> Iterator[tuple[str, Array]]:
    """Every tensor of the model with its name in a Hub checkpoint, in the order of `hub_tensors`."""
    for row in model_parameters(config):
        yield row.hub_name, getattr(params, row.field)
    for layer, block in enumerate(params.blocks):
        for row in block_parameters(config):
            yield row.hub_name.format(layer=layer), getattr(block, row.field)


def build_params(config: LlamaConfig, make: Callable[[str, tuple[int, ...]], Array]) -> Params:
    """A whole model from `make(hub_name, shape)`, called once a tensor."""
    outside = {row.field: make(row.hub_name, row.shape(config)) for row in model_parameters(config)}
    blocks = tuple(
        Block(**{
            row.field: make(row.hub_name.format(layer=layer), row.shape(config)) for row in block_parameters(config)
        })
        for layer in range(config.num_hidden_layers)
    )
    return Params(**{"output": None, **outside}, blocks=blocks)


def init_weight(
    key: PRNGKeyArray, shape: tuple[int, ...], scale: float | None = None, dtype: Any = jnp.float32
) -> Array:
    """A matrix [out, in] of normal noise with deviation `scale`, 1/√in unless told; a vector (a norm's weight) of ones.

    1/√in keeps the size of activations through a linear layer (LeCun et al. 1998, "Efficient BackProp").
    """
    if len(shape) == 1:
        return jnp.ones(shape, dtype)
    scale = 1.0 / math.sqrt(shape[-1]) if scale is None else scale
    return (jax.random.normal(key, shape) * scale).astype(dtype)


def init_model_params(key: PRNGKeyArray, config: LlamaConfig, dtype: Any = jnp.float32) -> Params:
    """Random weights for a model of this configuration, one independent key a tensor.

    Biases start at zero; the embedding starts at `config.initializer_range`, so that a tied head starts near a uniform
    guess.
    """
    keys = iter(jax.random.split(key, sum(1 for _ in hub_tensors(config))))

    def make(name: str, shape: tuple[int, ...]) -> Array:
        if name.endswith(".bias"):
            return jnp.zeros(shape, dtype)
        scale = config.initializer_range if name == "model.embed_tokens.weight" else None
        return init_weight(next(keys), shape, scale, dtype)

    return build_params(config, make)


def count_params(config: LlamaConfig) -> int:
    """How many numbers the model has."""
    return sum(math.prod(shape) for _, shape in hub_tensors(config))


def params_bytes(config: LlamaConfig, dtype: Any = jnp.float32) -> int:
    """How many bytes the weights take in `dtype`."""
    return count_params(config) * jnp.dtype(dtype).itemsize

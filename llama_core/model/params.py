"""The parameter table: what every tensor of a Llama is called, how it is shaped and how it starts.

Initialising, counting, loading and saving are each a walk over this table. Matrices are stored as checkpoints store
them, [out, in]: nothing is transposed on the way in, and on a CPU it is the fastest order for decoding
(benchmarks/NOTES.md).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from llama_core.model.config import LlamaConfig

# What an axis letter measures (ARCHITECTURE: D model width, H query heads, K key/value heads, E head dim, ...).
AXES: dict[str, Callable[[LlamaConfig], int]] = {
    "D": lambda config: config.hidden_size,
    "F": lambda config: config.intermediate_size,
    "V": lambda config: config.vocab_size,
    "HE": lambda config: config.num_attention_heads * config.head_dim,
    "KE": lambda config: config.num_key_value_heads * config.head_dim,
    "E": lambda config: config.head_dim,
}

# Tensors of a Hub checkpoint: name → shape.
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Parameter:
    """One row of the table: a field, the tensors of a Hub checkpoint that lie in it on top of one another, each with
    its axes, and in which models it `exists`. The names have `{layer}` in them for what every block has."""

    field: str
    tensors: dict[str, str]
    exists: Callable[[LlamaConfig], bool] = lambda config: True

    def shapes(self, config: LlamaConfig, layer: int | None = None) -> Shapes:
        """Name and shape of each tensor in a model of this configuration."""
        return {
            name.format(layer=layer): tuple(AXES[axis](config) for axis in axes.split())
            for name, axes in self.tensors.items()
        }


def _has_qkv_bias(config: LlamaConfig) -> bool:
    return config.attention_bias or config.family.qkv_bias


def _has_o_bias(config: LlamaConfig) -> bool:
    return config.attention_bias


def _has_mlp_bias(config: LlamaConfig) -> bool:
    return config.mlp_bias


def _has_qk_norm(config: LlamaConfig) -> bool:
    return config.family.qk_norm


ATTENTION, MLP = "model.layers.{layer}.self_attn.", "model.layers.{layer}.mlp."

# What reads the same input is one matrix: fewer and larger products are faster (benchmarks/NOTES.md).
BLOCK_PARAMETERS = (
    Parameter("attention_norm", {"model.layers.{layer}.input_layernorm.weight": "D"}),
    Parameter(
        "w_qkv",
        {ATTENTION + "q_proj.weight": "HE D", ATTENTION + "k_proj.weight": "KE D", ATTENTION + "v_proj.weight": "KE D"},
    ),
    Parameter("wo", {ATTENTION + "o_proj.weight": "D HE"}),
    Parameter("ffn_norm", {"model.layers.{layer}.post_attention_layernorm.weight": "D"}),
    Parameter("w_gate_up", {MLP + "gate_proj.weight": "F D", MLP + "up_proj.weight": "F D"}),
    Parameter("w_down", {MLP + "down_proj.weight": "D F"}),
    Parameter(
        "qkv_bias",
        {ATTENTION + "q_proj.bias": "HE", ATTENTION + "k_proj.bias": "KE", ATTENTION + "v_proj.bias": "KE"},
        _has_qkv_bias,
    ),
    Parameter("o_bias", {ATTENTION + "o_proj.bias": "D"}, _has_o_bias),
    Parameter("q_norm", {ATTENTION + "q_norm.weight": "E"}, _has_qk_norm),
    Parameter("k_norm", {ATTENTION + "k_norm.weight": "E"}, _has_qk_norm),
    Parameter("gate_up_bias", {MLP + "gate_proj.bias": "F", MLP + "up_proj.bias": "F"}, _has_mlp_bias),
    Parameter("down_bias", {MLP + "down_proj.bias": "D"}, _has_mlp_bias),
)
MODEL_PARAMETERS = (
    Parameter("token_embedding", {"model.embed_tokens.weight": "V D"}),
    Parameter("norm", {"model.norm.weight": "D"}),
    Parameter("output", {"lm_head.weight": "V D"}, lambda config: not config.tie_word_embeddings),
)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """The weights of one transformer block. None: models of this configuration have no such tensor."""

    attention_norm: Float[Array, "D"]
    w_qkv: Float[Array, "HE+2*KE D"]
    wo: Float[Array, "D HE"]
    ffn_norm: Float[Array, "D"]
    w_gate_up: Float[Array, "2*F D"]
    w_down: Float[Array, "D F"]
    qkv_bias: Float[Array, "HE+2*KE"] | None = None
    o_bias: Float[Array, "D"] | None = None
    q_norm: Float[Array, "E"] | None = None
    k_norm: Float[Array, "E"] | None = None
    gate_up_bias: Float[Array, "2*F"] | None = None
    down_bias: Float[Array, "D"] | None = None


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """All weights of a model. With tied embeddings `output` is None: the head reads `token_embedding`."""

    token_embedding: Float[Array, "V D"]
    blocks: tuple[Block, ...]
    norm: Float[Array, "D"]
    output: Float[Array, "V D"] | None

    @property
    def dtype(self) -> np.dtype:
        """The number format in which the model computes: that of its norms, whatever the matrices are stored in."""
        return self.norm.dtype


def model_parameters(config: LlamaConfig) -> tuple[Parameter, ...]:
    """The rows outside the blocks; a tied head has none of its own."""
    return tuple(row for row in MODEL_PARAMETERS if row.exists(config))


def block_parameters(config: LlamaConfig) -> tuple[Parameter, ...]:
    """The rows of every block."""
    return tuple(row for row in BLOCK_PARAMETERS if row.exists(config))


def rows_and_layers(config: LlamaConfig) -> Iterator[tuple[Parameter, int | None]]:
    """Every row that the model has, those of the blocks once a layer."""
    for row in model_parameters(config):
        yield row, None
    for layer in range(config.num_hidden_layers):
        for row in block_parameters(config):
            yield row, layer


def hub_tensors(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name in a Hub checkpoint and shape of every tensor of the model, in the order in which `build_params` asks."""
    for row, layer in rows_and_layers(config):
        yield from row.shapes(config, layer).items()


def named_tensors(config: LlamaConfig, params: Params) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the model with its name in a Hub checkpoint, on the host, in the order of `hub_tensors`."""
    for row, layer in rows_and_layers(config):
        stacked, start = np.asarray(getattr(params if layer is None else params.blocks[layer], row.field)), 0
        for name, shape in row.shapes(config, layer).items():
            yield name, stacked[start : start + shape[0]]
            start += shape[0]


def build_params(config: LlamaConfig, make: Callable[[Shapes], Array]) -> Params:
    """A whole model from `make`, called once a row with the tensors to lay on top of one another."""
    outside = {row.field: make(row.shapes(config)) for row in model_parameters(config)}
    blocks = tuple(
        Block(**{row.field: make(row.shapes(config, layer)) for row in block_parameters(config)})
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

    def stack(shapes: Shapes) -> Array:
        return jnp.concatenate([make(name, shape) for name, shape in shapes.items()])

    return build_params(config, stack)


def count_params(config: LlamaConfig) -> int:
    """How many numbers the model has."""
    return sum(math.prod(shape) for _, shape in hub_tensors(config))


def params_bytes(config: LlamaConfig, dtype: Any = jnp.float32) -> int:
    """How many bytes the weights take in `dtype`."""
    return count_params(config) * jnp.dtype(dtype).itemsize

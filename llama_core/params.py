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
}


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `hub_name` has `{layer}` in it for tensors that every block has."""

    field: str
    hub_name: str
    axes: tuple[str, ...]

    def shape(self, config: LlamaConfig) -> tuple[int, ...]:
        """The tensor's shape in a model of this configuration."""
        return tuple(AXES[axis](config) for axis in self.axes)


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
)
MODEL_PARAMETERS = (
    Parameter("token_embedding", "model.embed_tokens.weight", ("V", "D")),
    Parameter("norm", "model.norm.weight", ("D",)),
    Parameter("output", "lm_head.weight", ("V", "D")),
)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """The weights of one transformer block."""

    attention_norm: Float[Array, "D"]
    wq: Float[Array, "HE D"]
    wk: Float[Array, "KE D"]
    wv: Float[Array, "KE D"]
    wo: Float[Array, "D HE"]
    ffn_norm: Float[Array, "D"]
    w_gate: Float[Array, "F D"]
    w_up: Float[Array, "F D"]
    w_down: Float[Array, "D F"]


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
    return tuple(row for row in MODEL_PARAMETERS if not (row.field == "output" and config.tie_word_embeddings))


def hub_tensors(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name in a Hub checkpoint and shape of every tensor of the model, in the order in which `build_params` asks."""
    for row in model_parameters(config):
        yield row.hub_name, row.shape(config)
    for layer in range(config.num_hidden_layers):
        for row in BLOCK_PARAMETERS:
            yield row.hub_name.format(layer=layer), row.shape(config)


def named_tensors(config: LlamaConfig, params: Params) -> Iterator[tuple[str, Array]]:
    """Every tensor of the model with its name in a Hub checkpoint, in the order of `hub_tensors`."""
    for row in model_parameters(config):
        yield row.hub_name, getattr(params, row.field)
    for layer, block in enumerate(params.blocks):
        for row in BLOCK_PARAMETERS:
            yield row.hub_name.format(layer=layer), getattr(block, row.field)


def build_params(config: LlamaConfig, make: Callable[[str, tuple[int, ...]], Array]) -> Params:
    """A whole model from `make(hub_name, shape)`, called once a tensor."""
    outside = {row.field: make(row.hub_name, row.shape(config)) for row in model_parameters(config)}
    blocks = tuple(
        Block(**{row.field: make(row.hub_name.format(layer=layer), row.shape(config)) for row in BLOCK_PARAMETERS})
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

    The embedding starts at `config.initializer_range`, so that a tied head starts near a uniform guess.
    """
    keys = iter(jax.random.split(key, sum(1 for _ in hub_tensors(config))))

    def make(name: str, shape: tuple[int, ...]) -> Array:
        scale = config.initializer_range if name == "model.embed_tokens.weight" else None
        return init_weight(next(keys), shape, scale, dtype)

    return build_params(config, make)


def abstract_params(config: LlamaConfig, dtype: Any = jnp.float32) -> Params:
    """`init_model_params` as shapes and dtypes only; nothing is allocated."""
    return jax.eval_shape(lambda: init_model_params(jax.random.key(0), config, dtype))


def count_params(config: LlamaConfig) -> int:
    """How many numbers the model has."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


def params_bytes(config: LlamaConfig, dtype: Any = jnp.float32) -> int:
    """How many bytes the weights take in `dtype`."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract_params(config, dtype)))

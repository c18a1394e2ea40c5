"""All weights of a model as one tree of arrays: initialised, counted, built and taken apart by walks over the parameter
table.
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
from llama_core.model.parameter_table import BLOCK_PARAMETERS, MODEL_PARAMETERS, Placement, Shape
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """The weights of one transformer block. None: models of this configuration have no such tensor."""

    attention_norm: Float[Array, "D"]
    w_qkv: Float[Array, "K (G+2)*E D"]
    wo: Float[Array, "D HE"]
    ffn_norm: Float[Array, "D"]
    w_gate_up: Float[Array, "2 F D"]
    w_down: Float[Array, "D F"]
    qkv_bias: Float[Array, "K (G+2)*E"] | None = None
    o_bias: Float[Array, "D"] | None = None
    q_norm: Float[Array, "E"] | None = None
    k_norm: Float[Array, "E"] | None = None
    gate_up_bias: Float[Array, "2 F"] | None = None
    down_bias: Float[Array, "D"] | None = None


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """All weights of a model. With tied embeddings `output` is None: the head reads `token_embedding`."""

    token_embedding: Float[Array, "V D"]
    blocks: tuple[Block, ...]
    norm: Float[Array, "D"]
    output: Float[Array, "V D"] | None = None

    @property
    def dtype(self) -> np.dtype:
        """The number format in which the model computes: that of its norms, however its matrices are stored."""
        return self.norm.dtype

    @property
    def nbytes(self) -> int:
        """How many bytes the weights take in memory."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))


def placements(config: LlamaConfig) -> Iterator[Placement]:
    """Every array of a model: those outside the blocks, then those of each block."""
    yield from (Placement(row, config) for row in MODEL_PARAMETERS if row.exists(config))
    for layer in range(config.num_hidden_layers):
        yield from (Placement(row, config, layer) for row in BLOCK_PARAMETERS if row.exists(config))


def hub_tensors(config: LlamaConfig) -> Iterator[tuple[str, Shape]]:
    """Name in a Hub checkpoint and shape of every tensor of the model, in the order of `placements`."""
    for placement in placements(config):
        yield from placement.tensors.items()


def placed(config: LlamaConfig, params: Params) -> Iterator[tuple[Placement, Array | QuantizedMatrix]]:
    """Every array of these weights with its place, in the order of `placements`."""
    for placement in placements(config):
        holder = params if placement.layer is None else params.blocks[placement.layer]
        yield placement, getattr(holder, placement.row.field)


def named_tensors(config: LlamaConfig, params: Params) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the model with its name in a Hub checkpoint, on the host, in the order of `hub_tensors`."""
    for placement, array in placed(config, params):
        yield from placement.split(np.asarray(array))


def build_params(config: LlamaConfig, make: Callable[[Placement], Array | QuantizedMatrix]) -> Params:
    """A whole model from `make`, which is called once per array, in the order of `placements`."""
    outside: dict[str, Any] = {}
    blocks: list[dict[str, Any]] = [{} for _ in range(config.num_hidden_layers)]
    for placement in placements(config):
        holder = outside if placement.layer is None else blocks[placement.layer]
        holder[placement.row.field] = make(placement)
    return Params(blocks=tuple(Block(**arrays) for arrays in blocks), **outside)


def stack_params(config: LlamaConfig, tensor: Callable[[str, Shape], Any]) -> Params:
    """A whole model from `tensor`, which gives the tensor of this name in a Hub checkpoint and this shape."""
    return build_params(
        config, lambda placement: placement.stack([tensor(name, shape) for name, shape in placement.tensors.items()])
    )


def matrices(params: Params) -> Params:
    """For each array of a model whether it consists of matrices (and not of vectors: norms and biases)."""
    by_field = {row.field: row.is_matrix for row in (*MODEL_PARAMETERS, *BLOCK_PARAMETERS)}
    return jax.tree_util.tree_map_with_path(lambda path, _: by_field[path[-1].name], params)


def init_model_params(
    key: PRNGKeyArray,
    config: LlamaConfig,
    dtype: Any = jnp.float32,
    finish: Callable[[Placement, Array], Array | QuantizedMatrix] = lambda placement, array: array,
) -> Params:
    """Random weights for a model of this configuration, each with a key of its own, by the initialiser of its row.
    `finish` gives the form that an array has in memory."""
    keys = iter(jax.random.split(key, sum(1 for _ in hub_tensors(config))))

    def make(placement: Placement) -> Array | QuantizedMatrix:
        init = placement.row.initializer
        stacked = placement.stack([init(keys, shape, config, dtype) for shape in placement.tensors.values()])
        return finish(placement, stacked)

    return build_params(config, make)


def count_params(config: LlamaConfig) -> int:
    """How many numbers the model has."""
    return sum(math.prod(shape) for _, shape in hub_tensors(config))


def params_bytes(config: LlamaConfig, dtype: Any = jnp.float32, quantize: str = "none") -> int:
    """How many bytes the weights take in `dtype`, with those that may be rounded to `quantize`."""
    rounding, size = ROUNDINGS.get(quantize), jnp.dtype(dtype).itemsize
    return sum(
        rounding.bytes_of(placement.shape)
        if rounding is not None and placement.row.may_be_quantized
        else math.prod(placement.shape) * size
        for placement in placements(config)
    )

"""The parameter table: for each array of a model its axes, the checkpoint tensors in it, how these are stacked, and how
they are initialised. A new array is a row here and a field in params.py.

Matrices are stored as checkpoints store them, [out, in]: nothing is transposed on the way in, and on a CPU it is the
fastest order for decoding.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from llama_core.model.config import LlamaConfig
from llama_core.model.quantization import QuantizedMatrix, stack_rows

# What each axis measures: D model width, F feed-forward width, V vocabulary, H query heads, K key/value heads, G = H/K,
# E head dim.
AXES: dict[str, Callable[[LlamaConfig], int]] = {
    "D": lambda config: config.hidden_size,
    "F": lambda config: config.intermediate_size,
    "V": lambda config: config.vocab_size,
    "K": lambda config: config.num_key_value_heads,
    "HE": lambda config: config.num_attention_heads * config.head_dim,
    "KE": lambda config: config.num_key_value_heads * config.head_dim,
    "(G+2)E": lambda config: (config.queries_per_kv_head + 2) * config.head_dim,
    "E": lambda config: config.head_dim,
    "2": lambda config: 2,
}

Shape = tuple[int, ...]


# How a tensor starts. The key comes from an iterator over the keys of the whole model, one per weight.
Initializer = Callable[[Iterator[PRNGKeyArray], tuple[int, ...], LlamaConfig, Any], Array]


def _shape(axes: str, config: LlamaConfig) -> Shape:
    return tuple(AXES[axis](config) for axis in axes.split())


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint: its names in the Hub's format and in GGUF, and its axes. `{layer}` in a name stands
    for the number of the block.

    `is_permuted_in_gguf`: files of GGUF's architecture "llama" (not qwen2, qwen3) have the rows of each head as E/2
    neighbouring pairs; they have to be brought into the Hub's order, two halves, when they are loaded.
    """

    hub: str
    gguf: str
    axes: str
    is_permuted_in_gguf: bool = False


@dataclass(frozen=True)
class Parameter:
    """One row of the table: an array of the model, `field` of `Params` or `Block`, with its `axes` in memory.

    Load transform: the rows of each of its `tensors` are divided evenly among `groups` (the name of an axis, or "" for
    one group), and a group holds its rows of the first tensor, then its rows of the second, and so on.
    `may_be_quantized` marks matrices that only `linear` and `embed` read. `cut` is the axis along which several devices
    share the array (mesh/sharding.py), "" if each has all of it: along K, HE, F and V no head is cut through, and no
    gate is parted from its up.
    """

    field: str
    axes: str
    tensors: tuple[Tensor, ...]
    initializer: Initializer
    may_be_quantized: bool = False
    groups: str = ""
    cut: str = ""
    exists: Callable[[LlamaConfig], bool] = lambda config: True

    @property
    def is_matrix(self) -> bool:
        """Whether its tensors are matrices; norms and biases are vectors."""
        return len(self.tensors[0].axes.split()) > 1


@dataclass(frozen=True)
class Placement:
    """One array of one model: a row of the table for one configuration and, in a block, one layer."""

    row: Parameter
    config: LlamaConfig
    layer: int | None = None

    @property
    def shape(self) -> Shape:
        """The shape of the array in memory."""
        return _shape(self.row.axes, self.config)

    @property
    def groups(self) -> int:
        """Among how many groups the rows of each tensor are divided."""
        return AXES[self.row.groups](self.config) if self.row.groups else 1

    @property
    def tensors(self) -> dict[str, Shape]:
        """Name in a Hub checkpoint and shape of each tensor, in the order in which a group holds them."""
        return {tensor.hub.format(layer=self.layer): _shape(tensor.axes, self.config) for tensor in self.row.tensors}

    def stack(self, tensors: Iterable[Array | np.ndarray]) -> Array:
        """The array in memory, from its tensors."""
        grouped = [tensor.reshape(self.groups, -1, *tensor.shape[1:]) for tensor in tensors]
        return jnp.concatenate(grouped, axis=1).reshape(self.shape)

    def stack_quantized(self, tensors: Sequence[QuantizedMatrix]) -> QuantizedMatrix:
        """The same for tensors of small numbers, which may be in different formats."""
        return stack_rows(tensors, self.groups, self.shape)

    def split(self, stacked: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The inverse of `stack`: the name and the contents of each tensor."""
        shapes, start = self.tensors, 0
        # Rows keep their length: that of the bytes and scales of small numbers is another one.
        row = stacked.shape[-1:] if self.row.is_matrix else ()
        grouped = stacked.reshape(self.groups, -1, *row)
        for name, shape in shapes.items():
            end = start + shape[0] // self.groups
            yield name, grouped[:, start:end].reshape(shape[0], *row)
            start = end


def noise(keys: Iterator[PRNGKeyArray], shape: tuple[int, ...], config: LlamaConfig, dtype: Any) -> Array:
    """A matrix [out, in] of normal noise with deviation 1/√in, which keeps the size of activations through a linear
    layer (LeCun et al. 1998, "Efficient BackProp")."""
    return _normal(next(keys), shape, 1.0 / math.sqrt(shape[-1]), dtype)


def embedding_noise(keys: Iterator[PRNGKeyArray], shape: tuple[int, ...], config: LlamaConfig, dtype: Any) -> Array:
    """Normal noise with deviation `config.initializer_range`: a tied head starts near a uniform guess."""
    return _normal(next(keys), shape, config.initializer_range, dtype)


def ones(keys: Iterator[PRNGKeyArray], shape: tuple[int, ...], config: LlamaConfig, dtype: Any) -> Array:
    """For norms."""
    next(keys)  # unused, but a seed must keep giving the same model
    return jnp.ones(shape, dtype)


def zeros(keys: Iterator[PRNGKeyArray], shape: tuple[int, ...], config: LlamaConfig, dtype: Any) -> Array:
    """For biases."""
    return jnp.zeros(shape, dtype)


def _normal(key: PRNGKeyArray, shape: tuple[int, ...], deviation: float, dtype: Any) -> Array:
    return (jax.random.normal(key, shape) * deviation).astype(dtype)


def _has_qkv_bias(config: LlamaConfig) -> bool:
    return config.attention_bias or config.family.qkv_bias


def _has_o_bias(config: LlamaConfig) -> bool:
    return config.attention_bias


def _has_mlp_bias(config: LlamaConfig) -> bool:
    return config.mlp_bias


def _has_qk_norm(config: LlamaConfig) -> bool:
    return config.family.qk_norm


def _has_output(config: LlamaConfig) -> bool:
    return not config.tie_word_embeddings


LAYER, BLK = "model.layers.{layer}.", "blk.{layer}."


def _attention(hub: str, gguf: str, axes: str, is_permuted: bool = False) -> Tensor:
    return Tensor(f"{LAYER}self_attn.{hub}", f"{BLK}attn_{gguf}", axes, is_permuted)


def _mlp(hub: str, gguf: str, axes: str) -> Tensor:
    return Tensor(f"{LAYER}mlp.{hub}", f"{BLK}ffn_{gguf}", axes)


# Weights that read the same input are one array: fewer and larger products are faster (q|k|v and gate|up of a 135M
# model: 20.5 → 18.2 ms per token). q, k and v lie grouped by key/value head, so that the array can be cut along K.
BLOCK_PARAMETERS = (
    Parameter("attention_norm", "D", (Tensor(LAYER + "input_layernorm.weight", BLK + "attn_norm.weight", "D"),), ones),
    Parameter(
        "w_qkv",
        "K (G+2)E D",
        (
            _attention("q_proj.weight", "q.weight", "HE D", is_permuted=True),
            _attention("k_proj.weight", "k.weight", "KE D", is_permuted=True),
            _attention("v_proj.weight", "v.weight", "KE D"),
        ),
        noise,
        may_be_quantized=True,
        groups="K",
        cut="K",
    ),
    Parameter(
        "wo", "D HE", (_attention("o_proj.weight", "output.weight", "D HE"),), noise, may_be_quantized=True, cut="HE"
    ),
    Parameter(
        "ffn_norm", "D", (Tensor(LAYER + "post_attention_layernorm.weight", BLK + "ffn_norm.weight", "D"),), ones
    ),
    Parameter(
        "w_gate_up",
        "2 F D",
        (_mlp("gate_proj.weight", "gate.weight", "F D"), _mlp("up_proj.weight", "up.weight", "F D")),
        noise,
        may_be_quantized=True,
        cut="F",
    ),
    Parameter(
        "w_down", "D F", (_mlp("down_proj.weight", "down.weight", "D F"),), noise, may_be_quantized=True, cut="F"
    ),
    Parameter(
        "qkv_bias",
        "K (G+2)E",
        (
            _attention("q_proj.bias", "q.bias", "HE", is_permuted=True),
            _attention("k_proj.bias", "k.bias", "KE", is_permuted=True),
            _attention("v_proj.bias", "v.bias", "KE"),
        ),
        zeros,
        groups="K",
        cut="K",
        exists=_has_qkv_bias,
    ),
    Parameter("o_bias", "D", (_attention("o_proj.bias", "output.bias", "D"),), zeros, exists=_has_o_bias),
    Parameter("q_norm", "E", (_attention("q_norm.weight", "q_norm.weight", "E"),), ones, exists=_has_qk_norm),
    Parameter("k_norm", "E", (_attention("k_norm.weight", "k_norm.weight", "E"),), ones, exists=_has_qk_norm),
    Parameter(
        "gate_up_bias",
        "2 F",
        (_mlp("gate_proj.bias", "gate.bias", "F"), _mlp("up_proj.bias", "up.bias", "F")),
        zeros,
        cut="F",
        exists=_has_mlp_bias,
    ),
    Parameter("down_bias", "D", (_mlp("down_proj.bias", "down.bias", "D"),), zeros, exists=_has_mlp_bias),
)
MODEL_PARAMETERS = (
    Parameter(
        "token_embedding",
        "V D",
        (Tensor("model.embed_tokens.weight", "token_embd.weight", "V D"),),
        embedding_noise,
        may_be_quantized=True,
        cut="V",
    ),
    Parameter("norm", "D", (Tensor("model.norm.weight", "output_norm.weight", "D"),), ones),
    Parameter(
        "output",
        "V D",
        (Tensor("lm_head.weight", "output.weight", "V D"),),
        noise,
        may_be_quantized=True,
        cut="V",
        exists=_has_output,
    ),
)

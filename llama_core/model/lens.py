"""What the model computes inside for one token: each layer's guess (the logit lens, nostalgebraist 2020) and where the
attention heads look.

This is not on the serving path: the whole sequence is run again, layer by layer and in each layer chunk by chunk, with
the keys and values of that layer alone in memory. What it takes beside the weights (`inspection_bytes`) grows with the
length of the sequence, not with its square.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from llama_core.errors import UserError
from llama_core.model.attention import KEY_BLOCKS, attention_weights, make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.kv_cache import LayerCache, init_cache, read_layer
from llama_core.model.linear import embed
from llama_core.model.llama import logits, queries_keys_values, rms_norm, transformer_block
from llama_core.model.params import Block, Params
from llama_core.model.rope import precompute_freqs_cis

# A sequence is padded to one of these lengths: a model compiles one program per length that is asked for.
LENGTHS = (64, 256, 1024, 4096, 16384)
CHUNK = 256  # tokens that go through a layer at once
ROWS = 8  # layers whose outputs go through the head at once
GUESSES = 5


@dataclass(frozen=True)
class Inside:
    """What each of L layers would say after the last of T tokens (`ids` and `shares`, the likeliest first; the last row
    is the model's answer), and the share of its attention that each of H heads gives to each of the T tokens."""

    ids: Int[np.ndarray, "L N"]
    shares: Float[np.ndarray, "L N"]
    attention: Float[np.ndarray, "L H T"]


class InspectionError(UserError):
    """A sequence that cannot be inspected; one line that says why."""


def inspect(
    params: Params, config: LlamaConfig, ids: Sequence[int], drawable: Bool[np.ndarray, "V"] | None = None
) -> Inside:
    """Inspect the step that follows `ids`. Ids that are not `drawable` have no share (None: all have one).

    Raises `InspectionError` for a sequence that is empty or too long, and for a model that lies on several hosts.
    """
    length = next((size for size in LENGTHS if size >= len(ids)), None)
    if not ids or length is None:
        raise InspectionError(f"{len(ids)} tokens cannot be inspected; expected 1 to {LENGTHS[-1]}")
    if not all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(params)):
        raise InspectionError("this model lies on several hosts, which only write replies together")
    tokens, last = np.zeros((1, length), np.int32), np.int32(len(ids) - 1)
    tokens[0, : len(ids)] = ids
    programs, freqs_cis = _programs(config), jnp.asarray(precompute_freqs_cis(config, length))
    x = embed(params.token_embedding, tokens)
    outputs, attention = [], []
    for i, block in enumerate(params.blocks):
        x, output, weights = programs.layer(block, x, freqs_cis, last, sliding_window=config.window_of(i))
        outputs.append(output)
        attention.append(np.asarray(weights)[:, : len(ids)])
    drawable = np.ones(config.vocab_size, bool) if drawable is None else drawable
    rows = [jnp.stack(outputs[first : first + ROWS]) for first in range(0, len(outputs), ROWS)]
    guesses = [programs.guess(params, some, drawable) for some in rows]
    top, shares = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*guesses, strict=True))
    return Inside(top, shares, np.stack(attention))


def inspection_bytes(config: LlamaConfig, tokens: int) -> int:
    """The memory beside the weights that `inspect` takes for at most so many tokens, counted in float32."""
    T = next((size for size in LENGTHS if size >= tokens), LENGTHS[-1])
    H, C = config.num_attention_heads, min(CHUNK, T)
    sequence = T * (2 * config.hidden_size + 6 * config.num_key_value_heads * config.head_dim)
    attention = 2 * H * T * (config.num_hidden_layers + 1)
    chunk = C * (8 * config.hidden_size + 3 * config.intermediate_size + 5 * H * min(KEY_BLOCKS[0], T))
    head = 4 * min(ROWS, config.num_hidden_layers) * config.vocab_size
    return 4 * (sequence + attention + max(chunk, head))


class _Programs(NamedTuple):
    layer: Callable
    guess: Callable


@functools.lru_cache(maxsize=1)
def _programs(config: LlamaConfig) -> _Programs:
    """Compiled for one model at a time: those of the model before it are let go."""
    layer = jax.jit(functools.partial(_layer, config=config), static_argnames="sliding_window", donate_argnums=1)
    return _Programs(layer, jax.jit(functools.partial(_guess, config=config)))


@no_type_check  # JAX puts stand-ins into pytrees
def _layer(
    block: Block,
    x: Float[Array, "1 T D"],
    freqs_cis: Complex[Array, "T R"],
    last: Int[Array, ""],
    *,
    config: LlamaConfig,
    sliding_window: int | None,
) -> tuple[Float[Array, "1 T D"], Float[Array, "D"], Float[Array, "H T"]]:
    """Run the tokens up to `last` through a block. The output of all and of the last, and where its heads looked."""
    T = x.shape[1]
    size = min(CHUNK, T)
    asking = jax.lax.dynamic_slice_in_dim(x, last, 1, axis=1)

    def run_chunk(i: Int[Array, ""], carry: tuple[Array, LayerCache]) -> tuple[Array, LayerCache]:
        x, layer = carry
        start = i * size
        context = make_attention_context(start[None], size, freqs_cis, kv_length=start + size)
        part = jax.lax.dynamic_slice_in_dim(x, start, size, axis=1)
        part, layer = transformer_block(block, part, config, replace(context, sliding_window=sliding_window), layer)
        return jax.lax.dynamic_update_slice_in_dim(x, part, start, axis=1), layer

    empty = init_cache(config, 1, T, x.dtype).layers[0]  # the compiler drops the other layers
    x, (keys, _) = jax.lax.fori_loop(0, last // size + 1, run_chunk, (x, empty))
    context = make_attention_context(last[None], 1, freqs_cis)
    query, _, _ = queries_keys_values(block, asking, config, context)
    seen = read_layer(keys, None, 0, T).transpose(0, 2, 1, 3)
    weights = attention_weights(query, seen, context.positions, sliding_window)
    return x, x[0, last], weights.reshape(config.num_attention_heads, T)


@no_type_check  # JAX puts stand-ins into pytrees
def _guess(
    params: Params, outputs: Float[Array, "N D"], drawable: Bool[Array, "V"], *, config: LlamaConfig
) -> tuple[Int[Array, "N K"], Float[Array, "N K"]]:
    """The likeliest tokens of these outputs of layers, each read as if it were the last layer's, and their shares."""
    scores = logits(params, rms_norm(outputs, params.norm, config.rms_norm_eps))
    shares, top = jax.lax.top_k(jax.nn.softmax(jnp.where(drawable, scores, -jnp.inf), axis=-1), GUESSES)
    return top, shares

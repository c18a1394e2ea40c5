"""What the model computes inside for one token: each layer's guess (the logit lens, nostalgebraist 2020) and where the
attention heads look.

This is not on the serving path: the whole sequence is run again without a cache, padded to one of a few lengths, so
that a model compiles at most one program per length.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from llama_core.errors import UserError
from llama_core.model.attention import AttentionContext, attention_weights, make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.linear import embed
from llama_core.model.llama import logits, queries_keys_values, rms_norm, transformer_block
from llama_core.model.params import Block, Params
from llama_core.model.rope import precompute_freqs_cis

LENGTHS = (64, 256, 1024, 4096, 16384)
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


def inspect(params: Params, config: LlamaConfig, ids: Sequence[int]) -> Inside:
    """Inspect the step that follows `ids`. Raises `InspectionError` for a sequence that is empty or too long."""
    length = next((size for size in LENGTHS if size >= len(ids)), None)
    if not ids or length is None:
        raise InspectionError(f"{len(ids)} tokens cannot be inspected; expected 1 to {LENGTHS[-1]}")
    tokens = np.zeros((1, length), np.int32)
    tokens[0, : len(ids)] = ids
    found = _look(params, tokens, np.int32(len(ids) - 1), config=config)
    top, shares, attention = (np.asarray(part) for part in found)
    return Inside(top, shares, attention[:, :, : len(ids)])


@functools.partial(jax.jit, static_argnames="config")
@no_type_check  # JAX puts stand-ins into pytrees
def _look(params: Params, tokens: Int[Array, "1 T"], last: Int[Array, ""], *, config: LlamaConfig):
    T = tokens.shape[1]
    context = make_attention_context(jnp.zeros(1, jnp.int32), T, jnp.asarray(precompute_freqs_cis(config, T)))
    x = embed(params.token_embedding, tokens)
    outputs, attention = [], []
    for i, block in enumerate(params.blocks):
        here = replace(context, sliding_window=config.window_of(i))
        attention.append(attention_of(block, x, last, config, here))
        x, _ = transformer_block(block, x, config, here)
        outputs.append(x[0, last])
    hidden = rms_norm(jnp.stack(outputs), params.norm, config.rms_norm_eps)
    shares, top = jax.lax.top_k(jax.nn.softmax(logits(params, hidden), axis=-1), GUESSES)
    return top, shares, jnp.stack(attention)


def attention_of(
    block: Block, x: Float[Array, "1 T D"], last: Int[Array, ""], config: LlamaConfig, context: AttentionContext
) -> Float[Array, "H T"]:
    """The share of its attention that each head of the token at `last` gives to each token."""
    q, k, _ = queries_keys_values(block, x, config, context)
    asking = jax.lax.dynamic_slice_in_dim(q, last, 1, axis=1)
    weights = attention_weights(asking, k, last[None, None], context.sliding_window)
    return weights.reshape(config.num_attention_heads, -1)

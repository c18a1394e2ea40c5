"""The transformer as pure functions, read top to bottom: Llama as in Touvron et al. 2023, arXiv:2302.13971 and
2307.09288, with grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245).

Axis letters: B batch, T tokens of this call, C cache length, D model width, H query heads, K key/value heads,
G query heads per KV head, E head dim, R = E/2 rotary pairs, F feed-forward width, V vocabulary, L layers.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray

from llama_core.model.attention import AttentionContext, attend, make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.kv_cache import KVCache, LayerCache, init_cache
from llama_core.model.linear import embed, linear, normed_product_of_one_row
from llama_core.model.params import Block, Params
from llama_core.model.quantization import Matrix
from llama_core.model.rope import precompute_freqs_cis
from llama_core.runtime.arrays import AnyArray


def add_bias(x: Float[Array, "B T *O"], bias: Float[Array, "*O"] | None) -> Float[Array, "B T *O"]:
    """x + bias where the model has one."""
    return x if bias is None else x + bias


def rms_norm(x: Float[Array, "*B D"], weight: Float[Array, "*G D"], eps: float) -> Float[Array, "*B D"]:
    """x / √(mean(x²) + eps) · weight, in float32 up to the weight. Zhang & Sennrich 2019, arXiv:1910.07467."""
    wide = x.astype(jnp.float32)
    normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return normed.astype(x.dtype) * weight


def normed_linear(
    x: Float[Array, "B T D"], norm: Float[Array, "D"], weight: Matrix, config: LlamaConfig, context: AttentionContext
) -> Float[Array, "B T ..."]:
    """rms_norm(x) Wᵀ. The scalar of the norm may as well come after the product; for one row a GPU then needs fewer
    kernels."""
    if context.form.scales_late and x.shape[0] * x.shape[1] == 1:
        return normed_product_of_one_row(x, norm, weight, config.rms_norm_eps)
    return linear(rms_norm(x, norm, config.rms_norm_eps), weight)


def apply_rotary_emb(x: Float[Array, "B T *N E"], freqs_cis: Complex[Array, "B T R"]) -> Float[Array, "B T *N E"]:
    """Turn each pair (x[i], x[i + E/2]) by its angle. Hub checkpoints pair the halves; Meta's own pair neighbours.

    As x·cos + (x with its halves swapped)·±sin: without a concatenation XLA makes one kernel of it on a GPU.
    """
    halves = x.astype(jnp.float32).reshape(*x.shape[:-1], 2, -1)
    angles = freqs_cis.reshape(*x.shape[:2], *(1,) * (x.ndim - 2), -1)
    signed_sin = angles.imag * jnp.array([[-1.0], [1.0]], jnp.float32)
    return (halves * angles.real + halves[..., ::-1, :] * signed_sin).reshape(x.shape).astype(x.dtype)


def queries_keys_values(
    block: Block, x: Float[Array, "B T D"], config: LlamaConfig, context: AttentionContext
) -> tuple[Float[Array, "B T H E"], Float[Array, "B T K E"], Float[Array, "B T K E"]]:
    """Norm, project to queries, keys and values, and turn queries and keys by their positions (RoPE)."""
    B, T, _ = x.shape
    K, G, E = config.num_key_value_heads, config.queries_per_kv_head, config.head_dim
    # Each key/value head has its G queries, its key and its value side by side.
    product = normed_linear(x, block.attention_norm, block.w_qkv, config, context)
    qkv = add_bias(product, block.qkv_bias).reshape(B, T, K, G + 2, E)
    qk, v = qkv[:, :, :, : G + 1], qkv[:, :, :, G + 1]
    if block.q_norm is not None and block.k_norm is not None:
        norms = jnp.concatenate([jnp.broadcast_to(block.q_norm, (G, E)), block.k_norm[None]])
        qk = rms_norm(qk, norms, config.rms_norm_eps)
    qk = apply_rotary_emb(qk, context.freqs_cis)
    return qk[:, :, :, :G].reshape(B, T, K * G, E), qk[:, :, :, G], v


def attention(
    block: Block, x: Float[Array, "B T D"], config: LlamaConfig, context: AttentionContext, cache: LayerCache | None
) -> tuple[Float[Array, "B T D"], LayerCache | None]:
    """Norm, project to queries, keys and values, attend, project back. Without a cache the tokens of this call see only
    one another."""
    q, k, v = queries_keys_values(block, x, config, context)
    mixed, cache = attend(q, k, v, context, cache)
    return add_bias(linear(mixed, block.wo), block.o_bias), cache


def feed_forward(
    block: Block, x: Float[Array, "B T D"], config: LlamaConfig, context: AttentionContext
) -> Float[Array, "B T D"]:
    """Norm, then SwiGLU: silu(x W_gate) · (x W_up), back through W_down. Shazeer 2020, arXiv:2002.05202."""
    gate_up = add_bias(normed_linear(x, block.ffn_norm, block.w_gate_up, config, context), block.gate_up_bias)
    activated = jax.nn.silu(gate_up[:, :, 0]) * gate_up[:, :, 1]
    return add_bias(linear(activated, block.w_down), block.down_bias)


def dropout(x: Float[Array, "B T D"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "B T D"]:
    """Zero a share `rate` of the values and scale up the rest. Without a key, as in serving, nothing is dropped.
    Srivastava et al. 2014."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0).astype(x.dtype)


def transformer_block(
    block: Block,
    x: Float[Array, "B T D"],
    config: LlamaConfig,
    context: AttentionContext,
    cache: LayerCache | None = None,
    dropout_rate: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "B T D"], LayerCache | None]:
    """Norm, attention, add; norm, feed-forward, add. With a `key` (in training) dropout before each addition."""
    attention_key, ffn_key = (None, None) if key is None else jax.random.split(key)
    mixed, cache = attention(block, x, config, context, cache)
    x = x + dropout(mixed, dropout_rate, attention_key)
    fed = feed_forward(block, x, config, context)
    return x + dropout(fed, dropout_rate, ffn_key), cache


def run_blocks(
    blocks: tuple[Block, ...],
    x: Float[Array, "B T D"],
    config: LlamaConfig,
    context: AttentionContext,
    sliding_windows: tuple[int | None, ...],
    layers: tuple[LayerCache | None, ...],
    dropout_rate: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "B T D"], tuple[LayerCache | None, ...]]:
    """These blocks one after the other, each with its sliding window and its layer of the cache."""
    keys = (None,) * len(blocks) if key is None else jax.random.split(key, len(blocks))
    written = []
    for block, window, layer, block_key in zip(blocks, sliding_windows, layers, keys, strict=True):
        x, layer = transformer_block(
            block, x, config, replace(context, sliding_window=window), layer, dropout_rate, block_key
        )
        written.append(layer)
    return x, tuple(written)


def hidden_states(
    params: Params,
    tokens: Int[AnyArray, "B T"],
    config: LlamaConfig,
    context: AttentionContext,
    cache: KVCache | None = None,
    dropout_rate: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "B T D"], KVCache | None]:
    """The last layer's output after the final norm, for every token of the call; `logits` takes rows of it."""
    L = len(params.blocks)
    sliding_windows = tuple(config.window_of(i) for i in range(L))
    layers: tuple[LayerCache | None, ...] = (None,) * L if cache is None else cache.layers
    x = embed(params.token_embedding, tokens)
    x, layers = run_blocks(params.blocks, x, config, context, sliding_windows, layers, dropout_rate, key)
    cache = None if cache is None else cache.with_layers(slice(None), tuple(filter(None, layers)))
    return rms_norm(x, params.norm, config.rms_norm_eps), cache


def logits(params: Params, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """The score of every token of the vocabulary, in float32. A tied head uses the embedding."""
    head = params.token_embedding if params.output is None else params.output
    return linear(hidden, head, jnp.float32)


def model_forward(
    params: Params,
    tokens: Int[AnyArray, "B T"],
    config: LlamaConfig,
    cache: KVCache | None = None,
    position: int | Int[Array, ""] | Int[Array, "B"] = 0,
    *,
    training: bool = False,
    dropout_rate: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "B T V"], KVCache | None]:
    """Logits for every token, in float32, and the cache to pass on with the next tokens at `position` + T.

    Without a cache one is made with room for at least twice these tokens; training makes none and returns None. The
    engine does not use this but `hidden_states` and `logits`, the head on the wanted rows only.

    Raises `ValueError` if the tokens do not fit the cache or dropout has no key.
    """
    B, T = tokens.shape
    if training and dropout_rate > 0.0 and key is None:
        raise ValueError("model_forward: dropout needs a key while training; pass key=jax.random.key(...)")
    if cache is None and not training:
        cache = init_cache(config, B, _roomy_length(T, config), params.dtype)
    length = T if cache is None else cache.length
    if isinstance(position, int) and position + T > length:
        raise ValueError(
            f"model_forward: positions {position} to {position + T - 1} do not fit a cache of {length}; use init_cache"
        )
    freqs_cis = jnp.asarray(precompute_freqs_cis(config, length))
    start = jnp.broadcast_to(jnp.asarray(position), (B,))
    context = make_attention_context(start, T, freqs_cis)
    hidden, cache = hidden_states(params, tokens, config, context, cache, dropout_rate, key if training else None)
    return logits(params, hidden), cache


def _roomy_length(T: int, config: LlamaConfig) -> int:
    doubled = max(256, 1 << (2 * T - 1).bit_length())
    return max(T, min(doubled, config.max_position_embeddings))

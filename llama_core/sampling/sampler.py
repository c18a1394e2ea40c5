"""How the next token is chosen: logits → distribution → token, on the device, every knob an array with an entry a row.

The one order of operations, that of transformers where it has the step: logit bias → repetition penalty → presence and
frequency penalties → temperature → top-k → top-p → min-p → draw. Temperature 0 takes the likeliest after the penalties.
Each cut is a threshold on the scaled logits, found without sorting; values equal to a threshold all survive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from llama_core.sampling.params import MAX_ALTERNATIVES, SamplingParams

AnyArray = Array | np.ndarray  # on the device or on the host


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DeviceSamplingParams:
    """What the device needs of the `SamplingParams` of B replies, one entry each: data, so that no change compiles."""

    temperature: Float[AnyArray, "B"]
    top_k: Int[AnyArray, "B"]
    top_p: Float[AnyArray, "B"]
    min_p: Float[AnyArray, "B"]
    repetition_penalty: Float[AnyArray, "B"]
    presence_penalty: Float[AnyArray, "B"]
    frequency_penalty: Float[AnyArray, "B"]
    seed: UInt32[AnyArray, "B"]
    is_adjusted: Bool[AnyArray, "B"]
    wants_alternatives: Bool[AnyArray, "B"]


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PenaltyState:
    """What penalties and bias look at: which tokens the prompt holds, how often the reply holds each, what is added."""

    in_prompt: Bool[AnyArray, "B V"]
    counts: Int[AnyArray, "B V"]
    bias: Float[AnyArray, "B V"]


def stack_sampling_params(replies: Sequence[SamplingParams]) -> DeviceSamplingParams:
    """The knobs of several replies as host arrays; a missing seed counts as 0."""

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([getattr(params, name) for params in replies], dtype)

    return DeviceSamplingParams(
        **{name: column(name, np.float32) for name in ("temperature", "top_p", "min_p", *PENALTIES)},
        top_k=column("top_k", np.int32),
        seed=np.array([params.seed or 0 for params in replies], np.uint32),
        is_adjusted=np.array(
            [
                bool(params.logit_bias) or any(getattr(params, name) != off for name, off in PENALTIES.items())
                for params in replies
            ]
        ),
        wants_alternatives=np.array([bool(params.logprobs) for params in replies]),
    )


# The penalties and the value at which each does nothing.
PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def make_penalty_state(
    params: SamplingParams, vocab_size: int, prompt_ids: Sequence[int] = (), reply_ids: Sequence[int] = ()
) -> PenaltyState:
    """The context of one reply as host arrays, B = 1."""
    in_prompt, bias = np.zeros((1, vocab_size), bool), np.zeros((1, vocab_size), np.float32)
    in_prompt[0, list(prompt_ids)] = True
    for token_id, number in params.logit_bias:
        bias[0, token_id] = number
    counts = np.bincount(np.array(reply_ids, np.int64), minlength=vocab_size)[None].astype(np.int32)
    return PenaltyState(in_prompt, counts, bias)


class SampledToken(NamedTuple):
    """One token a row; its log-probability as the model gave it and as it was drawn from; the same of the likeliest
    N = `MAX_ALTERNATIVES` tokens, which are zeros where no row wants them. Natural logarithms; -inf: cut away."""

    token: Int[Array, "B"]
    logprob: Float[Array, "B"]
    final_logprob: Float[Array, "B"]
    top: Int[Array, "B N"]
    top_logprob: Float[Array, "B N"]
    top_final_logprob: Float[Array, "B N"]


def sample(
    logits: Float[Array, "B V"], knobs: DeviceSamplingParams, context: PenaltyState, positions: Int[Array, "B"]
) -> SampledToken:
    """One token a row. The draw depends on the row's own logits, knobs, context and position, whatever the others
    are: its key is folded from (seed, position)."""
    adjusted = jax.lax.cond(
        jnp.any(knobs.is_adjusted), lambda: adjust(logits, knobs, context), lambda: logits.astype(jnp.float32)
    )
    greedy = jnp.argmax(adjusted, axis=-1).astype(jnp.int32)

    def drawn():
        keys = jax.vmap(jax.random.fold_in)(jax.vmap(jax.random.key)(knobs.seed), positions)
        shares = distribution(adjusted, knobs)
        token = draw(shares, jax.vmap(jax.random.uniform)(keys))
        return jnp.where(knobs.temperature > 0, token, greedy), shares

    def certain():
        return greedy, jax.nn.one_hot(greedy, logits.shape[-1])

    token, shares = jax.lax.cond(jnp.any(knobs.temperature > 0), drawn, certain)
    total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    top = _alternatives(logits, knobs)

    def both(ids):  # [B, n]: as the model gave them, and after the cuts
        pick = lambda values: jnp.take_along_axis(values, ids, axis=-1)  # noqa: E731
        return pick(logits) - total, jnp.log(pick(shares))

    (logprob, final_logprob), (top_logprob, top_final_logprob) = both(token[:, None]), both(top)
    return SampledToken(token, logprob[:, 0], final_logprob[:, 0], top, top_logprob, top_final_logprob)


def _alternatives(logits: Float[Array, "B V"], knobs: DeviceSamplingParams) -> Int[Array, "B N"]:
    """The ids of the likeliest tokens of each row, if any row wants them. A small vocabulary is filled up with id 0."""
    count = min(MAX_ALTERNATIVES, logits.shape[-1])

    def find():
        return jnp.pad(jax.lax.top_k(logits, count)[1], ((0, 0), (0, MAX_ALTERNATIVES - count))).astype(jnp.int32)

    def skip():
        return jnp.zeros((logits.shape[0], MAX_ALTERNATIVES), jnp.int32)

    return jax.lax.cond(jnp.any(knobs.wants_alternatives), find, skip)


def adjust(logits: Float[Array, "B V"], knobs: DeviceSamplingParams, context: PenaltyState) -> Float[Array, "B V"]:
    """Logits after bias and penalties. The repetition penalty (Keskar et al. 2019, arXiv:1909.05858) looks at prompt
    and reply; presence and frequency, as in OpenAI's API, at the reply alone."""
    biased = logits.astype(jnp.float32) + context.bias
    penalty = knobs.repetition_penalty[:, None]
    repeats = context.in_prompt | (context.counts > 0)
    scores = jnp.where(repeats, jnp.where(biased > 0, biased / penalty, biased * penalty), biased)
    once = knobs.presence_penalty[:, None] * (context.counts > 0)
    return scores - once - knobs.frequency_penalty[:, None] * context.counts


def distribution(logits: Float[Array, "B V"], knobs: DeviceSamplingParams) -> Float[Array, "B V"]:
    """Probabilities after temperature and cuts; at temperature 0 all on the likeliest token (the first of equals)."""
    is_greedy = (knobs.temperature == 0)[:, None]
    centred = logits - jnp.max(logits, axis=-1, keepdims=True)  # before the division: nothing can overflow
    scaled = centred / jnp.where(is_greedy, 1.0, knobs.temperature[:, None])
    weights = jnp.exp(scaled)
    weights = _cut(weights, jnp.any(knobs.top_k > 0), lambda w: _top_k(w, knobs.top_k))
    weights = _cut(weights, jnp.any(knobs.top_p < 1), lambda w: _top_p(w, knobs.top_p))
    weights = jnp.where(scaled >= jnp.log(knobs.min_p)[:, None], weights, 0.0)
    probabilities = weights / jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.where(is_greedy, jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1]), probabilities)


@jax.jit
def _adjusted_distribution(
    logits: Float[Array, "B V"], knobs: DeviceSamplingParams, context: PenaltyState
) -> Float[Array, "B V"]:
    return distribution(adjust(logits, knobs, context), knobs)


def next_token_distribution(
    logits: Float[AnyArray, "V"], params: SamplingParams, context_ids: Sequence[int] = (), prompt_tokens: int = 0
) -> Float[Array, "V"]:
    """The probabilities from which the next token is drawn. `context_ids` are the tokens so far, for the penalties; the
    first `prompt_tokens` of them are the prompt, at which presence and frequency penalties do not look."""
    context_ids = [int(token_id) for token_id in context_ids]
    context = make_penalty_state(params, len(logits), context_ids[:prompt_tokens], context_ids[prompt_tokens:])
    return _adjusted_distribution(jnp.asarray(logits)[None], stack_sampling_params([params]), context)[0]


def _cut(weights: Float[Array, "B V"], wanted: Bool[Array, ""], threshold) -> Float[Array, "B V"]:
    """Zero what lies below the threshold of its row; a cut that no row wants costs nothing."""
    return jax.lax.cond(wanted, lambda w: jnp.where(w >= threshold(w)[:, None], w, 0.0), lambda w: w, weights)


def _top_k(weights: Float[Array, "B V"], top_k: Int[Array, "B"]) -> Float[Array, "B"]:
    """The k-th largest weight of each row; 0 where k is 0."""
    found = _largest_where(weights, lambda above: jnp.sum(above, axis=-1) >= top_k)
    return jnp.where(top_k > 0, found, 0.0)


def _top_p(weights: Float[Array, "B V"], top_p: Float[Array, "B"]) -> Float[Array, "B"]:
    """The weight of the last token of the smallest set that reaches the share p; 0 where p is 1, the largest at p 0."""
    wanted = jnp.maximum(top_p * jnp.sum(weights, axis=-1), jnp.finfo(jnp.float32).tiny)
    found = _largest_where(weights, lambda above: jnp.sum(weights * above, axis=-1) >= wanted)
    return jnp.where(top_p < 1, found, 0.0)


def _largest_where(weights: Float[Array, "B V"], holds) -> Float[Array, "B"]:
    """The largest float t of each row for which `holds(weights >= t)`: true at 0, false from some t on.

    Weights are at least 0, where floats keep their order when their bits are read as integers: t is built bit by bit
    from the top, one reduction a bit (vllm-project/tpu-inference, layers/common/binary_search.py).
    """
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)

    def add_bit(i, t):
        candidate = t | (jnp.int32(1) << (30 - i))
        return jnp.where(holds(bits >= candidate[:, None]), candidate, t)

    t = jax.lax.fori_loop(0, 31, add_bit, jnp.zeros(weights.shape[0], jnp.int32))
    return jax.lax.bitcast_convert_type(t, jnp.float32)


DRAW_BLOCK = 256


def draw(probabilities: Float[Array, "B V"], uniforms: Float[Array, "B"]) -> Int[Array, "B"]:
    """The token in whose share of [0, 1) the row's uniform number falls; never one of probability 0.

    In two steps, a block of tokens and then one in it: one number a row, not one a token as with Gumbel noise.
    """
    padded = jnp.pad(probabilities, ((0, 0), (0, -probabilities.shape[1] % DRAW_BLOCK)))
    blocks = padded.reshape(padded.shape[0], -1, DRAW_BLOCK)
    sums = jnp.sum(blocks, axis=-1)
    block, rest = _pick(sums, uniforms * jnp.sum(sums, axis=-1))
    chosen = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * DRAW_BLOCK + _pick(chosen, rest)[0]


def _pick(shares: Float[Array, "B N"], target: Float[Array, "B"]) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """The first entry at which the running sum exceeds `target`, and how far into the entry that is.

    An entry of 0 is never picked, even where rounding makes running sums uneven or never reach the target.
    """
    running = jnp.cumsum(shares, axis=-1)
    within = (running > target[:, None]) & (shares > 0)
    picked = jnp.where(jnp.any(within, axis=-1), jnp.argmax(within, axis=-1), jnp.argmax(shares, axis=-1))
    before = jnp.take_along_axis(running - shares, picked[:, None], axis=-1)[:, 0]
    return picked.astype(jnp.int32), target - before

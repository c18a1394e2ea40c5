"""How the next token is chosen: `SamplingParams`, and logits → distribution → token on the device.

The order of operations is that of transformers: temperature → top-k → top-p → min-p → draw. Temperature 0 is greedy.
Each cut is a threshold on the scaled logits, found without sorting; values equal to a threshold all survive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32


@dataclass(frozen=True)
class Knob:
    """How a field of `SamplingParams` is shown and bounded. The page offers `minimum` to `maximum` in steps of `step`;
    values up to `limit` are accepted."""

    label: str
    help: str
    minimum: float
    maximum: float
    step: float
    limit: float
    default: float = 0


def _knob(default: float, label: str, help: str, minimum: float, maximum: float, step: float, limit: float) -> Any:
    return field(default=default, metadata={"knob": Knob(label, help, minimum, maximum, step, limit, default)})


@dataclass(frozen=True)
class SamplingParams:
    """How one reply is sampled and when it ends. Raises `ValueError`, naming the knob, for values out of range.

    `seed` None draws a new one. `stop` are strings that end the reply and are not part of it (chat.py).
    `ignore_eos` goes on after an end-of-text token.
    """

    temperature: float = _knob(
        0.7, "Temperature", "Flattens (high) or sharpens (low) the choice. 0 always takes the likeliest token.",
        0.0, 2.0, 0.05, limit=100.0,
    )
    top_k: int = _knob(
        0, "Top-k", "Only the k likeliest tokens may be chosen. 0 switches this off.", 0, 200, 1, limit=2**31 - 1
    )
    top_p: float = _knob(
        1.0, "Top-p", "Only the likeliest tokens that together reach this share may be chosen. 1 switches this off.",
        0.0, 1.0, 0.01, limit=1.0,
    )
    min_p: float = _knob(
        0.0, "Min-p", "Only tokens at least this share as likely as the likeliest may be chosen. 0 switches this off.",
        0.0, 1.0, 0.01, limit=1.0,
    )
    max_new_tokens: int = _knob(
        256, "Max tokens", "The reply ends after this many tokens.", 1, 2048, 1, limit=2**31 - 1
    )
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self):
        for name, knob in self.knobs().items():
            _require_number(name, getattr(self, name), knob)
        if self.seed is not None and (not _is_whole(self.seed) or not 0 <= self.seed < 2**32):
            raise ValueError(f"seed is {self.seed!r}; expected a whole number from 0 to {2**32 - 1}, or None")
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise ValueError(f"stop is {self.stop!r}; expected a tuple of texts that are not empty")

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """The numeric fields by name: label, help, range and default, for the page, the API and the docs."""
        return {row.name: row.metadata["knob"] for row in fields(cls) if row.metadata}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_number(name: str, value: Any, knob: Knob) -> None:
    whole = isinstance(knob.default, int)
    right_kind = _is_whole(value) or (not whole and isinstance(value, float) and math.isfinite(value))
    if not right_kind or not knob.minimum <= value <= knob.limit:
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name} is {value!r}; expected a {kind} from {knob.minimum} to {knob.limit}")


AnyArray = Array | np.ndarray  # on the device or on the host


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Knobs:
    """What the device needs of the `SamplingParams` of B replies, one entry each: data, so that no change compiles."""

    temperature: Float[AnyArray, "B"]
    top_k: Int[AnyArray, "B"]
    top_p: Float[AnyArray, "B"]
    min_p: Float[AnyArray, "B"]
    seed: UInt32[AnyArray, "B"]


def stack_knobs(replies: Sequence[SamplingParams]) -> Knobs:
    """The knobs of several replies as host arrays; a missing seed counts as 0."""
    return Knobs(
        temperature=np.array([params.temperature for params in replies], np.float32),
        top_k=np.array([params.top_k for params in replies], np.int32),
        top_p=np.array([params.top_p for params in replies], np.float32),
        min_p=np.array([params.min_p for params in replies], np.float32),
        seed=np.array([params.seed or 0 for params in replies], np.uint32),
    )


def sample(logits: Float[Array, "B V"], knobs: Knobs, positions: Int[Array, "B"]) -> Int[Array, "B"]:
    """One token a row. The draw depends on the row's own logits, knobs and position, whatever the other rows are."""
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def drawn():
        keys = jax.vmap(jax.random.fold_in)(jax.vmap(jax.random.key)(knobs.seed), positions)
        uniforms = jax.vmap(jax.random.uniform)(keys)
        return jnp.where(knobs.temperature > 0, draw(distribution(logits, knobs), uniforms), greedy)

    return jax.lax.cond(jnp.any(knobs.temperature > 0), drawn, lambda: greedy)


def distribution(logits: Float[Array, "B V"], knobs: Knobs) -> Float[Array, "B V"]:
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


_compiled_distribution = jax.jit(distribution)


def next_token_distribution(
    logits: Float[AnyArray, "V"], params: SamplingParams, context_ids: Sequence[int] = ()
) -> Float[Array, "V"]:
    """The probabilities from which the next token is drawn. `context_ids` are the tokens so far; no knob asks for them
    yet."""
    return _compiled_distribution(jnp.asarray(logits)[None], stack_knobs([params]))[0]


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

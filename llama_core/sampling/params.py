"""`SamplingParams`: how one reply is sampled and when it ends, as one table that feeds page, API, docs and tests."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from llama_core.errors import UserError
from llama_core.model.checks import quote_value

MAX_ALTERNATIVES = 20
# End-of-text tokens of the model included, of which there may be `MAX_END_TOKENS`: the others are left to requests.
MAX_STOP_TOKENS, MAX_END_TOKENS = 64, 32


@dataclass(frozen=True)
class SamplingField:
    """How a numeric field of `SamplingParams` is shown and bounded. The page offers `minimum` to `maximum` in steps of
    `step`; values up to `limit` are accepted."""

    label: str
    help: str
    minimum: float
    maximum: float
    step: float
    limit: float
    default: float = 0


def _knob(default: float, label: str, help: str, minimum: float, maximum: float, step: float, limit: float) -> Any:
    return field(default=default, metadata={"knob": SamplingField(label, help, minimum, maximum, step, limit, default)})


@dataclass(frozen=True)
class SamplingParams:
    """How one reply is sampled and when it ends. Raises `UserError`, naming the field, for values out of range.

    The numeric fields act in the order that sampler.py gives. `seed` None draws a new seed. `stop` are stop sequences:
    strings that end the reply and are not part of it. `stop_token_ids` end it as the model's own end-of-text tokens do,
    which `ignore_eos` ignores. `logit_bias` are pairs of token id and number (or a mapping). `logprobs` asks for the
    log-probability of each token and of so many alternatives.
    """

    temperature: float = _knob(
        0.7, "Temperature", "Higher is more random. 0 always picks the likeliest token.", 0.0, 2.0, 0.05, limit=100.0
    )
    top_k: int = _knob(0, "Top-k", "Keeps the k likeliest tokens. 0 is off.", 0, 200, 1, limit=2**31 - 1)
    top_p: float = _knob(
        1.0, "Top-p", "Keeps the likeliest tokens that together reach this share. 1 is off.", 0.0, 1.0, 0.01, limit=1.0
    )
    min_p: float = _knob(
        0.0,
        "Min-p",
        "Drops tokens less likely than this fraction of the likeliest. 0 is off.",
        0.0,
        1.0,
        0.01,
        limit=1.0,
    )
    repetition_penalty: float = _knob(
        1.0,
        "Repetition penalty",
        "Divides the score of every token that the text holds already. 1 is off.",
        0.5,
        2.0,
        0.05,
        limit=10.0,
    )
    presence_penalty: float = _knob(
        0.0,
        "Presence penalty",
        "Taken off the score of every token that the reply holds already.",
        -2.0,
        2.0,
        0.1,
        limit=2.0,
    )
    frequency_penalty: float = _knob(
        0.0,
        "Frequency penalty",
        "Taken off a token's score once for each time that the reply holds it.",
        -2.0,
        2.0,
        0.1,
        limit=2.0,
    )
    max_new_tokens: int = _knob(
        256, "Max tokens", "The reply ends after this many tokens.", 1, 2048, 1, limit=2**31 - 1
    )
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logit_bias: tuple[tuple[int, float], ...] | Mapping[int, float] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, row in self.knobs().items():
            _require_number(name, getattr(self, name), row)
        object.__setattr__(self, "logit_bias", self.bias_pairs)
        if self.seed is not None and not _is_whole(self.seed, 0, 2**32 - 1):
            raise UserError(f"seed is {self.seed!r}; expected a whole number from 0 to {2**32 - 1}, or None")
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise UserError(f"stop is {self.stop!r}; expected a tuple of texts that are not empty")
        if not isinstance(self.stop_token_ids, tuple) or not all(_is_whole(number) for number in self.stop_token_ids):
            raise UserError(f"stop_token_ids is {self.stop_token_ids!r}; expected a tuple of token ids")
        if self.logprobs is not None and not _is_whole(self.logprobs, 0, MAX_ALTERNATIVES):
            raise UserError(f"logprobs is {self.logprobs!r}; expected a number from 0 to {MAX_ALTERNATIVES}, or None")
        if not all(_is_whole(token_id) and _is_finite(bias) for token_id, bias in self.bias_pairs):
            raise UserError(f"logit_bias is {self.logit_bias!r}; expected pairs of a token id and a finite number")

    @property
    def bias_pairs(self) -> tuple[tuple[int, float], ...]:
        """`logit_bias` as pairs, however it was given."""
        return tuple(self.logit_bias.items()) if isinstance(self.logit_bias, Mapping) else self.logit_bias

    @classmethod
    def knobs(cls) -> dict[str, SamplingField]:
        """The numeric fields by name: label, help, range and default, for the page, the API and the docs."""
        return {row.name: row.metadata["knob"] for row in fields(cls) if row.metadata}


def _is_whole(value: Any, minimum: int = 0, maximum: int = 2**31 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum


def _is_finite(value: Any) -> bool:
    largest = sys.float_info.max  # compared, because math.isfinite cannot take a whole number of 400 digits
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -largest <= value <= largest


def _require_number(name: str, value: Any, row: SamplingField) -> None:
    whole = isinstance(row.default, int)
    right_kind = isinstance(value, int) and not isinstance(value, bool) if whole else _is_finite(value)
    if not right_kind or not row.minimum <= value <= row.limit:
        kind = "whole number" if whole else "number"
        raise UserError(f"{name} is {quote_value(value)}; expected a {kind} from {row.minimum} to {row.limit}")

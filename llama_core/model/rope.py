"""Rotary angles. Each kind of scaling for long contexts is a row of `ROPE_FREQUENCIES`; all are computed as in
transformers (modeling_rope_utils.py), in float64.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Complex, Float

from llama_core.model.config import LlamaConfig

Frequencies = Float[np.ndarray, "R"] | Float[np.ndarray, "C R"]  # for all positions, or one row per position


def _plain(config: LlamaConfig) -> Float[np.ndarray, "R"]:
    """Frequency i is theta^(−2i/E). Su et al. 2021, arXiv:2104.09864."""
    return config.rope_theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)


def _default(config: LlamaConfig, length: int) -> Frequencies:
    return _plain(config)


def _linear(config: LlamaConfig, length: int) -> Frequencies:
    """Positions are squeezed by `factor`. Chen et al. 2023, arXiv:2306.15595."""
    return _plain(config) / config.rope_scaling.factor


def _dynamic(config: LlamaConfig, length: int) -> Frequencies:
    """NTK-aware: past the trained length theta grows with the sequence.

    transformers takes the length of the sequence so far, which changes with every token; here position p takes p + 1.
    The two are equal up to the trained length, and past it for what is decoded token by token (keys in a cache keep
    the angle that they were written with). A prompt that is itself longer is turned by its whole length there.
    """
    E, factor, trained = config.head_dim, config.rope_scaling.factor, config.max_position_embeddings
    growth = factor * np.maximum(np.arange(1, length + 1), trained) / trained - (factor - 1)
    theta = config.rope_theta * growth ** (E / (E - 2))
    return theta[:, None] ** (-np.arange(0, E, 2, dtype=np.float64) / E)


def _yarn(config: LlamaConfig, length: int) -> Frequencies:
    """Slow rotations are squeezed, fast ones kept, with a ramp between. Peng et al. 2023, arXiv:2309.00071."""
    E, scaling = config.head_dim, config.rope_scaling

    def pair_that_turns(times: float) -> float:
        turns = scaling.original_max_position_embeddings / (times * 2 * math.pi)
        return E * math.log(turns) / (2 * math.log(config.rope_theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, E - 1)
    width = high - low or 0.001
    squeezed = np.clip((np.arange(E // 2) - low) / width, 0.0, 1.0)
    return _plain(config) * (1 - squeezed + squeezed / scaling.factor)


def _llama3(config: LlamaConfig, length: int) -> Frequencies:
    """Llama 3.1: slow rotations are squeezed by `factor`, fast ones kept, those between blended
    (meta-llama/llama-models, models/llama3/model.py; the factor is 8 in 3.1 and 32 in 3.2)."""
    frequencies, scaling = _plain(config), config.rope_scaling
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    return frequencies * (blend + (1 - blend) / scaling.factor)


ROPE_FREQUENCIES: dict[str, Callable[[LlamaConfig, int], Frequencies]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
}


def attention_factor(config: LlamaConfig) -> float:
    """The factor of queries and keys. Only YaRN has one: it makes attention over long contexts sharper."""
    scaling = config.rope_scaling
    if scaling.rope_type != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return grown(scaling.mscale) / grown(scaling.mscale_all_dim)
    return grown(1.0)


@functools.lru_cache(maxsize=8)
def precompute_freqs_cis(config: LlamaConfig, length: int) -> Complex[np.ndarray, "C R"]:
    """cos + i·sin of every rotary angle, position × frequency, times `attention_factor`. Computed in float64, once per
    model and length."""
    frequencies = ROPE_FREQUENCIES[config.rope_scaling.rope_type](config, length)
    angles = np.arange(length)[:, None] * frequencies
    return (attention_factor(config) * np.exp(1j * angles)).astype(np.complex64)

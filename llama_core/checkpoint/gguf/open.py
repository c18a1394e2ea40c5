"""The GGUF files of a model, opened: its configuration before they are whole, and everything once they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from llama_core.checkpoint.gguf.config import gguf_config, with_rope_factors
from llama_core.checkpoint.gguf.header import Header, Value
from llama_core.checkpoint.gguf.tensors import GgufTensor, find_gguf_tensors, read_rope_factors, small_bytes, small_form
from llama_core.checkpoint.layout import CheckpointError
from llama_core.checkpoint.weights.forms import rounding_of
from llama_core.model.config import LlamaConfig


@dataclass(frozen=True)
class OpenedGguf:
    """A model in GGUF files: its configuration (without ends of a reply, which the tokenizer knows), where its tensors
    lie, and the metadata."""

    config: LlamaConfig
    tensors: dict[str, GgufTensor]
    metadata: dict[str, Value]


def gguf_weight_bytes(headers: Sequence[Header], dtype: str, quantize: str) -> int:
    """How many bytes the weights take in memory, from the headers alone, in the forms of `weights/forms.py`. (A
    little more where the rows of q, k and v, which are one array, are in different formats.)"""
    total = 0
    for info in (info for header in headers for info in header.tensors):
        rounding = None if len(info.shape) == 1 else rounding_of(small_form(info.kind), dtype, quantize)
        if rounding is None:
            total += math.prod(info.shape) * jnp.dtype(dtype).itemsize
        else:
            total += small_bytes(info.shape, info.kind, rounding)
    return total


def open_gguf(headers: Sequence[Header]) -> OpenedGguf:
    """A model whose files are here. Raises `CheckpointError`, `ConfigError`."""
    config = read_gguf_config(headers)
    factors = read_rope_factors(headers)
    if factors is not None:
        config = with_rope_factors(config, factors, headers[0].file.name)
    return OpenedGguf(config, find_gguf_tensors(headers, config), headers[0].metadata)


def read_gguf_config(headers: Sequence[Header]) -> LlamaConfig:
    """The configuration of a model of which no more than the headers need be here: its shape is known, its rotary
    scaling may not be.

    Raises `CheckpointError`, `ConfigError`.
    """
    for number, header in enumerate(headers):
        parts = header.metadata.get("split.count", 1)
        if parts != len(headers) or header.metadata.get("split.no", 0) != number:
            raise CheckpointError(
                f"{header.file.name} is part {header.metadata.get('split.no', 0)} of {parts} by its metadata, expected "
                f"part {number} of {len(headers)}; keep the name that the file had, beside the other parts"
            )
    return gguf_config(headers[0], frozenset(info.name for header in headers for info in header.tensors))

"""Which form each weight takes in memory, how many bytes that are, and reading it so.

Rounding "auto" rounds nothing that is finer than 8 bits: a matrix that is bfloat16 or blocks of small numbers in its
file stays that, and is read as it is by native kernels. Everything else is in the number format of the model.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llama_core.checkpoint.memory_plan import AUTO, NONE
from llama_core.checkpoint.read_tensors import StoredTensor, read_tensors
from llama_core.kernels import NATIVE, OFF, can_have_kernels, prepare_kernels
from llama_core.model.config import LlamaConfig
from llama_core.model.mesh.sharding import place
from llama_core.model.parameter_table import Parameter, Placement
from llama_core.model.params import Params, build_params, params_bytes, placements
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix, stack_rows

# Bytes of a model in float32. Smaller ones stay in the processor's cache, where reading them is not what takes time,
# and nobody who tries one waits for kernels to be compiled.
LARGE_MODEL = 100_000_000

# What is small in a file, and the rounding that changes nothing in it. Blocks that have no exact form have fewer than 8
# bits; they become 8.
KEEPING = {"bfloat16": "bf16", "blocks": "q8"}

Progress = Callable[[int, int], None]


def resolve_quantize(quantize: str, config: LlamaConfig, kernels: str = AUTO) -> str:
    """What `quantize` is likely to come to, as far as that can be told before weights are there: NONE for "auto" on a
    GPU, where there can be no native kernels, and for a small model."""
    keeps = _may_keep(config, kernels) and can_have_kernels()
    return NONE if quantize == AUTO and not keeps else quantize


def prepare(
    config: LlamaConfig,
    tensors: Mapping[str, StoredTensor],
    dtype: str,
    quantize: str,
    kernels: str,
    progress: Progress | None = None,
) -> tuple[str, list[str]]:
    """Get native kernels if weights of these tensors are to be small. What `quantize` comes to (NONE where "auto" keeps
    nothing small), and a note if there are no kernels. Raises `KernelError`."""
    matrices = [stored for stored in tensors.values() if len(stored.shape) > 1]
    has_small = any(rounding_of(stored.small_form, dtype, AUTO) for stored in matrices)
    if quantize == AUTO and not (has_small and _may_keep(config, kernels)):
        quantize = NONE
    if quantize == NONE and dtype != "bfloat16":
        return quantize, []
    note = prepare_kernels(kernels, progress)
    return NONE if quantize == AUTO and not NATIVE.ready else quantize, [] if note is None else [note]


def _may_keep(config: LlamaConfig, kernels: str) -> bool:
    return kernels != OFF and params_bytes(config) >= LARGE_MODEL


def weight_bytes(config: LlamaConfig, tensors: Mapping[str, StoredTensor], dtype: str, quantize: str) -> int:
    """How many bytes the weights of these tensors take in memory. (A little more where the rows of q, k and v, which
    are one array, are blocks of different formats.)"""
    total = 0
    for placement in placements(config):
        stored = [tensors[name] for name in placement.tensors]
        rounding = _rounding(placement.row, stored, dtype, quantize)
        if rounding is None:
            total += math.prod(placement.shape) * jnp.dtype(dtype).itemsize
        else:
            total += sum(one.small_bytes(rounding) for one in stored)
    return total


def read_params(
    config: LlamaConfig,
    tensors: Mapping[str, StoredTensor],
    dtype: str,
    quantize: str,
    progress: Progress | None,
    devices: int = 1,
) -> Params:
    """All weights of a model, from where its tensors lie, cut over so many devices: only one array at a time is whole,
    on the host. Raises `ModelFileError`, and `MeshError` for what cannot be cut."""
    done = 0

    def read(placement: Placement) -> jax.Array | QuantizedMatrix:
        nonlocal done
        stored = [tensors[name] for name in placement.tensors]
        rounding = _rounding(placement.row, stored, dtype, quantize)
        if rounding is None:
            weight: Any = read_tensors(stored, dtype, placement.groups).reshape(placement.shape)
        else:
            weight = placement.stack_quantized([_read_small(one, dtype, rounding) for one in stored])
        weight = jax.block_until_ready(place(placement, weight, devices))
        done += len(stored)
        if progress is not None:
            progress(done, len(tensors))
        return weight

    return build_params(config, read)


def rounding_of(small_form: str, dtype: str, quantize: str) -> str | None:
    """The row of `ROUNDINGS` by which a matrix that has this form in its file becomes small; None if it is to be in
    `dtype`."""
    if quantize == AUTO:
        return None if small_form == dtype else KEEPING.get(small_form)
    return quantize if quantize in ROUNDINGS else None


def _rounding(row: Parameter, stored: Sequence[StoredTensor], dtype: str, quantize: str) -> str | None:
    """The row of `ROUNDINGS` by which an array of these tensors becomes small; None if it does not. With "auto" tensors
    of one array have to have the same form."""
    found = {rounding_of(one.small_form, dtype, quantize) for one in stored}
    return found.pop() if row.may_be_quantized and len(found) == 1 else None


def _read_small(stored: StoredTensor, dtype: str, rounding: str) -> QuantizedMatrix:
    """A matrix as small numbers, a few rows at a time: it is never in memory as floating-point numbers."""
    parts = [rows.read_small(rounding) for rows in stored.row_ranges()]
    return dataclasses.replace(stack_rows(parts, 1, stored.shape), dtype=dtype)

"""Tensors in safetensors files: where each one lies, and one by one into memory, checked on the way."""

import dataclasses
import itertools
import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from llama_core.runtime.files import ModelFileError, check_file

# Number formats of safetensors headers that weights may have.
FORMATS = {"F32": np.dtype("float32"), "BF16": np.dtype(jnp.bfloat16), "F16": np.dtype("float16")}
STEP = 1 << 19  # numbers that are read, checked and converted at once: they stay in the processor's cache
ALIGNMENT = 64  # JAX takes memory that begins at such an address as it is, on a CPU


@dataclasses.dataclass(frozen=True)
class Stored:
    """One tensor of a file: its number format as the header calls it, and the byte at which it begins."""

    path: Path
    name: str
    shape: tuple[int, ...]
    format: str
    start: int


def stored_tensors(path: Path) -> Iterator[Stored]:
    """All tensors of a file, from its header. Raises `ModelFileError` if it is damaged."""
    check_file(path)
    try:
        with safetensors.safe_open(path, framework="np"):  # checks that formats, shapes and places fit the file
            pass
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for name, row in header.items():
            yield Stored(path, name, tuple(row["shape"]), row["dtype"], 8 + size + row["data_offsets"][0])
    except (safetensors.SafetensorError, ValueError, KeyError, RecursionError) as problem:
        words = " ".join(str(problem).split())[:200]
        raise ModelFileError(f"{path} is damaged or incomplete ({words}); download it again") from None


def read_tensors(several: Sequence[Stored], dtype: str, groups: int = 1) -> np.ndarray:
    """These tensors on top of one another in `dtype`, in memory that JAX can take over without a copy. The rows of each
    are divided evenly among `groups`; a group holds its rows of the first tensor, then those of the second, and so on.

    Nothing is read twice or kept: peak memory is the result. Raises `ModelFileError` for a file that ends early and
    for NaN and infinity.
    """
    sizes = [math.prod(stored.shape) for stored in several]
    out, start = _aligned(sum(sizes), np.dtype(dtype)).reshape(groups, -1), 0
    for stored, size in zip(several, sizes, strict=True):
        end = start + size // groups
        _read_into(out[:, start:end], stored)
        start = end
    return out.reshape(-1, *several[0].shape[1:])


def _read_into(groups: np.ndarray, stored: Stored) -> None:
    """Read a tensor into the rows of `groups`, one after the other."""
    kind = FORMATS[stored.format]
    buffer = np.empty(STEP, kind)
    with stored.path.open("rb", buffering=0) as file:
        file.seek(stored.start)
        for group, start in itertools.product(groups, range(0, groups.shape[1], STEP)):
            place = group[start : start + STEP]
            piece = place if place.dtype == kind else buffer[: place.size]
            if file.readinto(piece.view(np.uint8)) != piece.nbytes:
                raise ModelFileError(f"{stored.path} ends within tensor {stored.name}; download it again")
            if not _is_finite(piece):
                raise ModelFileError(
                    f"{stored.path.name}: tensor {stored.name} holds NaN or infinity; download it again, or choose "
                    "another model"
                )
            if piece is not place:
                _convert(piece, place, stored)


def _convert(piece: np.ndarray, place: np.ndarray, stored: Stored) -> None:
    with np.errstate(over="ignore"):
        place[:] = piece
    if not _is_finite(place):
        raise ModelFileError(
            f"{stored.path.name}: tensor {stored.name} holds numbers too large for {place.dtype}; choose another dtype"
        )


def _aligned(size: int, dtype: np.dtype) -> np.ndarray:
    memory = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype)


def _is_finite(numbers: np.ndarray) -> bool:
    """NaN and infinity have the largest bit patterns of each sign, so two searches for a maximum find them, many times
    faster than arithmetic and without a copy."""
    width = numbers.dtype.itemsize
    limits = ((np.array(sign * np.inf, numbers.dtype), f"{kind}{width}") for sign, kind in ((1, "i"), (-1, "u")))
    return all(numbers.view(kind).max() < limit.view(kind) for limit, kind in limits)

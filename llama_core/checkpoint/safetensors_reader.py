"""Safetensors files: where each tensor lies (`stored_tensors`), and tensors into memory, checked for NaN and infinity
(`read_tensors`).

Format: huggingface/safetensors, README, "Format".
"""

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

# The number formats, by their names in safetensors headers, in which weights may be stored.
FORMATS = {
    "F32": np.dtype("float32"),
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype("float16"),
    "F64": np.dtype("float64"),
}
STEP = 1 << 19  # numbers that are read, checked and converted at once; so many stay in the processor's cache
ALIGNMENT = 64  # bytes; on a CPU, JAX uses memory that is aligned so without copying it


@dataclasses.dataclass(frozen=True)
class Stored:
    """One tensor of a file: its number format as the header calls it, the byte of the file at which it starts and its
    size in bytes."""

    path: Path
    name: str
    shape: tuple[int, ...]
    format: str
    start: int
    size: int


def stored_tensors(path: Path) -> Iterator[Stored]:
    """All tensors of a file, from its header. Raises `ModelFileError` if the file is damaged."""
    check_file(path)
    try:
        with safetensors.safe_open(path, framework="np"):  # checks that formats, shapes and offsets fit the file
            pass
        with path.open("rb") as file:
            header_size = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(header_size))
        header.pop("__metadata__", None)
        for name, row in header.items():
            start, end = row["data_offsets"]
            yield Stored(path, name, tuple(row["shape"]), row["dtype"], 8 + header_size + start, end - start)
    except (safetensors.SafetensorError, ValueError, KeyError, RecursionError) as problem:
        words = " ".join(str(problem).split())[:200]
        raise ModelFileError(f"{path} is damaged or incomplete ({words}); download it again") from None


def read_tensors(several: Sequence[Stored], dtype: str, groups: int = 1) -> np.ndarray:
    """These tensors stacked along their first axis, in `dtype`, in memory that JAX can take over without a copy.

    With several `groups`, each group holds an equal share of the rows of the first tensor, then of the second, and so
    on: q|k|v grouped by key/value head.

    They are read piece by piece, so peak memory is hardly more than the result. Raises `ModelFileError` for a file that
    ends early, for NaN and infinity, and for numbers that are too large for `dtype`.
    """
    sizes = [math.prod(stored.shape) for stored in several]
    out, start = _aligned(sum(sizes), np.dtype(dtype)).reshape(groups, -1), 0
    for stored, size in zip(several, sizes, strict=True):
        end = start + size // groups
        _read_into(out[:, start:end], stored)
        start = end
    return out.reshape(-1, *several[0].shape[1:])


def row_ranges(stored: Stored) -> Iterator[Stored]:
    """A matrix in pieces of whole rows, each about as large as what is read at once."""
    rows, columns = stored.shape
    row_size = columns * FORMATS[stored.format].itemsize
    step = max(1, STEP // columns)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        start, size = stored.start + first * row_size, count * row_size
        yield dataclasses.replace(stored, shape=(count, columns), start=start, size=size)


def have_equal_numbers(first: Stored, second: Stored) -> bool:
    """Whether two tensors of the same shape hold the same numbers, each in a format of its own. Only as much is read as
    it takes to find a difference."""
    formats = [FORMATS[stored.format] for stored in (first, second)]
    with first.path.open("rb") as one, second.path.open("rb") as other:
        one.seek(first.start)
        other.seek(second.start)
        for start in range(0, math.prod(first.shape), STEP):
            size = min(STEP, math.prod(first.shape) - start)
            left, right = (file.read(size * kind.itemsize) for file, kind in zip((one, other), formats, strict=True))
            are_copies = left == right and first.format == second.format
            if not are_copies and not _same_numbers(left, right, *formats):
                return False
    return True


def _same_numbers(left: bytes, right: bytes, left_format: np.dtype, right_format: np.dtype) -> bool:
    numbers = np.frombuffer(left, left_format), np.frombuffer(right, right_format)
    return bool(np.array_equal(numbers[0].astype(np.float64), numbers[1].astype(np.float64)))


def _read_into(groups: np.ndarray, stored: Stored) -> None:
    """Read a tensor into the rows of `groups`, one after the other."""
    dtype = FORMATS[stored.format]
    buffer = np.empty(STEP, dtype)
    with stored.path.open("rb", buffering=0) as file:
        file.seek(stored.start)
        for group, start in itertools.product(groups, range(0, groups.shape[1], STEP)):
            target = group[start : start + STEP]
            piece = target if target.dtype == dtype else buffer[: target.size]
            if file.readinto(piece.view(np.uint8).data) != piece.nbytes:
                raise ModelFileError(f"{stored.path} ends within tensor {stored.name}; download it again")
            if not _is_finite(piece):
                raise ModelFileError(
                    f"{stored.path.name}: tensor {stored.name} holds NaN or infinity; download it again, or choose "
                    "another model"
                )
            if piece is not target:
                _convert(piece, target, stored)


def _convert(piece: np.ndarray, target: np.ndarray, stored: Stored) -> None:
    with np.errstate(over="ignore"):  # an overflow is refused below, in words
        target[:] = piece
    if not _is_finite(target):
        raise ModelFileError(
            f"{stored.path.name}: tensor {stored.name} holds numbers too large for {target.dtype}; choose another dtype"
        )


def _aligned(size: int, dtype: np.dtype) -> np.ndarray:
    memory = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype)


def _is_finite(numbers: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity.

    Among the bit patterns of each sign those of infinity and NaN are the largest: read as signed integers the maximum
    finds the positive ones, read as unsigned integers the negative ones. That is many times faster than arithmetic and
    makes no copy.
    """
    width = numbers.dtype.itemsize
    limits = ((np.array(sign * np.inf, numbers.dtype), f"{kind}{width}") for sign, kind in ((1, "i"), (-1, "u")))
    return all(bool(numbers.view(kind).max() < limit.view(kind)) for limit, kind in limits)

"""Tensors of files into memory that JAX takes over, stacked and converted piece by piece, checked for NaN and infinity.
What a tensor of one file format is, and how it is read, is up to that format (`safetensors_reader`, `gguf/tensors`)."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np

from llama_core.model.quantization import QuantizedMatrix
from llama_core.runtime.files import ModelFileError

STEP = 1 << 19  # numbers that are read, checked and converted at once; so many stay in the processor's cache
SHARE_TO_NAME = 0.02  # of all numbers; norms are fewer
ALIGNMENT = 64  # bytes; on a CPU, JAX uses memory that is aligned so without copying it


@runtime_checkable
class StoredTensor(Protocol):
    """One tensor of a file. `format` is what the format of the file calls the number format, `size` is in bytes."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def format(self) -> str: ...

    @property
    def start(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def small_form(self) -> str:
        """The number format in the file as NumPy calls it ("bfloat16"), or "blocks" of small numbers."""
        ...

    def small_bytes(self, quantize: str) -> int:
        """How many bytes `read_small` gives."""
        ...

    def read_into(self, groups: np.ndarray) -> None:
        """Read the tensor into the rows of `groups`, one after the other: each takes an equal share of its numbers, in
        their order. Raises `ModelFileError`."""
        ...

    def row_ranges(self) -> "Iterator[StoredTensor]":
        """A matrix in pieces of whole rows, each about as large as what is read at once."""
        ...

    def read_small(self, quantize: str) -> QuantizedMatrix:
        """A matrix as small numbers: those of the file where it has them, else rounded by a row of `ROUNDINGS`. Raises
        `ModelFileError`."""
        ...


def read_tensors(several: Sequence[StoredTensor], dtype: str, groups: int = 1) -> np.ndarray:
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
        stored.read_into(out[:, start:end])
        start = end
    return out.reshape(-1, *several[0].shape[1:])


def describe_formats(tensors: Collection[StoredTensor]) -> str:
    """How these tensors lie in their files, in words: the number formats, the most used one first and without those of
    few numbers, and the size of a weight."""
    numbers: Counter[str] = Counter()
    for stored in tensors:
        numbers[stored.format] += math.prod(stored.shape)
    total = max(1, numbers.total())
    names = [name for name, count in numbers.most_common() if count >= SHARE_TO_NAME * total]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{listed}, {8 * sum(stored.size for stored in tensors) / total:.1f} bits a weight"


def fill(memory: np.ndarray, file: BinaryIO, stored: StoredTensor) -> None:
    """Read as many bytes of a tensor as `memory` has, from where `file` (opened without a buffer) stands.

    Raises `ModelFileError` for a file that ends early.
    """
    if file.readinto(memory.reshape(-1).view(np.uint8).data) != memory.nbytes:  # type: ignore[attr-defined]
        raise ModelFileError(f"{stored.path} ends within tensor {stored.name}; download it again")


def take_over(piece: np.ndarray, target: np.ndarray, stored: StoredTensor) -> None:
    """Copy numbers of a tensor to their place in memory, unless they are there already, and convert them.

    Raises `ModelFileError` for NaN and infinity, and for numbers that are too large for the format in memory.
    """
    require_finite(piece, stored)
    if piece is target:
        return
    with np.errstate(over="ignore"):  # an overflow is refused below, in words
        target[:] = piece
    if not _is_finite(target):
        raise ModelFileError(
            f"{stored.path.name}: tensor {stored.name} holds numbers too large for {target.dtype}; choose another dtype"
        )


def require_finite(numbers: np.ndarray, stored: StoredTensor) -> None:
    """Raises `ModelFileError` for NaN and infinity among numbers of a tensor."""
    if not _is_finite(numbers):
        raise ModelFileError(
            f"{stored.path.name}: tensor {stored.name} holds NaN or infinity; download it again, or choose "
            "another model"
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

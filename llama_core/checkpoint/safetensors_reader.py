"""Safetensors files: where each tensor lies, and how it is read.

Format: huggingface/safetensors, README, "Format".
"""

import dataclasses
import itertools
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from llama_core.checkpoint.read_tensors import STEP, fill, read_tensors, take_over
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix
from llama_core.runtime.files import ModelFileError, check_file

# The number formats, by their names in safetensors headers, in which weights may be stored.
FORMATS = {
    "F32": np.dtype("float32"),
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype("float16"),
    "F64": np.dtype("float64"),
}


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

    def read_into(self, groups: np.ndarray) -> None:
        """Read the tensor into the rows of `groups`, one after the other, each with an equal share of its numbers.

        Raises `ModelFileError` for a file that ends early and for numbers that cannot be used.
        """
        dtype = FORMATS[self.format]
        buffer = np.empty(STEP, dtype)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            for group, start in itertools.product(groups, range(0, groups.shape[1], STEP)):
                target = group[start : start + STEP]
                piece = target if target.dtype == dtype else buffer[: target.size]
                fill(piece, file, self)
                take_over(piece, target, self)

    def row_ranges(self) -> "Iterator[Stored]":
        """A matrix in pieces of whole rows, each about as large as what is read at once."""
        rows, columns = self.shape
        row_size = columns * FORMATS[self.format].itemsize
        step = max(1, STEP // columns)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            start, size = self.start + first * row_size, count * row_size
            yield dataclasses.replace(self, shape=(count, columns), start=start, size=size)

    @property
    def small_form(self) -> str:
        """The number format in the file."""
        return str(FORMATS.get(self.format, self.format))

    def small_bytes(self, quantize: str) -> int:
        """How many bytes `read_small` gives."""
        return ROUNDINGS[quantize].bytes_of(self.shape)

    def read_small(self, quantize: str) -> QuantizedMatrix:
        """A matrix rounded to small numbers, by a row of `ROUNDINGS`. Raises `ModelFileError`."""
        return ROUNDINGS[quantize].round(read_tensors([self], "float32"))


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

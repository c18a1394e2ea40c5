"""Small numbers in safetensors files, as `save_checkpoint` writes them.

A matrix NAME is two or three tensors: `NAME.quants`, int8 (8 bits) or uint8 (4 bits, two to a byte in the order of
`Int4Matrix`), `NAME.scales`, and `NAME.minimums` where groups have one, float16 or float32. Rows are filled up to whole
groups, or are one group. In the header, the metadata `small_numbers` is a JSON object: how many numbers of a row count,
by NAME. Matrices in bfloat16 are tensors as any program has them.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
import safetensors

from llama_core.checkpoint.read_tensors import STEP, fill, require_finite, take_over
from llama_core.checkpoint.safetensors_reader import Stored, stored_tensors
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params, placed
from llama_core.model.quantization import GROUP, Bfloat16Matrix, Int4Matrix, Int8Matrix, QuantizedMatrix, dequantize
from llama_core.runtime.files import ModelFileError

METADATA = "small_numbers"
PARTS = ("quants", "scales", "minimums")
# What `config.json` says, so that other programs do not take these numbers for weights.
QUANTIZATION = {"quant_method": "glass-llama"}
NUMBERS: dict[str, Any] = {"I8": np.int8, "U8": np.uint8, "F16": np.float16, "F32": np.float32}
GROUPS = {"I8": (GROUP // 2, GROUP), "U8": (GROUP,)}


@dataclasses.dataclass(frozen=True)
class SmallTensor:
    """A matrix [O, I] of small numbers: where its parts lie."""

    name: str
    shape: tuple[int, ...]
    quants: Stored
    scales: Stored
    minimums: Stored | None

    @property
    def parts(self) -> list[Stored]:
        """Those that it has."""
        return [part for part in (self.quants, self.scales, self.minimums) if part is not None]

    @property
    def path(self) -> Path:
        """The file."""
        return self.quants.path

    @property
    def format(self) -> str:
        """Its name for people."""
        return "q4" if self.quants.format == "U8" else "q8"

    @property
    def start(self) -> int:
        """The byte of the file at which its whole numbers start."""
        return self.quants.start

    @property
    def size(self) -> int:
        """In bytes, with scales and minimums."""
        return sum(part.size for part in self.parts)

    @property
    def small_form(self) -> str:
        """It is blocks, and stays that."""
        return "blocks"

    def small_bytes(self, quantize: str) -> int:
        """How many bytes `read_small` gives."""
        return self.size

    def row_ranges(self) -> "Iterator[SmallTensor]":
        """In pieces of whole rows, each about as large as what is read at once."""
        step = max(1, STEP // self.shape[1])
        return (self._rows(first, min(step, self.shape[0] - first)) for first in range(0, self.shape[0], step))

    def read_small(self, quantize: str) -> QuantizedMatrix:
        """The matrix as it was saved, however others are to be rounded. Raises `ModelFileError`."""
        with self.path.open("rb", buffering=0) as file:
            quants, scales, *minimums = (_read(file, part) for part in self.parts)
        for numbers in (scales, *minimums):
            require_finite(numbers, self)
        if self.quants.format == "I8":
            return Int8Matrix(quants, scales, *minimums, columns=self.shape[1])
        return Int4Matrix(quants, scales, *minimums, columns=self.shape[1])

    def read_into(self, groups: np.ndarray) -> None:
        """Read the numbers that it stands for into the rows of `groups`, each with an equal share of them.

        Raises `ModelFileError` for a file that ends early and for numbers that cannot be used.
        """
        columns = self.shape[1]
        rows, step = groups.shape[1] // columns, max(1, STEP // columns)
        for (number, group), first in itertools.product(enumerate(groups), range(0, rows, step)):
            count = min(step, rows - first)
            numbers = np.asarray(dequantize(self._rows(number * rows + first, count).read_small(""), "float32"))
            take_over(numbers.reshape(-1), group[first * columns : (first + count) * columns], self)

    def _rows(self, first: int, count: int) -> "SmallTensor":
        quants, scales, *minimums = (_rows_of(part, first, count) for part in self.parts)
        shape = count, self.shape[1]
        return SmallTensor(self.name, shape, quants, scales, minimums[0] if minimums else None)


def _rows_of(part: Stored, first: int, count: int) -> Stored:
    row = part.size // part.shape[0]
    return dataclasses.replace(part, shape=(count, part.shape[1]), start=part.start + first * row, size=count * row)


def _read(file: BinaryIO, part: Stored) -> np.ndarray:
    numbers: np.ndarray = np.empty(part.shape, NUMBERS[part.format])
    file.seek(part.start)
    fill(numbers, file, part)
    return numbers


def weight_tensors(path: Path) -> Iterator[Stored | SmallTensor]:
    """All tensors of a safetensors file, those of small numbers as one each. Raises `ModelFileError`."""
    tensors = {stored.name: stored for stored in stored_tensors(path)}
    columns = _columns(path)
    for name, count in columns.items():
        yield _whole(path, name, count, [tensors.pop(f"{name}.{part}", None) for part in PARTS])
    yield from tensors.values()


def _columns(path: Path) -> dict[str, Any]:
    """How many numbers of a row count, by the name of the matrix; empty for files of other programs."""
    with safetensors.safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get(METADATA, "{}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _refusal(path, f"{METADATA} is {quote_value(text)}, expected an object in JSON")
    return found


def _whole(path: Path, name: str, columns: Any, parts: list[Stored | None]) -> SmallTensor:
    quants, scales, minimums = parts
    if quants is None or scales is None or any(part and len(part.shape) != 2 for part in parts):
        raise _refusal(path, f"{quote_value(name)} has no whole numbers with scales")
    fits = quants.format in GROUPS and (minimums is not None or quants.format == "I8")
    fits &= all(part.shape == scales.shape and part.format in ("F16", "F32") for part in (scales, minimums) if part)
    numbers, count = quants.shape[1] * (2 if quants.format == "U8" else 1), scales.shape[1]
    fits &= scales.shape[0] == quants.shape[0] > 0 and count > 0 and numbers % max(count, 1) == 0
    is_whole_row = quants.format == "I8" and count == 1
    if not fits or not (is_whole_row or numbers // count in GROUPS[quants.format]):
        raise _refusal(path, f"{quote_value(name)} has numbers and scales that do not belong together")
    if type(columns) is not int or not numbers - GROUP < columns <= numbers:
        raise _refusal(
            path, f"rows of {quote_value(name)} have {numbers} numbers, of which {quote_value(columns)} count"
        )
    return SmallTensor(name, (quants.shape[0], columns), quants, scales, minimums)


def _refusal(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(f"{path.name}: {reason}; save the model again, or download it again")


def small_columns(config: LlamaConfig, params: Params) -> dict[str, int]:
    """What the metadata says of these weights: how many numbers of a row count, by the name of the matrix."""
    return {
        name: weight.columns
        for placement, weight in placed(config, params)
        if isinstance(weight, Int8Matrix | Int4Matrix)
        for name in placement.tensors
    }


def parts_to_save(config: LlamaConfig, params: Params, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the file with its name; numbers that are not small are in `dtype`."""
    for placement, weight in placed(config, params):
        if isinstance(weight, Int8Matrix | Int4Matrix):
            parts = {f".{part}": getattr(weight, part) for part in PARTS if getattr(weight, part) is not None}
        elif isinstance(weight, Bfloat16Matrix):
            parts = {"": weight.quants}
        else:
            parts = {"": np.asarray(weight).astype(jnp.dtype(dtype), copy=False)}
        for ending, part in parts.items():
            yield from ((name + ending, rows) for name, rows in placement.split(np.asarray(part)))

"""The tensors of GGUF files: which belong to a model, and how their rows are read, as blocks or as numbers.

In files of the architecture "llama" the rows of q and k are in another order than the Hub's: the two numbers that
rotary embeddings turn are neighbours, where the Hub has them half a head apart. Rows move as wholes, so blocks stay
intact.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from llama_core.checkpoint.gguf.blocks import small_matrix
from llama_core.checkpoint.gguf.header import Header, TensorInfo
from llama_core.checkpoint.layout import CheckpointError
from llama_core.checkpoint.read_tensors import STEP, fill, read_tensors, require_finite, take_over
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.params import placements
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix

# What the package can dequantise: floating point, blocks of 32 with a scale, and mixtures with blocks of 256.
_NAMES = """
F32 F16 BF16 F64 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL
IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4
"""
READABLE = frozenset(GGMLQuantizationType[name] for name in _NAMES.split())
# Those that are no blocks, as NumPy calls them.
FLOATS = {
    GGMLQuantizationType.F32: "float32",
    GGMLQuantizationType.F16: "float16",
    GGMLQuantizationType.BF16: "bfloat16",
    GGMLQuantizationType.F64: "float64",
}
# Tensors that are not weights: the factors of Llama 3's rotary scaling, which become part of the configuration.
ROPE_FACTORS = "rope_freqs.weight"
DIFFERENT = "this is not a model of that architecture, or the file is damaged"


@dataclasses.dataclass(frozen=True)
class GgufTensor:
    """One tensor of a GGUF file, whose rows are given in the order of the Hub.

    `head_rows`: in the file the rows lie in heads of so many, each head as pairs of neighbours; 0: as on the Hub.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    size: int
    head_rows: int = 0

    @property
    def format(self) -> str:
        """The name of the kind of blocks, such as "Q4_K"."""
        return self.kind.name

    @property
    def row_length(self) -> int:
        """How many numbers a row has; those of a vector are rows of one."""
        return self.shape[-1] if len(self.shape) > 1 else 1

    @property
    def row_bytes(self) -> int:
        """How many bytes a row takes in the file."""
        block, block_bytes = GGML_QUANT_SIZES[self.kind]
        return self.row_length // block * block_bytes

    def blocks(self, file: BinaryIO, start: int, stop: int) -> np.ndarray:
        """The blocks of rows `start` to `stop`, as the bytes of `file` (`path`, opened without a buffer): uint8
        [rows, row_bytes]. Where rows lie in heads, both ends are those of heads.

        Raises `ModelFileError` for a file that has become shorter.
        """
        rows = np.empty((stop - start, self.row_bytes), np.uint8)
        file.seek(self.start + start * self.row_bytes)
        fill(rows, file, self)
        if not self.head_rows:
            return rows
        pairs = rows.reshape(-1, self.head_rows // 2, 2, self.row_bytes)
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    def rows(self, file: BinaryIO, start: int, stop: int) -> np.ndarray:
        """The numbers of these rows (see `blocks`), float32 [rows, row_length], or float64 where the file has that."""
        blocks = self.blocks(file, start, stop)
        if self.kind == GGMLQuantizationType.F64:
            return blocks.view("<f8")
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are refused in words by `take_over`
            return dequantize(blocks, self.kind)

    def read_into(self, groups: np.ndarray) -> None:
        """Read the tensor into the rows of `groups`, one after the other, each with an equal share of its numbers.

        Raises `ModelFileError` for a file that ends early and for numbers that cannot be used.
        """
        rows = groups.shape[1] // self.row_length
        with self.path.open("rb", buffering=0) as file:
            for number, group in enumerate(groups):
                for start in range(0, rows, self._step):
                    stop, first = min(start + self._step, rows), number * rows
                    piece = self.rows(file, first + start, first + stop).reshape(-1)
                    take_over(piece, group[start * self.row_length : stop * self.row_length], self)

    def row_ranges(self) -> "Iterator[GgufTensor]":
        """A matrix in pieces of whole rows and whole heads, each about as large as what is read at once."""
        for first in range(0, self.shape[0], self._step):
            count = min(self._step, self.shape[0] - first)
            start, size = self.start + first * self.row_bytes, count * self.row_bytes
            yield dataclasses.replace(self, shape=(count, self.row_length), start=start, size=size)

    def read_small(self, quantize: str) -> QuantizedMatrix:
        """A matrix as small numbers. Blocks stay as they are where `blocks.py` has an exact form, and are rounded to 8
        bits where not; floating-point numbers are rounded by a row of `ROUNDINGS`. Raises `ModelFileError`."""
        with self.path.open("rb", buffering=0) as file:
            exact = small_matrix(self.blocks(file, 0, self.shape[0]), self.kind)
        if exact is not None:
            for numbers in jax.tree.leaves((exact.scales, exact.minimums)):
                require_finite(numbers, self)
            return exact
        return ROUNDINGS[quantize if self.kind in FLOATS else "q8"].round(read_tensors([self], "float32"))

    @property
    def small_form(self) -> str:
        """The number format in the file, or "blocks"."""
        return small_form(self.kind)

    def small_bytes(self, quantize: str) -> int:
        """How many bytes `read_small` gives."""
        return small_bytes(self.shape, self.kind, quantize)

    @property
    def _step(self) -> int:
        """How many rows are read at once."""
        whole = self.head_rows or 1
        return max(STEP // self.row_length // whole, 1) * whole


def small_form(kind: GGMLQuantizationType) -> str:
    """The number format of a kind as NumPy calls it, or "blocks" of small numbers."""
    return FLOATS.get(kind, "blocks")


def small_bytes(shape: tuple[int, ...], kind: GGMLQuantizationType, quantize: str) -> int:
    """How many bytes a matrix of this kind takes as small numbers (`GgufTensor.read_small`)."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    exact = small_matrix(np.zeros((1, block_bytes), np.uint8), kind)
    if exact is not None:
        return math.prod(shape) // block * exact.nbytes
    return ROUNDINGS[quantize if kind in FLOATS else "q8"].bytes_of(shape)


def find_gguf_tensors(headers: Sequence[Header], config: LlamaConfig) -> dict[str, GgufTensor]:
    """Every tensor of the model by its name on the Hub, in the order of `hub_tensors`.

    Raises `CheckpointError` if one is missing, unknown, or has another shape than the configuration asks for or a
    format that is not read.
    """
    found = {info.name: (header, info) for header in headers for info in header.tensors}
    if len(found) != sum(len(header.tensors) for header in headers):
        raise CheckpointError(f"{headers[0].file.name}: its parts hold the same tensors; download them again")
    known = {row.name: row for row in _expected(headers[0].metadata["general.architecture"] == "llama", config)}
    for name, (header, _) in found.items():
        if name not in known and name != ROPE_FACTORS:
            raise CheckpointError(
                f"{header.file.name}: tensor {quote_value(name)} is not part of the {config.num_hidden_layers}-layer "
                f"{config.model_type} that its metadata describes; {DIFFERENT}"
            )
    missing = [name for name in known if name not in found]
    if missing:
        raise CheckpointError(
            f"{headers[0].file.name}: tensor {missing[0]} is missing ({len(missing)} of {len(known)} are); download it "
            "again"
        )
    return {row.hub: _checked(*found[name], row) for name, row in known.items()}


@dataclasses.dataclass(frozen=True)
class _Expected:
    """A tensor that the model has: its names here and on the Hub, its shape, and how many rows of a head to bring into
    order."""

    name: str
    hub: str
    shape: tuple[int, ...]
    head_rows: int


def _expected(is_permuted: bool, config: LlamaConfig) -> Iterator[_Expected]:
    for placement in placements(config):
        for tensor, (hub, shape) in zip(placement.row.tensors, placement.tensors.items(), strict=True):
            head_rows = config.head_dim if is_permuted and tensor.is_permuted_in_gguf else 0
            yield _Expected(tensor.gguf.format(layer=placement.layer), hub, shape, head_rows)


def _checked(header: Header, info: TensorInfo, expected: _Expected) -> GgufTensor:
    place = f"{header.file.name}: tensor {info.name}"
    if info.shape != expected.shape:
        raise CheckpointError(f"{place} is {list(info.shape)}, its metadata says {list(expected.shape)}; {DIFFERENT}")
    if info.kind not in READABLE or (len(info.shape) == 1 and GGML_QUANT_SIZES[info.kind][0] > 1):
        raise CheckpointError(f"{place} is stored as {info.kind.name}, which is not read; choose another file")
    return GgufTensor(header.file.path, info.name, info.shape, info.kind, info.start, info.size, expected.head_rows)


def read_rope_factors(headers: Sequence[Header]) -> np.ndarray | None:
    """By what each rotary frequency is divided, [R]; None if the files do not say.

    Raises `ModelFileError` for factors that are no numbers.
    """
    for header in headers:
        for info in header.tensors:
            if info.name == ROPE_FACTORS:
                factors = np.empty(info.shape, np.float64)
                expected = _Expected(info.name, info.name, (len(factors),), 0)
                _checked(header, info, expected).read_into(factors[None])
                return factors
    return None

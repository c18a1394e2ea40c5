"""Matrices of small numbers: their formats in memory, rounding to them, and back.

In two of them a row is cut into groups of neighbouring numbers. A group is whole numbers q with one scale, and a
minimum if it has one: number = scale · q + minimum. The blocks of GGUF files (ggml-org/ggml, src/ggml-common.h) map
onto these as they are:

* `Int8Matrix`: Q8_0, Q5_0, Q5_1 and Q5_K in groups of 32, Q6_K in groups of 16;
* `Int4Matrix`: Q4_0, Q4_1 and Q4_K, in groups of 32.

A row of an `Int8Matrix` may also be one group, which suits GPUs: the scale can be applied after the product.

The third is bfloat16. `linear` and `embed` take all wherever they take an array. They cannot be trained.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, BFloat16, Float, Int8, UInt8

from llama_core.runtime.arrays import AnyArray

GROUP = 32  # neighbouring numbers of a row with a scale of their own, where a file does not say otherwise
MAX_INT8, MAX_INT4 = 127, 15
FITS = 3  # with so many the squared error of normal noise in 4 bits is 13 % less than with none; more give little
STATIC = {"static": True}  # of a field: part of a program's shape, no array


class _Matrix:
    """What the formats share: the shape [*O, I] and the number format of the array that they stand for. Rows are
    filled up to whole groups; `columns`, I, of their numbers count."""

    quants: AnyArray
    scales: AnyArray
    columns: int
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that it stands for."""
        return (*self.quants.shape[:-1], self.columns)

    @property
    def size(self) -> int:
        """How many numbers it stands for."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))

    def reshape(self, *shape: int) -> Any:
        """The same rows in another order of axes before the last. Raises `ValueError` if the last axis changes."""
        if shape[-1] != self.columns:
            raise ValueError(f"rows of {self.columns} numbers cannot be cut into rows of {shape[-1]}")
        return jax.tree.map(lambda leaf: leaf.reshape(*shape[:-1], leaf.shape[-1]), self)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Matrix(_Matrix):
    """Whole numbers from -128 to 127 in N groups a row, each with a scale (float16 or float32), and with a minimum of
    the same type if `minimums` is not None."""

    quants: Int8[AnyArray, "*O P"]
    scales: Float[AnyArray, "*O N"]
    minimums: Float[AnyArray, "*O N"] | None = None
    columns: int = field(kw_only=True, metadata=STATIC)
    dtype: str = field(default="float32", kw_only=True, metadata=STATIC)

    @property
    def group(self) -> int:
        """How many numbers share a scale."""
        return self.quants.shape[-1] // self.scales.shape[-1]

    @property
    def has_row_scales(self) -> bool:
        """Whether a scale for each row is all that turns whole numbers into weights."""
        return self.scales.shape[-1] == 1 and self.minimums is None


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int4Matrix(_Matrix):
    """Whole numbers from 0 to 15 in N groups of 32 a row, each with a scale and a minimum (float16 or float32). Byte i
    of the 16 of a group has number i of it in the low bits and number i + 16 in the high bits, as in GGUF's Q4_0."""

    quants: UInt8[AnyArray, "*O P"]
    scales: Float[AnyArray, "*O N"]
    minimums: Float[AnyArray, "*O N"]
    columns: int = field(kw_only=True, metadata=STATIC)
    dtype: str = field(default="float32", kw_only=True, metadata=STATIC)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bfloat16Matrix(_Matrix):
    """Numbers in bfloat16 in a model that computes in another format: on a CPU all but products is slow so."""

    quants: BFloat16[AnyArray, "*O I"]
    scales: Any = None
    minimums: None = None
    columns: int = field(kw_only=True, metadata=STATIC)
    dtype: str = field(default="float32", kw_only=True, metadata=STATIC)


QuantizedMatrix = Int8Matrix | Int4Matrix | Bfloat16Matrix
# A weight as `linear` and `embed` take it.
Matrix = AnyArray | QuantizedMatrix


def format_name(matrix: QuantizedMatrix) -> str:
    """The name of its format, as in `ROUNDINGS`."""
    if isinstance(matrix, Int8Matrix):
        return "int8" if matrix.has_row_scales else "q8"
    return "q4" if isinstance(matrix, Int4Matrix) else "bf16"


def is_quantized(weight: object) -> bool:
    """Whether a weight is a matrix of small numbers."""
    return isinstance(weight, QuantizedMatrix)


def quantized_matrices(params: object) -> list[QuantizedMatrix]:
    """The matrices of small numbers among the weights in a pytree."""
    return [leaf for leaf in jax.tree.leaves(params, is_leaf=is_quantized) if isinstance(leaf, QuantizedMatrix)]


def pack_nibbles(quants: UInt8[np.ndarray, "*O P"]) -> UInt8[np.ndarray, "*O P/2"]:
    """Numbers from 0 to 15, P a multiple of 32, in the order of `Int4Matrix`."""
    halves = quants.reshape(*quants.shape[:-1], -1, 2, GROUP // 2)
    return (halves[..., 0, :] | halves[..., 1, :] << 4).reshape(*quants.shape[:-1], -1)


def unpack_nibbles(packed: UInt8[AnyArray, "*O P"]) -> UInt8[AnyArray, "*O 2*P"]:
    """The inverse of `pack_nibbles`."""
    groups = packed.reshape(*packed.shape[:-1], -1, 1, GROUP // 2)
    shifts = np.array([[0], [4]], np.uint8)
    return (groups >> shifts & np.uint8(MAX_INT4)).reshape(*packed.shape[:-1], -1)


def dequantize(matrix: QuantizedMatrix, dtype: Any = None) -> Float[Array, "..."]:
    """The array [*O, I] that a matrix stands for, computed in float32, in its own number format or in `dtype`."""
    if isinstance(matrix, Bfloat16Matrix):
        return jnp.asarray(matrix.quants).astype(dtype or matrix.dtype)
    quants = unpack_nibbles(matrix.quants) if isinstance(matrix, Int4Matrix) else matrix.quants
    scales = jnp.asarray(matrix.scales, jnp.float32)[..., None]
    numbers = jnp.asarray(quants, jnp.float32).reshape(*scales.shape[:-1], -1) * scales
    if matrix.minimums is not None:
        numbers += jnp.asarray(matrix.minimums, jnp.float32)[..., None]
    return numbers.reshape(*quants.shape)[..., : matrix.columns].astype(dtype or matrix.dtype)


def as_int8(matrix: Int8Matrix | Int4Matrix, group: int = GROUP) -> Int8Matrix:
    """The same numbers in groups of `group`, which divides those of the matrix: nothing is rounded."""
    if isinstance(matrix, Int4Matrix):
        quants = unpack_nibbles(matrix.quants).astype(jnp.int8)
        matrix = Int8Matrix(quants, matrix.scales, matrix.minimums, columns=matrix.columns, dtype=matrix.dtype)
    repeat: Callable[..., Any] = functools.partial(
        np.repeat if isinstance(matrix.quants, np.ndarray) else jnp.repeat, repeats=matrix.group // group, axis=-1
    )
    minimums = None if matrix.minimums is None else repeat(matrix.minimums)
    return dataclasses.replace(matrix, scales=repeat(matrix.scales), minimums=minimums)


def in_one_format(matrices: Sequence[QuantizedMatrix]) -> list[QuantizedMatrix]:
    """The same numbers, all in the smallest format that can hold all of these matrices exactly: what stacking needs.
    bfloat16 is stacked with bfloat16 only."""
    unified: list[Any] = list(matrices)
    if all(isinstance(matrix, Bfloat16Matrix) for matrix in unified):
        return unified
    if not all(isinstance(matrix, Int4Matrix) for matrix in unified):
        group = min(matrix.group if isinstance(matrix, Int8Matrix) else GROUP for matrix in unified)
        unified = [as_int8(matrix, group) for matrix in unified]
    is_wide = any(matrix.scales.dtype == np.float32 for matrix in unified)
    if any(matrix.minimums is not None for matrix in unified):
        unified = [dataclasses.replace(matrix, minimums=_minimums(matrix)) for matrix in unified]
    return [jax.tree.map(_widened, matrix) if is_wide else matrix for matrix in unified]


def stack_rows(matrices: Sequence[QuantizedMatrix], groups: int, shape: tuple[int, ...]) -> QuantizedMatrix:
    """Matrices stacked along their rows: each of `groups` holds an equal share of the rows of the first, then of the
    second, and so on. The result stands for an array of this shape. Matrices on the host give one on the host."""

    def stack(*parts: Any) -> Any:
        library = np if isinstance(parts[0], np.ndarray) else jnp
        grouped = [part.reshape(groups, -1, part.shape[-1]) for part in parts]
        return library.concatenate(grouped, axis=1).reshape(*shape[:-1], parts[0].shape[-1])

    first, *others = in_one_format(matrices)
    return jax.tree.map(stack, first, *others)


def _minimums(matrix: QuantizedMatrix) -> Any:
    return np.zeros_like(matrix.scales) if matrix.minimums is None else matrix.minimums


def _widened(part: AnyArray) -> AnyArray:
    return part.astype(np.float32) if part.dtype == np.float16 else part


def round_to_bfloat16(weight: Float[np.ndarray, "*O I"]) -> Bfloat16Matrix:
    """Rounded to the nearest bfloat16. On the host."""
    return Bfloat16Matrix(weight.astype(jnp.bfloat16), columns=weight.shape[-1])


def round_to_int8(weight: Float[np.ndarray, "*O I"], whole_rows: bool = False) -> Int8Matrix:
    """Rounded to the nearest of 255 evenly spaced numbers, zero among them, per group or row. On the host."""
    grouped = _grouped(weight)
    if whole_rows:
        grouped = grouped.reshape(*weight.shape[:-1], 1, -1)
    largest = np.abs(grouped).max(axis=-1)
    scales = _to_float16(largest / MAX_INT8, at_least=True)
    quants = np.rint(grouped * _reciprocal(scales)).clip(-MAX_INT8, MAX_INT8).astype(np.int8)
    return Int8Matrix(quants.reshape(*weight.shape[:-1], -1), scales, columns=weight.shape[-1])


def round_to_int4(weight: Float[np.ndarray, "*O I"]) -> Int4Matrix:
    """Rounded to 16 evenly spaced numbers per group. On the host.

    These begin as the span of the group. Then rounding to the nearest, and fitting scale and minimum to what was
    rounded by least squares, take turns (Lloyd 1982, "Least squares quantization in PCM"); neither makes the squared
    error larger.
    """
    grouped = _grouped(weight)
    minimums = grouped.min(axis=-1)
    scales = (grouped.max(axis=-1) - minimums) / MAX_INT4
    for _ in range(FITS):
        scales, minimums = _fit_line(_nearest(grouped, scales, minimums), grouped)
    scales, minimums = _to_float16(scales), _to_float16(minimums)
    quants = _nearest(grouped, scales, minimums).astype(np.uint8).reshape(*weight.shape[:-1], -1)
    return Int4Matrix(pack_nibbles(quants), scales, minimums, columns=weight.shape[-1])


def _nearest(grouped: np.ndarray, scales: np.ndarray, minimums: np.ndarray) -> np.ndarray:
    steps = (grouped - minimums.astype(np.float32)[..., None]) * _reciprocal(scales)
    return np.rint(steps, out=steps).clip(0, MAX_INT4, out=steps)


def _fit_line(quants: np.ndarray, grouped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scale and minimum of each group with the smallest squared error for these whole numbers."""
    mean, middle = grouped.mean(axis=-1), quants.mean(axis=-1)
    spread = np.einsum("...g,...g->...", quants, quants) - GROUP * middle**2
    common = np.einsum("...g,...g->...", quants, grouped) - GROUP * middle * mean
    scales = np.divide(common, spread, out=np.zeros_like(mean), where=spread > 0)
    return scales, mean - scales * middle


class Rounding(NamedTuple):
    """How arrays become small numbers, and how many bytes 32 of them take, and a row besides."""

    round: Callable[[np.ndarray], QuantizedMatrix]
    group_bytes: int
    row_bytes: int = 0

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """How many bytes a matrix of this shape takes."""
        return math.prod(shape[:-1]) * (-(-shape[-1] // GROUP) * self.group_bytes + self.row_bytes)


# By the names that people choose them by: 16, 8, 8.5 and 5 bits a number.
ROUNDINGS = {
    "bf16": Rounding(round_to_bfloat16, 64),
    "int8": Rounding(functools.partial(round_to_int8, whole_rows=True), 32, row_bytes=2),
    "q8": Rounding(round_to_int8, 34),
    "q4": Rounding(round_to_int4, 20),
}


def _grouped(weight: np.ndarray) -> np.ndarray:
    """Its numbers in float32 and in groups, [*O, N, 32]; rows are filled up with zeros."""
    empty = -weight.shape[-1] % GROUP
    filled = np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, empty)]) if empty else weight
    return filled.astype(np.float32, copy=False).reshape(*weight.shape[:-1], -1, GROUP)


def _to_float16(numbers: np.ndarray, at_least: bool = False) -> np.ndarray:
    """The nearest float16 numbers, or the next above; float32 as they are if one is too large for float16."""
    if numbers.max(initial=0) > np.finfo(np.float16).max or numbers.min(initial=0) < np.finfo(np.float16).min:
        return numbers
    half = numbers.astype(np.float16)
    return np.where(half < numbers, np.nextafter(half, np.float16(np.inf)), half) if at_least else half


def _reciprocal(scales: np.ndarray) -> np.ndarray:
    wide = scales.astype(np.float32)[..., None]
    return np.divide(1, wide, out=np.zeros_like(wide), where=wide >= np.finfo(np.float32).tiny)

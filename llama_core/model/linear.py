"""Every product of activations with a weight, and the embedding lookup. No other file knows how weights are stored.

`PRODUCTS` and `LOOKUPS` are tables: a new kind of weight (int8, int4) or a faster kernel for one platform is one more
row in them. Nothing outside this file asks for which platform a program is compiled.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from llama_core.kernels.library import NATIVE
from llama_core.kernels.products import multiply
from llama_core.model.mesh.collectives import CutMatrix, Weight
from llama_core.model.quantization import (
    GROUP,
    Bfloat16Matrix,
    Int4Matrix,
    Int8Matrix,
    Matrix,
    QuantizedMatrix,
    as_int8,
    dequantize,
)
from llama_core.runtime.arrays import AnyArray

PLAIN = (jax.Array,)  # a weight that is one array of floating-point numbers
QUANTIZED = (Int8Matrix, Int4Matrix, Bfloat16Matrix)

# From so many rows on a product is bound by arithmetic, and weight-first is the slower way on a CPU too: ten layers of
# a 135M model take 197 instead of 232 ms at 512 rows, but 58 instead of 54 ms at 128 rows.
MANY_ROWS = 256

# Up to so many rows a native kernel reads the weight once and does all of its arithmetic meanwhile. More rows it takes
# where the processor has tiles (AMX): 512 rows times 576×1536 in q8 take 3.5 ms so, and 7.1 ms written out by XLA.
NATIVE_ROWS = 16

# Up to so many rows a GPU multiplies and adds as fast as it reads the weight. In groups of a row a weight would
# otherwise be written out in full, so that sums are worth while for more rows.
FEW_ROWS, FEW_ROWS_IN_GROUPS = 2, 8

# XLA's CPU backend leaves the product of one row and a weight of fewer numbers than this to one thread.
SMALL_WEIGHT = 400_000


def linear(x: Float[Array, "*B I"], weight: Weight, dtype: Any = None) -> Float[Array, "..."]:
    """x Wᵀ in `dtype`, by default that of x. `weight` is [*O, I] as checkpoints have it, the result [*B, *O]."""
    if isinstance(weight, CutMatrix):
        return weight.join(linear(x, weight.part, dtype))
    rows, matrix = x.reshape(-1, x.shape[-1]), weight.reshape(-1, weight.shape[-1])
    fitting = [row for row in PRODUCTS if isinstance(matrix, row.weight_types) and row.fits(len(rows), matrix)]
    ways = {row.platform: functools.partial(row.multiply, dtype=dtype or x.dtype) for row in reversed(fitting)}
    default = ways.pop(ANYWHERE)
    # The compiler keeps the branch of its platform, so that training and serving share this on every machine.
    product = jax.lax.platform_dependent(rows, matrix, default=default, **ways) if ways else default(rows, matrix)
    return product.reshape(*x.shape[:-1], *weight.shape[:-1])


def embed(weight: Weight, tokens: Int[AnyArray, "*B"]) -> Float[Array, "*B D"]:
    """The row of `weight`, [V, D], that belongs to each token."""
    if isinstance(weight, CutMatrix):
        return weight.look_up(tokens, embed)
    return next(row.look_up for row in LOOKUPS if isinstance(weight, row.weight_types))(weight, tokens)


def _contract(left: Array, right: Array, dimensions: Any, dtype: Any) -> Array:
    """`dot_general` in which float32 stays float32 on GPUs that would round it to TF32."""
    precision = jax.lax.Precision.HIGHEST if left.dtype == jnp.float32 else None
    return jax.lax.dot_general(left, right, dimensions, precision=precision, preferred_element_type=dtype)


def rows_first(rows: Float[Array, "N I"], weight: Float[Array, "O I"], dtype: Any) -> Float[Array, "N O"]:
    """rows · weightᵀ as it is written: the reference for all others."""
    return _contract(rows, weight, (((1,), (1,)), ((), ())), dtype)


def weight_first(rows: Float[Array, "N I"], weight: Float[Array, "O I"], dtype: Any) -> Float[Array, "N O"]:
    """(weight · rowsᵀ)ᵀ. XLA's CPU backend is up to ten times faster with the weight on the left (2048×8192 and four
    rows: 6.9 instead of 0.7 GB/s). The barrier keeps it from swapping the two back."""
    product = _contract(weight, rows, (((1,), (1,)), ((), ())), dtype)
    return jax.lax.optimization_barrier(product).T


def weight_in_halves(rows: Float[Array, "1 I"], weight: Float[Array, "O I"], dtype: Any) -> Float[Array, "1 O"]:
    """One row times a small weight as a batch of two halves. Each gets a thread (576×576: 78 instead of 104 µs)."""
    halves, twice = weight.reshape(2, -1, weight.shape[1]), jnp.stack([rows[0], rows[0]])
    product = _contract(halves, twice, (((2,), (1,)), ((0,), (0,))), dtype).reshape(-1, 1)
    return jax.lax.optimization_barrier(product).T


def native_product(rows: Float[Array, "N I"], weight: Matrix, dtype: Any) -> Float[Array, "N O"]:
    """rows · weightᵀ by a native kernel, which reads bfloat16 and small numbers as they are stored; XLA's CPU backend
    writes them out as float32 first."""
    x = rows.astype(jnp.float32)
    if isinstance(weight, Int8Matrix) and weight.group > GROUP:
        weight = as_int8(weight)
    if isinstance(weight, QUANTIZED):
        return multiply(x, weight.quants, weight.scales, weight.minimums).astype(dtype)
    return multiply(x, weight).astype(dtype)


def dequantize_first(rows: Float[Array, "N I"], weight: QuantizedMatrix, dtype: Any) -> Float[Array, "N O"]:
    """rows · weightᵀ with the numbers that the weight stands for: the reference for kernels that read it as it is. XLA
    writes them out on every platform, which takes longer than a product of few rows."""
    return weight_first(rows, dequantize(weight, rows.dtype), dtype)


def dequantize_rows(weight: QuantizedMatrix, tokens: Int[AnyArray, "*B"]) -> Float[Array, "*B D"]:
    """The numbers that the rows of these tokens stand for. Rows of bfloat16 are picked as whole numbers: XLA's CPU
    backend turns all of a matrix into float32 to pick from it (25 ms for the embedding of a 135M model)."""

    def pick(leaf: AnyArray) -> Array:
        if leaf.dtype != jnp.bfloat16:
            return jnp.asarray(leaf)[tokens]
        return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(leaf, jnp.uint16)[tokens], jnp.bfloat16)

    return dequantize(jax.tree.map(pick, weight))


def scaled_rows(weight: Matrix, dtype: Any) -> tuple[Float[Array, "*O I"], Any]:
    """What a weight stands for, as numbers in `dtype` and a factor in float32, for each row or for all. Where a row has
    one scale, that is the factor, and the numbers are the whole ones in memory, which no format rounds."""
    if isinstance(weight, Int8Matrix) and weight.has_row_scales:
        numbers = jnp.asarray(weight.quants)[..., : weight.columns]
        return numbers.astype(dtype), jnp.asarray(weight.scales)[..., 0].astype(jnp.float32)
    return dequantize(weight, dtype) if isinstance(weight, QUANTIZED) else jnp.asarray(weight, dtype), 1.0


def sums_of_products(rows: Float[Array, "N I"], weight: Matrix) -> Float[Array, "N ..."]:
    """rows · weightᵀ for few rows in float32, [N, *O]. XLA's GPU backend makes one kernel of it, which reads the weight
    as it is stored, once for all rows (as sums of their own some read it twice), and for one row faster than a product
    does (bfloat16, gate and up of a 1B model on an H200: 17.2 instead of 19.5 µs)."""
    numbers, factors = scaled_rows(weight, jnp.float32)
    products = tuple(numbers * row for row in rows.astype(jnp.float32))
    zeros = (jnp.zeros((), jnp.float32),) * len(products)
    sums = jax.lax.reduce(products, zeros, lambda x, y: jax.tree.map(jnp.add, x, y), (numbers.ndim - 1,))
    return jnp.stack([row_sums * factors for row_sums in sums])


def multiply_and_reduce(rows: Float[Array, "N I"], weight: Matrix, dtype: Any) -> Float[Array, "N O"]:
    """rows · weightᵀ as sums over products."""
    return sums_of_products(rows, weight).astype(dtype)


def normed_product_of_one_row(
    x: Float[Array, "1 1 D"], norm: Float[Array, "D"], weight: Matrix, eps: float
) -> Float[Array, "1 1 ..."]:
    """x / √(mean(x²) + eps) · norm, times weightᵀ, with the scalar after the product: XLA's GPU backend then adds the
    residual, squares, sums and multiplies by `norm` in one kernel. x · norm is never rounded."""
    wide = x.astype(jnp.float32)
    scalar = jax.lax.rsqrt(jnp.mean(jnp.square(wide)) + eps)
    [sums] = sums_of_products((wide * norm.astype(jnp.float32))[0], weight)
    return (sums * scalar).astype(x.dtype)[None, None]


def scales_last(rows: Float[Array, "N I"], weight: QuantizedMatrix, dtype: Any) -> Float[Array, "N O"]:
    """rows · weightᵀ with the scale of each row of the weight after the product: XLA's GPU backend reads whole numbers
    inside its product then. Numbers in groups of a row it writes out first."""
    numbers, factors = scaled_rows(weight, rows.dtype)
    return (rows_first(rows, numbers, jnp.float32) * factors).astype(dtype)


class Product(NamedTuple):
    """One way to compute rows · weightᵀ: for which types of weights, on which platform, and for how many rows."""

    weight_types: tuple[type, ...]
    platform: str
    fits: Callable[[int, Any], bool]
    multiply: Callable[..., Array]


class Lookup(NamedTuple):
    """How rows are taken out of an embedding of these types."""

    weight_types: tuple[type, ...]
    look_up: Callable[..., Array]


ANYWHERE = "default"


def _is_small(rows: int, weight: Any) -> bool:
    return rows == 1 and weight.size < SMALL_WEIGHT and len(weight) % 2 == 0


def _is_for_kernels(rows: int, weight: Any) -> bool:
    is_small = isinstance(weight, QUANTIZED) or weight.dtype == jnp.bfloat16
    return is_small and NATIVE.ready and (rows <= NATIVE_ROWS or NATIVE.takes_many_rows)


def _is_for_sums(rows: int, weight: QuantizedMatrix) -> bool:
    in_groups = weight.scales is not None and weight.scales.shape[-1] > 1
    return rows <= (FEW_ROWS_IN_GROUPS if in_groups else FEW_ROWS)


# On each platform the first row that fits; ANYWHERE is for platforms without a row of their own.
PRODUCTS = (
    Product(PLAIN + QUANTIZED, "cpu", _is_for_kernels, native_product),
    Product(PLAIN, "cpu", _is_small, weight_in_halves),
    Product(PLAIN, "cpu", lambda rows, weight: rows < MANY_ROWS, weight_first),
    Product(PLAIN, "cuda", lambda rows, weight: rows <= FEW_ROWS, multiply_and_reduce),
    Product(QUANTIZED, "cuda", _is_for_sums, multiply_and_reduce),
    Product(QUANTIZED, "cuda", lambda rows, weight: True, scales_last),
    Product(PLAIN, ANYWHERE, lambda rows, weight: True, rows_first),
    Product(QUANTIZED, ANYWHERE, lambda rows, weight: True, dequantize_first),
)
LOOKUPS = (Lookup(PLAIN, lambda weight, tokens: weight[tokens]), Lookup(QUANTIZED, dequantize_rows))

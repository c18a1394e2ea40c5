"""Products with a weight that is read as it is stored."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, BFloat16, Float, Float32, Int8, UInt8

from llama_core.kernels.library import INSTRUCTION_SETS, MULTIPLY
from llama_core.runtime.arrays import AnyArray

BEST = -1  # of the instruction sets


def multiply(
    x: Float32[AnyArray, "N I"],
    numbers: BFloat16[AnyArray, "O I"] | Int8[AnyArray, "O P"] | UInt8[AnyArray, "O P"],
    scales: Float[AnyArray, "O G"] | None = None,
    minimums: Float[AnyArray, "O G"] | None = None,
    instructions: int = BEST,
) -> Float32[Array, "N O"]:
    """x Wᵀ with the weight W in bfloat16, or in small numbers as `Int8Matrix` and `Int4Matrix` hold them. Every number
    of W is decoded to float32 exactly, and sums are in float32; with AMX, for more than 16 rows, 16 bits of each number
    of x and W take part (`tiles.h`). `instructions` is an index of `INSTRUCTION_SETS`.

    Needs `NATIVE.ready`. Raises when it runs on a processor without these instructions.
    """
    assert -1 <= instructions < len(INSTRUCTION_SETS)
    none = jnp.zeros((len(numbers), 0), jnp.float32)
    result = jax.ShapeDtypeStruct((len(x), len(numbers)), jnp.float32)
    call = jax.ffi.ffi_call(MULTIPLY, result)
    scales = none if scales is None else scales
    return call(x, numbers, scales, none if minimums is None else minimums, instructions=np.int64(instructions))

"""Attention of one token per row to the filled part of the cache, read once, as it lies."""

import jax
import numpy as np
from jaxtyping import Array, BFloat16, Float32, Int32

from llama_core.kernels.library import ATTEND
from llama_core.kernels.products import BEST
from llama_core.runtime.arrays import AnyArray

Cached = Float32[AnyArray, "S K C E"] | BFloat16[AnyArray, "S K C E"]


def attend_to_filled(
    q: Float32[AnyArray, "B H E"],
    keys: Cached,
    values: Cached,
    cache_rows: Int32[AnyArray, "B"],
    positions: Int32[AnyArray, "B"],
    sliding_window: int | None = None,
    instructions: int = BEST,
) -> Float32[Array, "B H E"]:
    """softmax(q·k / √E)·v in float32 over the positions up to that of each row's token, or the last `sliding_window` of
    them, in its slot of the cache. A row whose position is beyond the cache takes no part and gets zeros.

    Needs `NATIVE.ready`. `instructions` is an index of `INSTRUCTION_SETS`.
    """
    call = jax.ffi.ffi_call(ATTEND, jax.ShapeDtypeStruct(q.shape, np.float32))
    window = np.int64(sliding_window or 0)
    return call(q, keys, values, cache_rows, positions, sliding_window=window, instructions=np.int64(instructions))

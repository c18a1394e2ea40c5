"""What devices tell each other while they compute: weights whose products have to be put together, and how. `linear`
and `embed` take them like any other weight; no other part of the model knows that there is more than one device.

Tensor parallelism as in Shoeybi et al. 2019, "Megatron-LM" (arXiv:1909.08053). The rows of q, k, v, gate and up are
cut: the heads and the hidden units of a device are its own, and nothing needs to be joined. The columns that read them
(o, down) are cut likewise, and the sum over all devices is the product. So there are two sums a layer.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from llama_core.model.quantization import STATIC, Matrix
from llama_core.runtime.arrays import AnyArray

AXIS = "model"  # the one axis of a mesh: the devices that share a model


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CutMatrix:
    """A matrix [*O, I] of which this device has a part: some of the columns (`is_cut_by_columns`), or some of the rows
    of a vocabulary, in order. For use inside `jax.shard_map` only."""

    part: Matrix
    is_cut_by_columns: bool = dataclasses.field(metadata=STATIC)

    def join(self, product: Float[Array, "*B O"]) -> Float[Array, "..."]:
        """The product with the whole matrix, on every device, from that with each part."""
        if self.is_cut_by_columns:
            return jax.lax.psum(product, AXIS)
        return jax.lax.all_gather(product, AXIS, axis=product.ndim - 1, tiled=True)

    def look_up(self, tokens: Int[AnyArray, "*B"], look_up: Callable[..., Array]) -> Float[Array, "*B D"]:
        """The rows of these tokens, each from the device that has it: the others add zeros."""
        rows = self.part.shape[0]
        places = jnp.asarray(tokens) - jax.lax.axis_index(AXIS) * rows
        found = look_up(self.part, jnp.clip(places, 0, rows - 1))
        is_here = (places >= 0) & (places < rows)
        return jax.lax.psum(jnp.where(is_here[..., None], found, jnp.zeros((), found.dtype)), AXIS)


# A weight as `linear` and `embed` take it.
Weight = Matrix | CutMatrix

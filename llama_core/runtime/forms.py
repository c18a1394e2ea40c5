"""How programs are cut, and which form of the model's seams they are made of: chosen once, when programs are built.

* products with weights and the embedding lookup: rows of `PRODUCTS` and `LOOKUPS` in model/linear.py. A row names its
  platform itself, and the compiler picks it;
* attention and the layout of the cache: a row of `MODEL_FORMS` in model/gpu_attention.py;
* top-k and top-p, and whether work that no row wants is skipped: a `SamplerForm` in sampling/thresholds.py;
* how programs are cut: the fields of `Form`, and the step functions that engine/compiled.py makes programs of.

The plain form is the reference of the tests. The straight form runs on every device too.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Form:
    """How programs are cut.

    Prompts are prefilled in chunks of one of `chunk_sizes` tokens, in ascending order; a chunk goes through at most
    `layers_per_group` layers per program (the largest divisor of L that is not above it), so that replies can go on in
    between. One decode program makes at most `max_block_steps` tokens of every reply.

    A program that `is_straight` has no loop and no branch: at each of those a GPU stops and asks the host, and without
    them XLA records it as a graph that is launched at once. `attention` is a row of `MODEL_FORMS`. Where it looks at a
    fixed part of the cache there is a program for each of `windows` that the cache is longer than, and one for all.
    `writes_scores`: a chunk's attention scores are in memory, all at once or in large parts.
    """

    chunk_sizes: tuple[int, ...]
    layers_per_group: int
    max_block_steps: int
    attention: str = "blocks"
    is_straight: bool = False
    windows: tuple[int, ...] = ()
    writes_scores: bool = True

    def chunks_of(self, max_seq_len: int) -> tuple[int, ...]:
        """The chunk sizes that a prompt of less than `max_seq_len` tokens can need."""
        return (
            tuple(size for size in self.chunk_sizes if size < max_seq_len)
            + tuple(size for size in self.chunk_sizes if size >= max_seq_len)[:1]
        )

    def windows_of(self, max_seq_len: int) -> tuple[int | None, ...]:
        """The windows over a cache of this length, in ascending order; None: all of it."""
        return (*(size for size in self.windows if size < max_seq_len), None)


PLAIN = Form(chunk_sizes=(8, 32, 128, 512), layers_per_group=2, max_block_steps=16)

ALL_LAYERS = 10**6

# One token a dispatch is as fast as four (1.07 ms each, a 1B model on an H200), and prompts are read at full speed from
# chunks of 1024 on. cuDNN reads what is filled.
CUDNN = Form(
    (64, 256, 1024, 2048), ALL_LAYERS, max_block_steps=1, attention="cudnn", is_straight=True, writes_scores=False
)
# The scores of a chunk take memory: one product has all of them at once.
MASKED = dataclasses.replace(CUDNN, chunk_sizes=(64, 256, 512), attention="masked", windows=(1024,), writes_scores=True)


def choose_form(platform: str, compute_capability: str | None, dtype: Any, head_dim: int) -> Form:
    """The form for a `platform` as JAX calls it ("cpu", "gpu", "tpu"), the version of an NVIDIA card ("9.0"), the
    number format of the weights, and the head dimension."""
    if platform != "gpu":
        return PLAIN
    return CUDNN if cudnn_takes(compute_capability, dtype, head_dim) else MASKED


def form_here(dtype: Any, head_dim: int) -> Form:
    """The form that programs take on the first device, for weights in this number format and heads of this size."""
    device = jax.devices()[0]
    capability = getattr(device, "compute_capability", None)
    return choose_form(device.platform, capability, dtype, head_dim)


def cudnn_takes(compute_capability: str | None, dtype: Any, head_dim: int) -> bool:
    """Whether cuDNN's attention takes these: 16-bit formats, from Ampere (8.0) on; heads of a multiple of 8 up to 128,
    from Hopper (9.0) on up to 256 (jax/_src/cudnn/fused_attention_stablehlo.py)."""
    try:
        version = float(compute_capability or "")
    except ValueError:  # cards of others: "gfx90a"
        return False
    largest = 256 if version >= 9 else 128
    return version >= 8 and jnp.dtype(dtype).itemsize == 2 and head_dim % 8 == 0 and head_dim <= largest

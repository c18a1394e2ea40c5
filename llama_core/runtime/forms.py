"""How programs are cut, and which form of the model's seams they are made of: chosen once, when programs are built.

There is one form today, plain JAX, for every platform. Another one (for GPUs, or with native kernels for a CPU) is one
more `Form` here, a branch in `choose_form`, and one function per seam that differs:

* products with weights and the embedding lookup: a row of `PRODUCTS` or `LOOKUPS` in model/linear.py. It names its
  platform itself, and the compiler picks it;
* attention and the layout of the cache: `attend` in model/attention.py over model/kv_cache.py;
* top-k and top-p: `apply_top_k_top_p` in sampling/thresholds.py;
* how programs are cut: the fields of `Form`.

The plain form stays, as the reference of the tests.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How programs are cut.

    Prompts are prefilled in chunks of one of `chunk_sizes` tokens, in ascending order; a chunk goes through at most
    `layers_per_group` layers per program (the largest divisor of L that is not above it), so that replies can go on in
    between. One decode program makes at most `max_block_steps` tokens of every reply.
    """

    chunk_sizes: tuple[int, ...]
    layers_per_group: int
    max_block_steps: int


PLAIN = Form(chunk_sizes=(8, 32, 128, 512), layers_per_group=2, max_block_steps=16)


def choose_form(platform: str) -> Form:
    """The form for programs on a `platform` as JAX calls it ("cpu", "gpu", "tpu")."""
    return PLAIN

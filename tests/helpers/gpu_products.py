"""What a GPU would take, on whatever device the tests run."""

import contextlib
import functools

import pytest
from quick_compilation import compiled_quickly

from llama_core.model import gpu_attention, linear
from llama_core.model.attention import ModelForm
from llama_core.model.kv_cache import POSITIONS_FIRST
from llama_core.model.linear import ANYWHERE, PRODUCTS

GPU_PRODUCTS = tuple(row._replace(platform=ANYWHERE) for row in PRODUCTS if row.platform in ("cuda", ANYWHERE))

# cuDNN's form of the model, by XLA.
FUSED = ModelForm(
    POSITIONS_FIRST, functools.partial(gpu_attention.fused_attention, implementation="xla"), scales_late=True
)


@contextlib.contextmanager
def as_on_a_gpu(form):
    """What is traced meanwhile has the products of a GPU if the form is one for GPUs, and XLA in the place of cuDNN. It
    is compiled quickly then: the code that a CPU runs in the place of a GPU need not be fast."""
    with pytest.MonkeyPatch.context() as patch, compiled_quickly(form.is_straight):
        patch.setitem(gpu_attention.MODEL_FORMS, "cudnn", FUSED)
        if form.is_straight:
            patch.setattr(linear, "PRODUCTS", GPU_PRODUCTS)
        yield

"""Which form a device and a model get."""

import pytest

from llama_core.model.gpu_attention import MODEL_FORMS
from llama_core.runtime.forms import CUDNN, MASKED, PLAIN, choose_form


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "head_dim", "form"),
    [
        ("cpu", None, "bfloat16", 64, PLAIN),
        ("tpu", None, "bfloat16", 128, PLAIN),
        ("gpu", "9.0", "bfloat16", 64, CUDNN),
        ("gpu", "8.0", "float16", 128, CUDNN),
        ("gpu", "12.0", "bfloat16", 256, CUDNN),
        ("gpu", "8.9", "bfloat16", 256, MASKED),
        ("gpu", "9.0", "bfloat16", 20, MASKED),
        ("gpu", "9.0", "float32", 64, MASKED),
        ("gpu", "7.5", "float16", 64, MASKED),
        ("gpu", "gfx90a", "bfloat16", 64, MASKED),
        ("gpu", None, "bfloat16", 64, MASKED),
    ],
)
def test_cudnn_gets_what_it_takes(platform, capability, dtype, head_dim, form):
    assert choose_form(platform, capability, dtype, head_dim) is form


@pytest.mark.parametrize("form", [PLAIN, CUDNN, MASKED])
@pytest.mark.parametrize("length", [2, 64, 65, 300, 1024, 1025, 10**5])
def test_no_program_is_larger_than_the_context_needs(form, length):
    chunks, windows = form.chunks_of(length), form.windows_of(length)
    assert chunks == form.chunk_sizes[: len(chunks)] and all(size < length for size in chunks[:-1])
    assert chunks[-1] == max(form.chunk_sizes) or chunks[-1] >= length
    assert windows[-1] is None and all(size < length for size in windows[:-1])
    assert form.attention in MODEL_FORMS


def test_straight_forms_decode_one_token_a_dispatch():
    """The host may look at each token, and no program needs to know when a reply ends."""
    assert CUDNN.max_block_steps == MASKED.max_block_steps == 1 and not PLAIN.is_straight

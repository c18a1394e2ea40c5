"""Weights that stay as small as their file has them: what "auto" means."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from checkpoints import forward, matrices, reference_model, wide_layer, write_checkpoint
from gguf_files import mixed_gguf, write_gguf

from llama_core import load_checkpoint
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.weights import forms
from llama_core.kernels import NATIVE, KernelError, prepare_kernels
from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.quantization import Bfloat16Matrix, Int4Matrix, Int8Matrix, dequantize, is_quantized

pytestmark = pytest.mark.usefixtures("quickly_compiled")

Kind = gguf.GGMLQuantizationType
TOKENS = np.random.default_rng(0).integers(3, 260, (1, 40)).astype(np.int32)
KEPT = {
    Kind.Q8_0: Int8Matrix,
    Kind.Q6_K: Int8Matrix,
    Kind.Q5_K: Int8Matrix,
    Kind.Q4_0: Int4Matrix,
    Kind.Q4_1: Int4Matrix,
    Kind.Q4_K: Int4Matrix,
    Kind.BF16: Bfloat16Matrix,
    Kind.F16: jax.Array,
    Kind.F32: jax.Array,
}


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """The models of these tests count as large."""
    if (reason := prepare_kernels()) is not None:
        pytest.skip(reason)
    monkeypatch.setattr(forms, "LARGE_MODEL", 0)


def require_same_numbers(kept, exact):
    """Weights are the same numbers, and logits those of float32 but for the order of sums."""
    for (field, found), (_, expected) in zip(matrices(kept), matrices(exact), strict=True):
        numbers = dequantize(found) if is_quantized(found) else found
        np.testing.assert_array_equal(numbers, expected, err_msg=field)
    logits = [forward(model.params, TOKENS, model.config)[0] for model in (kept, exact)]
    np.testing.assert_allclose(*logits, atol=1e-3 * np.abs(logits[1]).max())


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q6_K, Kind.Q4_0, Kind.Q4_K], ids=lambda kind: kind.name)
def test_blocks_of_a_file_stay_what_they_are(tmp_path, kind):
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), dict.fromkeys(("blk", "output.", "token_embd"), kind))
    kept, exact = (load_checkpoint(path, quantize=name) for name in ("auto", "none"))
    assert {type(matrix) for _, matrix in matrices(kept)} == {KEPT[kind]} and kept.quantize == "auto"
    require_same_numbers(kept, exact)
    assert kept.weight_bytes < 0.35 * exact.weight_bytes


def test_nothing_else_is_rounded(tmp_path):
    """Numbers of 16 and 32 bits beside blocks, and rows of q, k and v, which are one array, in different forms."""
    kinds = {"blk.0.attn_q": Kind.Q8_0, "blk.0.attn_k": Kind.F32, "blk.0.attn_o": Kind.F16, "token_embd": Kind.BF16}
    kinds |= {"blk.0.ffn_down": Kind.Q4_1, "blk.0.ffn": Kind.F32}
    kept, exact = (
        load_checkpoint(mixed_gguf(tmp_path / "x.gguf", wide_layer(), kinds), quantize=name)
        for name in ("auto", "none")
    )
    forms_found = {field: type(matrix) for field, matrix in matrices(kept)}
    small = {field for field, form in forms_found.items() if not issubclass(form, jax.Array)}
    assert small == {"token_embedding", "w_down"} and forms_found["token_embedding"] is Bfloat16Matrix
    require_same_numbers(kept, exact)
    assert kept.weights.startswith("bf16 and q4, ")


@pytest.mark.parametrize("kind", ["Q4_1", "BF16", "F16"])
def test_the_plan_is_what_the_weights_take(tmp_path, kind):
    path = write_gguf(tmp_path / "x.gguf", reference_model(num_hidden_layers=2, intermediate_size=128), kind=kind)
    plans = []
    kept = load_checkpoint(path, quantize="auto", check=plans.append)
    assert [plan.params for plan in plans] == [kept.weight_bytes] * 2
    assert estimate(str(path), "float32", 1, 256, "auto").plan.params == kept.weight_bytes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_checkpoint_in_bfloat16_stays_that(tmp_path, dtype):
    write_checkpoint(tmp_path).to(getattr(torch, dtype)).save_pretrained(tmp_path)
    plans = []
    kept = load_checkpoint(tmp_path, quantize="auto", check=plans.append)
    form = Bfloat16Matrix if dtype == "bfloat16" else jax.Array
    assert all(isinstance(matrix, form) for _, matrix in matrices(kept)) and kept.dtype == "float32"
    require_same_numbers(kept, load_checkpoint(tmp_path))
    assert plans[-1].params == kept.weight_bytes
    assert kept.weights == ("bf16, 16.0 bits a weight" if dtype == "bfloat16" else "float32")
    assert estimate(str(tmp_path), "float32", 1, 256, "auto").plan.params == kept.weight_bytes


def test_a_model_that_computes_in_bfloat16_has_plain_arrays(tmp_path):
    write_checkpoint(tmp_path).bfloat16().save_pretrained(tmp_path)
    model = load_checkpoint(tmp_path, dtype="bfloat16", quantize="auto")
    assert model.weights == "bfloat16" and not any(is_quantized(matrix) for _, matrix in matrices(model))


def test_small_models_and_machines_without_kernels_get_float32(tmp_path, monkeypatch):
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), {"blk": Kind.Q8_0})
    assert load_checkpoint(path, quantize="auto", kernels="off").weights == "float32"
    monkeypatch.setattr(forms, "LARGE_MODEL", 10**8)
    monkeypatch.setattr(NATIVE, "library", None)
    monkeypatch.setattr("llama_core.kernels.library.find_library", lambda **_: pytest.fail("kernels of no use"))
    assert load_checkpoint(path, quantize="auto").weights == "float32"
    assert forms.resolve_quantize("auto", NAMED_CONFIGS["1B"]) == "auto"
    monkeypatch.setattr("llama_core.kernels.library.can_have_library", lambda: False)
    assert forms.resolve_quantize("auto", NAMED_CONFIGS["1B"]) == "none"
    assert forms.resolve_quantize("q4", NAMED_CONFIGS["1B"]) == "q4"


def test_kernels_that_cannot_be_compiled_cost_one_line(tmp_path, monkeypatch):
    def fail(progress):
        progress(0, 1)
        raise KernelError("native kernels cannot be compiled; install g++")

    monkeypatch.setattr(NATIVE, "library", None)
    monkeypatch.setattr("llama_core.kernels.library.find_library", fail)
    path, steps, plans = mixed_gguf(tmp_path / "x.gguf", wide_layer(), {"blk": Kind.Q8_0}), [], []
    model = load_checkpoint(path, quantize="auto", compiling=lambda *step: steps.append(step), check=plans.append)
    assert model.weights == "float32" and model.notes == ("native kernels cannot be compiled; install g++",)
    assert steps == [(0, 1)] and plans[-1].params == model.weight_bytes


def test_noise_has_no_file_to_stay_small_as(monkeypatch):
    model = load_checkpoint("random:tiny", quantize="auto")
    assert model.weights == "float32" and model.quantize == "none" and model.params.norm.dtype == jnp.float32

"""The blocks of GGUF files as matrices of small numbers: exactly what the `gguf` package dequantises, or rounded where
there is no exact form."""

import gguf
import jax
import numpy as np
import pytest
from checkpoints import forward, matrices, wide_layer
from gguf.quants import dequantize as their_dequantize
from gguf_files import mixed_gguf, random_blocks

from llama_core import load_checkpoint
from llama_core.checkpoint import memory_plan
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.gguf.blocks import READERS, small_matrix
from llama_core.checkpoint.memory_plan import MemoryShortage
from llama_core.errors import UserError
from llama_core.model.quantization import Int4Matrix, Int8Matrix, dequantize, is_quantized

pytestmark = pytest.mark.usefixtures("quickly_compiled")

Kind = gguf.GGMLQuantizationType
TOKENS = np.random.default_rng(0).integers(3, 260, (1, 20)).astype(np.int32)
FOUR_BITS = {"Q4_0", "Q4_1", "Q4_K"}


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.name)
def test_blocks_stand_for_exactly_the_numbers_that_the_gguf_package_makes_of_them(kind):
    blocks = random_blocks(kind, (24, 768), seed=kind.value)
    matrix = small_matrix(blocks, kind)
    assert isinstance(matrix, Int4Matrix if kind.name in FOUR_BITS else Int8Matrix) and matrix.shape == (24, 768)
    np.testing.assert_array_equal(dequantize(matrix), their_dequantize(blocks, kind))


def test_a_scale_too_large_for_a_minimum_in_half_precision_is_kept_exactly():
    block = np.concatenate([np.array([60000.0], np.float16).view(np.uint8), np.arange(16, dtype=np.uint8)])[None]
    np.testing.assert_array_equal(dequantize(small_matrix(block, Kind.Q4_0)), their_dequantize(block, Kind.Q4_0))


def test_formats_without_an_exact_form_have_none():
    for kind in (Kind.F16, Kind.Q2_K, Kind.Q3_K, Kind.IQ4_NL, Kind.TQ1_0):
        assert small_matrix(random_blocks(kind, (1, 256)), kind) is None


MIXTURE = {
    "blk.0.attn_v": Kind.Q6_K,  # q, k and v are one array in memory
    "blk.0.attn": Kind.Q4_K,
    "blk.0.ffn_down": Kind.Q5_K,
    "blk.0.ffn": Kind.Q4_1,
    "output.": Kind.Q8_0,
    "token_embd": Kind.Q5_0,
}


@pytest.mark.parametrize("quantize", ["q8", "q4"])
def test_a_mixture_stays_exactly_what_it_is_in_small_numbers(tmp_path, quantize):
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), MIXTURE)
    exact, small = (load_checkpoint(path, quantize=name, kernels="off") for name in ("none", quantize))
    for (field, expected), (_, found) in zip(matrices(exact), matrices(small), strict=True):
        assert is_quantized(found) and found.shape == expected.shape, field
        np.testing.assert_array_equal(dequantize(found), expected, err_msg=field)
    logits = [forward(model.params, TOKENS, model.config)[0] for model in (exact, small)]
    np.testing.assert_allclose(*logits, atol=1e-3 * np.abs(logits[0]).max())
    before = estimate(str(path), "float32", 1, 256, quantize).plan.params
    assert 0.8 * small.weight_bytes < before <= small.weight_bytes  # q, k and v are in one format in memory
    assert small.weights.startswith("q4 and q8, ") and small.stored.startswith("Q4_K, Q4_1")


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_K, Kind.Q6_K, Kind.IQ4_XS, Kind.F16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("quantize", ["none", "q8", "q4"])
def test_the_plan_before_loading_is_what_the_weights_take(tmp_path, kind, quantize, monkeypatch):
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), dict.fromkeys(("blk", "output.", "token_embd"), kind))
    taken = load_checkpoint(path, quantize=quantize, kernels="off").weight_bytes
    assert estimate(str(path), "float32", 1, 256, quantize).plan.params == taken
    monkeypatch.setattr(memory_plan, "free_bytes", lambda device: taken - 1)
    with pytest.raises(MemoryShortage, match="the weights take 0.00 GB in"):
        load_checkpoint(path, quantize=quantize, kernels="off")


def test_rows_of_heads_keep_their_order_when_a_tensor_is_read_in_pieces(tmp_path, monkeypatch):
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), MIXTURE)
    whole = load_checkpoint(path, quantize="q8", kernels="off")
    monkeypatch.setattr("llama_core.checkpoint.gguf.tensors.STEP", 256)
    pieces = load_checkpoint(path, quantize="q8", kernels="off")
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(pieces.params), strict=True):
        np.testing.assert_array_equal(one, other)
    plain = load_checkpoint(path)
    monkeypatch.undo()
    for one, other in zip(jax.tree.leaves(load_checkpoint(path).params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("quantize", "steps"), [("q8", 254), ("q4", 15)])
def test_what_has_no_exact_form_is_rounded(tmp_path, quantize, steps):
    """Other blocks to 8 bits whatever is asked for, floating-point numbers to what is asked for."""
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), {"blk.0.attn": Kind.Q3_K, "blk.0.ffn": Kind.IQ4_XS})
    exact, small = (load_checkpoint(path, quantize=name, kernels="off") for name in ("none", quantize))
    for (field, expected), (_, found) in zip(matrices(exact), matrices(small), strict=True):
        is_float = field in ("token_embedding", "output")
        assert isinstance(found, Int4Matrix) == (is_float and quantize == "q4"), field
        groups = np.asarray(expected).reshape(-1, 32)
        step = np.ptp(groups, axis=1).max() / (steps if is_float else 127)
        assert np.abs(dequantize(found) - expected).max() <= step, field


def test_scales_that_are_no_numbers_are_refused(tmp_path):
    path = mixed_gguf(tmp_path / "x.gguf", wide_layer(), {"blk.0.attn_output": Kind.Q4_K})
    reader = gguf.GGUFReader(path, "r+")
    tensor = next(tensor for tensor in reader.tensors if tensor.name == "blk.0.attn_output.weight")
    tensor.data[3, :2] = np.array([np.inf], np.float16).view(np.uint8)
    reader.data.flush()
    del reader, tensor
    for quantize in ("none", "q8"):
        with pytest.raises(UserError, match="tensor blk.0.attn_output.weight holds NaN or infinity"):
            load_checkpoint(path, quantize=quantize, kernels="off")

"""Checkpoints whose matrices are rounded while they are read."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from checkpoints import STORIES, forward, reference_logits, write_checkpoint

from llama_core import load_checkpoint
from llama_core.checkpoint.load import CheckpointError
from llama_core.checkpoint.memory_plan import MemoryShortage, Plan, require_memory
from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.params import placements
from llama_core.model.quantization import ROUNDINGS, dequantize, is_quantized

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TOKENS = np.random.default_rng(0).integers(3, 300, (2, 40)).astype(np.int32)


def array(params, placement):
    holder = params if placement.layer is None else params.blocks[placement.layer]
    return getattr(holder, placement.row.field)


@pytest.mark.parametrize("quantize", ROUNDINGS)
def test_every_matrix_is_what_rounding_the_whole_array_gives(model, checkpoint, quantize):
    rounded = load_checkpoint(checkpoint[0], quantize=quantize, kernels="off")
    for placement in placements(model.config):
        plain, small = (array(one.params, placement) for one in (model, rounded))
        assert is_quantized(small) == placement.row.may_be_quantized
        expected = ROUNDINGS[quantize].round(np.asarray(plain)) if is_quantized(small) else plain
        for theirs, ours in zip(jax.tree.leaves(expected), jax.tree.leaves(small), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("quantize", "share"), [("bf16", 0.03), ("int8", 0.06), ("q8", 0.03), ("q4", 0.45)])
def test_rounded_weights_give_nearly_the_logits_of_transformers(checkpoint, quantize, share):
    model = load_checkpoint(checkpoint[0], quantize=quantize, kernels="off")
    logits, _ = forward(model.params, TOKENS, model.config)
    expected = reference_logits(checkpoint[1], TOKENS)
    assert np.sqrt(np.mean((logits - expected) ** 2)) < share * np.std(expected)
    assert model.dtype == "float32" and model.weights.startswith(f"{quantize}, ") and model.quantize == quantize


def test_large_tensors_are_rounded_in_pieces(checkpoint, monkeypatch):
    whole = load_checkpoint(checkpoint[0], quantize="q4", kernels="off")
    monkeypatch.setattr("llama_core.checkpoint.safetensors_reader.STEP", 200)
    pieces = load_checkpoint(checkpoint[0], quantize="q4", kernels="off")
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(pieces.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_numbers_of_a_rounded_model_come_in_its_number_format():
    model = load_checkpoint("random:tiny", dtype="bfloat16", quantize="q8", kernels="off")
    logits, _ = forward(model.params, TOKENS, model.config)
    plain, _ = forward(load_checkpoint("random:tiny").params, TOKENS, model.config)
    assert model.dtype == "bfloat16" and dequantize(model.params.blocks[0].wo).dtype == "bfloat16"
    assert np.sqrt(np.mean((logits - plain) ** 2)) < 0.05 * np.std(plain)


@pytest.mark.parametrize("quantize", ROUNDINGS)
def test_the_plan_counts_what_rounded_weights_take(quantize):
    model = load_checkpoint("random:tiny", quantize=quantize, kernels="off")
    taken = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    assert Plan(model.config, "float32", 1, 256, quantize).params == taken


def test_a_refusal_says_to_what_the_weights_are_rounded():
    with pytest.raises(MemoryShortage, match=r"8\.53 GB weights in q8"):
        require_memory(Plan(NAMED_CONFIGS["8B"], "float32", 1, 256, "q8"), free=10**9)


def test_unknown_formats_are_refused():
    with pytest.raises(CheckpointError, match="quantize is 'q3'; expected none or auto or bf16 or int8 or q8 or q4"):
        load_checkpoint("random:tiny", quantize="q3")


@pytest.mark.skipif(not STORIES.exists(), reason="the model is not here")
def test_a_real_model_with_rows_of_no_whole_group_says_the_same_in_8_bits():
    """Its feed-forward width is 172."""
    plain, small = load_checkpoint(STORIES), load_checkpoint(STORIES, quantize="q8", kernels="off")
    ids = np.array([plain.tokenizer.encode("Once upon a time there was a little girl who liked to play outside. She")])
    expected, found = (np.asarray(forward(one.params, ids, one.config)[0]) for one in (plain, small))
    assert np.mean(expected.argmax(-1) == found.argmax(-1)) > 0.95


MEASURE = """
import resource, sys
import jax, numpy as np
from llama_core import load_checkpoint
from llama_core.runtime.host_memory import return_freed_memory
load_checkpoint("random:tiny", quantize="q4", kernels="off")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_checkpoint(sys.argv[1], quantize=sys.argv[2], kernels="off")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024, sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)))
"""


def test_loading_takes_little_more_memory_than_what_stays(tmp_path):
    """A model of 42 million numbers: 168 MB in float32, 45 MB in 8 bits."""
    write_checkpoint(
        tmp_path, hidden_size=1024, intermediate_size=4096, num_hidden_layers=3, num_key_value_heads=2, head_dim=16
    )
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), "q8"], capture_output=True, text=True, check=True
    ).stdout.split()
    taken, stays = map(int, out)
    assert taken < 1.15 * stays + 30e6  # pieces on their way, 2 MB each with their temporary arrays

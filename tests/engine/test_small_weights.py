"""The engine on weights of small numbers, with and without native kernels, against plain logits of these numbers."""

import dataclasses

import jax
import numpy as np
import pytest
from checkpoints import forward

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.kernels import NATIVE, prepare_kernels
from llama_core.model.quantization import dequantize, is_quantized
from llama_core.runtime.forms import PLAIN

PROMPT = list(range(3, 60))
FORM = dataclasses.replace(PLAIN, chunk_sizes=(8, 32), max_block_steps=4)  # quickly compiled; few rows and many
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=5)


def in_float32(params):
    """The same numbers, each written out."""
    return jax.tree.map(lambda leaf: dequantize(leaf) if is_quantized(leaf) else leaf, params, is_leaf=is_quantized)


def likeliest_after(ids, params, config):
    """The likeliest token after each but the last of these, given those before it."""
    logits, _ = forward(params, np.array([ids], np.int32), config)
    return logits[0, :-1].argmax(axis=-1)


@pytest.mark.parametrize("kernels", ["off", "auto"])
@pytest.mark.parametrize("quantize", ["bf16", "int8", "q8", "q4", "a mixture"])
def test_the_engine_says_what_the_numbers_say(checkpoint, quantize, kernels, monkeypatch):
    if kernels == "off":
        monkeypatch.setattr(NATIVE, "library", None)  # a test before this one may have loaded them
    elif (reason := prepare_kernels(kernels)) is not None:
        pytest.skip(reason)
    model = load_checkpoint(checkpoint[0], quantize="q4" if quantize == "a mixture" else quantize, kernels=kernels)
    if quantize == "a mixture":  # as in files of GGUF's type Q4_K_M: some layers have more bits
        eight = load_checkpoint(checkpoint[0], quantize="q8", kernels=kernels)
        blocks = (model.params.blocks[0], eight.params.blocks[1], model.params.blocks[2])
        model = dataclasses.replace(model, params=dataclasses.replace(model.params, blocks=blocks))
        assert model.weights.startswith("q4 and q8, ")
    config = dataclasses.replace(model.config, eos_token_id=())
    with Engine(dataclasses.replace(model, config=config), slots=2, max_seq_len=128, form=FORM) as engine:
        found = [token.id for token in engine.submit(PROMPT, GREEDY)]
    expected = likeliest_after([*PROMPT, *found], in_float32(model.params), config)[len(PROMPT) - 1 :]
    assert len(found) == GREEDY.max_new_tokens and found == list(expected)

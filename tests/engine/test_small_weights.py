"""The engine on weights of small numbers, by XLA, by native kernels and in the form for GPUs, against plain logits of
these numbers in float32."""

import dataclasses

import jax
import numpy as np
import pytest
from checkpoints import forward
from gpu_products import as_on_a_gpu
from lowered import operations

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine.compiled import program_table
from llama_core.kernels import NATIVE, prepare_kernels
from llama_core.model.quantization import dequantize, format_name, is_quantized, quantized_matrices
from llama_core.runtime.forms import MASKED, PLAIN

PROMPT = np.random.default_rng(0).integers(3, 300, 37).tolist()  # a chunk of 32 and one of 8: many rows and few
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=6)
FORMATS = ("bf16", "int8", "q8", "q4")
# Quickly compiled.
CPU = dataclasses.replace(PLAIN, chunk_sizes=(8, 32), max_block_steps=4)
GPU = dataclasses.replace(MASKED, chunk_sizes=(8, 32), windows=())


@pytest.fixture(scope="module")
def small(checkpoint):
    """A model with a layer in each format, as in files of GGUF's type Q4_K_M some layers have more bits; its embedding
    is in one of 4 bits, its head in one of 8."""
    loaded = {name: load_checkpoint(checkpoint[0], quantize=name, kernels="off") for name in FORMATS}
    blocks = tuple(model.params.blocks[i % 2] for i, model in enumerate(loaded.values()))
    params = dataclasses.replace(loaded["q4"].params, blocks=blocks, output=loaded["q8"].params.output)
    config = dataclasses.replace(loaded["q4"].config, num_hidden_layers=len(blocks), eos_token_id=())
    assert {format_name(matrix) for matrix in quantized_matrices(params)} == set(FORMATS)
    return dataclasses.replace(loaded["q4"], params=params, config=config)


@pytest.fixture(scope="module")
def logits_after(small):
    """The logits after each of these ids, at most 64."""
    params = jax.tree.map(
        lambda leaf: dequantize(leaf) if is_quantized(leaf) else leaf, small.params, is_leaf=is_quantized
    )

    def compute(ids):
        padded = np.array([(ids + [0] * 64)[:64]], np.int32)
        return np.asarray(forward(params, padded, small.config)[0][0])[: len(ids)]

    return compute


@pytest.fixture(scope="module", params=["by XLA", "by native kernels", "as on a GPU"])
def engine(request, small):
    """An engine whose programs were made in this way."""
    if request.param == "by native kernels" and (reason := prepare_kernels("auto")) is not None:
        pytest.skip(reason)
    form = GPU if request.param == "as on a GPU" else CPU
    engine = Engine(small, slots=1, max_seq_len=64, form=form)
    with pytest.MonkeyPatch.context() as patch, as_on_a_gpu(form):
        if request.param != "by native kernels":
            patch.setattr(NATIVE, "library", None)
        engine.warm_up()
    yield engine
    engine.close()


def test_the_engine_says_what_the_numbers_say(engine, small, logits_after):
    """A prompt, and another that begins with the cached tokens of it and of its reply."""
    ids = list(PROMPT)
    for _ in range(2):
        found = [token.id for token in engine.submit(ids, GREEDY)]
        likeliest = np.where(small.drawable, logits_after([*ids, *found]), -np.inf)[len(ids) - 1 : -1].argmax(axis=-1)
        assert found == likeliest.tolist() and len(found) == GREEDY.max_new_tokens
        ids += [*found, 5]
    assert engine.stats().tokens_cached > len(PROMPT)
    logits = engine.next_token_logits(ids)
    np.testing.assert_allclose(logits[small.drawable], logits_after(ids)[-1][small.drawable], atol=1e-3)


@pytest.mark.parametrize("engine", ["as on a GPU"], indirect=True)
def test_no_program_has_a_loop_or_a_branch(engine, small):
    """Lowered for a GPU, by the platform's own choice of products."""
    ours = engine._scheduler.programs
    table = program_table(small.config, small.params, ours.state, ours.freqs_cis, ours.form, ours.layer_groups)
    for name, (function, arguments) in table.items():
        names = operations(jax.jit(function), *arguments)
        assert len(names) > 3 and not names & {"while", "case", "if", "custom_call"}, name

"""The engine in the form for GPUs on weights of small numbers, against the plain form on these numbers in float32."""

import dataclasses

import jax
import numpy as np
import pytest
from checkpoints import forward
from gpu_products import GPU_PRODUCTS
from lowered import operations

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine.compiled import compile_programs, program_table
from llama_core.model.quantization import dequantize, is_quantized
from llama_core.runtime.forms import MASKED, PLAIN

PROMPT = np.random.default_rng(0).integers(3, 300, 40).tolist()
KINDS = [
    SamplingParams(temperature=0.0, max_new_tokens=12, ignore_eos=True, logprobs=3),
    SamplingParams(temperature=0.8, top_k=40, top_p=0.9, seed=11, max_new_tokens=12, ignore_eos=True),
    SamplingParams(temperature=1.2, seed=12, repetition_penalty=1.2, max_new_tokens=12, ignore_eos=True, logprobs=5),
]


@pytest.fixture(scope="module", params=["int8", "q4"])
def small(request, checkpoint):
    """The checkpoint with its weights in small numbers."""
    return load_checkpoint(checkpoint[0], quantize=request.param, kernels="off")


@pytest.fixture(scope="module")
def wide(small):
    """The same numbers in float32."""

    def write_out(leaf):
        return dequantize(leaf) if is_quantized(leaf) else leaf

    return dataclasses.replace(small, params=jax.tree.map(write_out, small.params, is_leaf=is_quantized))


@pytest.fixture(scope="module")
def gpu_programs(small):
    """The small weights' programs in the form for GPUs."""
    form = dataclasses.replace(MASKED, chunk_sizes=(16, 64), windows=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llama_core.model.linear.PRODUCTS", GPU_PRODUCTS)
        return compile_programs(small.params, small.config, 3, 128, form)


@pytest.fixture(scope="module")
def engines(small, wide, gpu_programs):
    """On small numbers in the form for GPUs, and on these numbers written out in the plain form."""
    with (
        Engine(small, 3, 128, compile=lambda *_: gpu_programs, form=gpu_programs.form) as on_gpu,
        Engine(wide, 3, 128, form=dataclasses.replace(PLAIN, chunk_sizes=(16, 64))) as plain,
    ):
        yield on_gpu, plain


def everything(engine):
    """The replies of one chat alone, of three together, and to a prompt whose beginning is cached."""
    alone = list(engine.submit(PROMPT, KINDS[0]))
    together = [engine.submit(PROMPT[: 20 + i], params) for i, params in enumerate(KINDS)]
    replies = [alone, *map(list, together)]
    replies.append(list(engine.submit([*PROMPT, *(token.id for token in alone), 5], KINDS[0])))
    return replies, engine.stats().tokens_cached


def test_replies_are_those_of_the_plain_form(engines):
    (on_gpu, cached), (plain, _) = map(everything, engines)
    assert [[token.id for token in reply] for reply in on_gpu] == [[token.id for token in reply] for reply in plain]
    assert all(len(reply) == 12 for reply in on_gpu) and cached > len(PROMPT)
    ours, theirs = ([token.logprob or 0.0 for reply in replies for token in reply] for replies in (on_gpu, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_logits_are_those_of_the_numbers_in_float32(engines, wide):
    found = engines[0].next_token_logits(PROMPT)
    expected, _ = forward(wide.params, np.array([PROMPT], np.int32), wide.config)
    kept = np.isfinite(found)
    np.testing.assert_allclose(found[kept], np.asarray(expected)[0, -1][kept], atol=2e-5)


def test_no_program_has_a_loop_or_a_branch(small, gpu_programs):
    """Lowered for a GPU, by the platform's own choice of products."""
    given = small.params, gpu_programs.state, gpu_programs.freqs_cis, gpu_programs.form, gpu_programs.layer_groups
    for name, (function, arguments) in program_table(small.config, *given).items():
        names = operations(jax.jit(function), *arguments)
        assert len(names) > 3 and not names & {"while", "case", "if", "custom_call"}, name

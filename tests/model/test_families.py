"""Every kind of checkpoint, written by transformers, loaded by us: the same logits and the same replies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from checkpoints import TINY, edit_json, forward, reference_greedy, reference_logits, reference_model, write_tokenizer
from gpu_products import FUSED

from llama_core import load_checkpoint, save_checkpoint
from llama_core.model.attention import PLAIN, make_attention_context
from llama_core.model.config import LlamaConfig
from llama_core.model.gpu_attention import MODEL_FORMS
from llama_core.model.llama import hidden_states, init_cache, logits
from llama_core.model.rope import precompute_freqs_cis

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GRID = {
    "Llama 1: multi-head": dict(num_key_value_heads=8, rms_norm_eps=1e-6),
    "Llama 2: grouped": dict(num_key_value_heads=4),
    "multi-query": dict(num_key_value_heads=1),
    "Llama 3": dict(rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
    "Llama 3.1": dict(rope_parameters={**LLAMA3, "factor": 8.0}, eos_token_id=[1, 2, 3]),
    "Llama 3.2: tied": dict(rope_parameters={**LLAMA3, "factor": 32.0}, tie_word_embeddings=True, head_dim=8),
    "CodeLlama": dict(rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, num_key_value_heads=8),
    "head_dim not D/H": dict(head_dim=20),
    "attention_bias": dict(attention_bias=True),
    "mlp_bias": dict(mlp_bias=True),
    "linear rope": dict(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
    "dynamic rope": dict(rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}),
    "yarn rope": dict(
        rope_parameters={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "rope_theta": 10000.0,
        }
    ),
    "Mistral 0.1: sliding window": dict(family="Mistral", sliding_window=17),
    "Ministral: one layer slides": dict(
        family="Ministral", head_dim=8, sliding_window=9, layer_types=["full_attention", "sliding_attention"]
    ),
    "Mistral 0.3: none": dict(family="Mistral", sliding_window=None, head_dim=20),
    "Qwen2": dict(family="Qwen2"),
    "Qwen2, upper layers slide": dict(family="Qwen2", use_sliding_window=True, sliding_window=9, max_window_layers=1),
    "Qwen3": dict(family="Qwen3", head_dim=20, tie_word_embeddings=True),
    "Qwen3, biased, one layer slides": dict(
        family="Qwen3",
        head_dim=8,
        attention_bias=True,
        use_sliding_window=True,
        sliding_window=9,
        layer_types=["sliding_attention", "full_attention"],
    ),
}
# Between them all that reaches a form for GPUs: each bias, norms of queries and keys, heads of an odd size, one
# key/value head and as many as query heads, a window in some layers, a tied head.
KINDS_FOR_FORMS = {
    "Llama, all biases, one key/value head": dict(
        attention_bias=True, mlp_bias=True, num_key_value_heads=1, head_dim=20, tie_word_embeddings=True
    ),
    "Qwen3, biased, multi-head": {**GRID["Qwen3, biased, one layer slides"], "num_key_value_heads": 8},
}
# The forms for GPUs: with one masked product, and with XLA in the place of cuDNN.
GPU_FORMS = {"masked": MODEL_FORMS["masked"], "cuDNN's, by XLA": FUSED}
TOKENS = np.random.default_rng(0).integers(3, 320, (2, 72)).astype(np.int32)
CHUNK, SLOTS, LENGTH = 20, 3, 128  # tokens of a prompt that are read at once; the size of the cache
PROMPT, REPLY = TOKENS[0, : 2 * CHUNK].tolist(), 16


def write(folder, changes, stored=torch.float32):
    reference_model(**changes).to(stored).save_pretrained(folder)
    write_tokenizer(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


# Angles are given, so that models which differ in them alone share a program.
@functools.partial(jax.jit, static_argnames=("config", "form"))
def forward_chunk(params, tokens, config, cache, start, freqs_cis, form):
    context = make_attention_context(start, tokens.shape[1], freqs_cis, cache_rows=jnp.array([1]), form=form)
    hidden, cache = hidden_states(params, tokens, config, context, cache)
    return logits(params, hidden), cache


def continue_greedily(model, form=PLAIN):
    """The prompt in two chunks, then token by token, in one slot of the cache: the reply, and the logits of every
    position."""
    cache = init_cache(model.config, SLOTS, LENGTH, model.params.dtype, form.layout)
    freqs_cis = jnp.asarray(precompute_freqs_cis(model.config, LENGTH))
    ids, pieces = list(PROMPT), []
    for end in (CHUNK, *range(2 * CHUNK, len(PROMPT) + REPLY + 1)):
        start = sum(piece.shape[1] for piece in pieces)
        tokens = np.array([ids[start:end]], np.int32)
        found, cache = forward_chunk(model.params, tokens, model.config, cache, np.array([start]), freqs_cis, form)
        pieces.append(found)
        if end >= len(PROMPT):
            ids.append(int(jnp.argmax(found[0, -1])))
    return ids[len(PROMPT) : -1], np.concatenate(pieces, axis=1)


def assert_same_as_transformers(theirs, reply, found):
    assert reply == reference_greedy(theirs, PROMPT, REPLY)
    np.testing.assert_allclose(found, reference_logits(theirs, [PROMPT + reply]), atol=2e-4)


@pytest.mark.parametrize("changes", GRID.values(), ids=GRID)
def test_logits_and_replies_are_those_of_transformers(changes, tmp_path):
    theirs = write(tmp_path, changes)
    assert_same_as_transformers(theirs, *continue_greedily(load_checkpoint(tmp_path)))


@pytest.fixture(scope="module", params=KINDS_FOR_FORMS.values(), ids=KINDS_FOR_FORMS)
def kind(request, tmp_path_factory):
    """The folder of such a checkpoint, and the transformers model in it."""
    folder = tmp_path_factory.mktemp("kind")
    return folder, write(folder, request.param)


@pytest.mark.parametrize("form", GPU_FORMS.values(), ids=GPU_FORMS)
def test_forms_for_gpus_compute_the_same(kind, form):
    assert_same_as_transformers(kind[1], *continue_greedily(load_checkpoint(kind[0]), form))


def test_bfloat16_stays_near(kind):
    rounded, exact = load_checkpoint(kind[0], dtype="bfloat16"), reference_logits(kind[1], TOKENS)
    near, _ = forward(rounded.params, TOKENS, rounded.config)
    # Weights and activations of 8 significant bits: on average a thirtieth of the spread of the logits away.
    assert np.mean(np.abs(near - exact)) < 0.03 * np.std(exact)


SLIDES = [(0,), (1,), (), (0, 1)]
FAMILIES = ["Mistral", "Qwen2", "Qwen3", "Llama"]


def keys_of(slides):
    kinds = ["sliding_attention" if layer in slides else "full_attention" for layer in range(2)]
    return dict(layer_types=kinds, sliding_window=9, use_sliding_window=True)


def expected_of(family, slides):
    return () if family == "Llama" else slides  # as in transformers


@pytest.mark.parametrize("slides", SLIDES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_that_the_config_names_slide_and_others_read_the_same_in_ours(tmp_path, family, slides):
    theirs = getattr(transformers, f"{family}Config")(**TINY).to_dict()
    config = LlamaConfig.from_dict({**theirs, **keys_of(slides)})
    assert config.sliding_layers == expected_of(family, slides)
    edit_json(tmp_path / "config.json", **config.to_dict())
    again = transformers.AutoConfig.from_pretrained(tmp_path)
    window = getattr(again, "sliding_window", None)
    kinds = getattr(again, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * 2
    assert tuple(i for i in range(2) if kinds[i] == "sliding_attention") == config.sliding_layers
    assert window == 9 or not config.sliding_layers


@pytest.mark.parametrize("family, slides", list(zip(FAMILIES, SLIDES, strict=True)))
def test_layers_that_slide_do_so_and_saving_keeps_them(tmp_path, family, slides):
    reference_model(family=family, head_dim=8).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    edit_json(tmp_path / "config.json", **keys_of(slides))
    expected = reference_logits(transformers.AutoModelForCausalLM.from_pretrained(tmp_path), TOKENS)
    model = load_checkpoint(tmp_path)
    assert model.config.sliding_layers == expected_of(family, slides)
    found, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    save_checkpoint(tmp_path / "saved", model.config, model.params)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(reference_logits(again, TOKENS), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["Qwen2", "Mistral 0.1: sliding window"])
def test_a_config_in_our_words_says_the_same(name, tmp_path):
    """What `save_checkpoint` writes for a relative, transformers reads as that relative."""
    theirs = write(tmp_path / "theirs", GRID[name])
    model = load_checkpoint(tmp_path / "theirs")
    save_checkpoint(tmp_path / "ours", model.config, model.params)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(again) is type(theirs)
    np.testing.assert_allclose(reference_logits(again, TOKENS), reference_logits(theirs, TOKENS), atol=1e-5)


def test_dynamic_rope_decodes_past_the_trained_length_as_transformers_does(tmp_path):
    theirs = write(tmp_path, {**GRID["dynamic rope"], "max_position_embeddings": 48})
    model, tokens = load_checkpoint(tmp_path), TOKENS[:1, :70]
    cache = init_cache(model.config, 1, 80)
    _, cache = forward(model.params, tokens[:, :40], model.config, cache, 0)
    with torch.no_grad():
        memory = transformers.DynamicCache(config=theirs.config)
        theirs(torch.tensor(tokens[:, :40]), cache=memory, use_cache=True)
        for position in range(40, 70):
            step = tokens[:, position : position + 1]
            found, cache = forward(model.params, step, model.config, cache, position)
            out = theirs(torch.tensor(step), cache=memory, use_cache=True)
            np.testing.assert_allclose(found, out.logits.numpy(), atol=2e-4)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_are_computed_in_full(stored, tmp_path):
    theirs = write(tmp_path, GRID["Qwen2"], stored)
    found, _ = forward(load_checkpoint(tmp_path).params, TOKENS, load_checkpoint(tmp_path).config)
    np.testing.assert_allclose(found, reference_logits(theirs, TOKENS), atol=2e-4)


def test_a_file_may_mix_number_formats(tmp_path):
    theirs = write(tmp_path, {})
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    formats = [torch.bfloat16, torch.float16, torch.float32]
    mixed = {name: tensor.to(formats[i % 3]) for i, (name, tensor) in enumerate(sorted(tensors.items()))}
    safetensors.torch.save_file(mixed, tmp_path / "model.safetensors")
    theirs.load_state_dict({name: tensor.float() for name, tensor in mixed.items()})
    model = load_checkpoint(tmp_path)
    assert model.dtype == "float32"
    found, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(found, reference_logits(theirs, TOKENS), atol=2e-4)

"""Every kind of checkpoint, written by transformers, loaded by us: the same logits and the same replies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from checkpoints import edit_json, forward, reference_greedy, reference_logits, reference_model, write_tokenizer

from llama_core import load_checkpoint, save_checkpoint
from llama_core.model.attention import ModelForm, make_attention_context
from llama_core.model.gpu_attention import MODEL_FORMS, fused_attention
from llama_core.model.kv_cache import POSITIONS_FIRST
from llama_core.model.llama import hidden_states, init_cache, logits
from llama_core.model.rope import precompute_freqs_cis

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
        family="Ministral",
        head_dim=8,
        sliding_window=9,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
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
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    ),
}
TOKENS = np.random.default_rng(0).integers(3, 320, (2, 72)).astype(np.int32)
CHUNK = 20  # tokens of a prompt that are read at once


def write(folder, changes, stored=torch.float32):
    reference_model(**changes).to(stored).save_pretrained(folder)
    write_tokenizer(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def continue_greedily(model, prompt, count):
    """A chunk, a chunk, then token by token; the ids and the logits of every position."""
    cache, pieces, ids = init_cache(model.config, 1, 128), [], list(prompt)
    for start, end in ((0, CHUNK), (CHUNK, len(prompt))):
        found, cache = forward(model.params, np.array([ids[start:end]], np.int32), model.config, cache, start)
        pieces.append(found)
    for position in range(len(prompt), len(prompt) + count):
        ids.append(int(jnp.argmax(pieces[-1][0, -1])))
        found, cache = forward(model.params, np.array([ids[-1:]], np.int32), model.config, cache, position)
        pieces.append(found)
    return ids, np.concatenate(pieces, axis=1)


# The forms for GPUs: with one masked product, and with XLA in the place of cuDNN.
GPU_FORMS = (
    MODEL_FORMS["masked"],
    ModelForm(POSITIONS_FIRST, functools.partial(fused_attention, implementation="xla"), scales_late=True),
)


@functools.partial(jax.jit, static_argnames=("config", "form"))
def forward_in_form(params, tokens, config, cache, start, freqs_cis, form):
    context = make_attention_context(start, tokens.shape[1], freqs_cis, cache_rows=jnp.array([1]), form=form)
    hidden, cache = hidden_states(params, tokens, config, context, cache)
    return logits(params, hidden), cache


def logits_in_form(form, model, ids):
    """The logits of every position, in chunks and then token by token, in one slot of three."""
    cache, pieces = init_cache(model.config, 3, 128, layout=form.layout), []
    freqs_cis = jnp.asarray(precompute_freqs_cis(model.config, 128))
    edges = [0, CHUNK, *range(2 * CHUNK, len(ids) + 1)]
    for start, end in zip(edges, edges[1:], strict=False):
        tokens = jnp.array([ids[start:end]])
        found, cache = forward_in_form(model.params, tokens, model.config, cache, jnp.array([start]), freqs_cis, form)
        pieces.append(found)
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("changes", GRID.values(), ids=GRID)
def test_logits_and_replies_are_those_of_transformers(changes, tmp_path):
    theirs = write(tmp_path, changes)
    model = load_checkpoint(tmp_path)
    expected = reference_logits(theirs, TOKENS)
    found, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(found, expected, atol=2e-4)

    prompt = TOKENS[0, : 2 * CHUNK].tolist()
    ids, pieces = continue_greedily(model, prompt, 16)
    assert ids[len(prompt) :] == reference_greedy(theirs, prompt, 16)
    np.testing.assert_allclose(pieces, reference_logits(theirs, [ids]), atol=2e-4)
    for form in GPU_FORMS:
        np.testing.assert_allclose(logits_in_form(form, model, ids[:43]), pieces[:, :43], atol=2e-5)

    rounded = load_checkpoint(tmp_path, dtype="bfloat16")
    near, _ = forward(rounded.params, TOKENS, rounded.config)
    # Weights and activations of 8 significant bits: on average a thirtieth of the spread of the logits away.
    assert np.mean(np.abs(near - expected)) < 0.03 * np.std(expected)


@pytest.mark.parametrize("slides", [(0,), (1, 2), (), (0, 1, 2)])
@pytest.mark.parametrize("family", ["Mistral", "Qwen2", "Qwen3", "Llama"])
def test_only_the_layers_that_the_config_names_slide_and_saving_keeps_them(tmp_path, family, slides):
    kinds = ["sliding_attention" if layer in slides else "full_attention" for layer in range(3)]
    reference_model(family=family, head_dim=8).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    edit_json(tmp_path / "config.json", layer_types=kinds, sliding_window=9, use_sliding_window=True)
    expected = reference_logits(transformers.AutoModelForCausalLM.from_pretrained(tmp_path), TOKENS)
    model = load_checkpoint(tmp_path)
    found, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert model.config.sliding_layers == (() if family == "Llama" else slides)  # as in transformers
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

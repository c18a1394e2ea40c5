"""The parameter table against transformers' state dict; initialisation against its own words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import reference_model

from llama_core.model import params as table
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig

CONFIG = NAMED_CONFIGS["tiny"]


@pytest.mark.parametrize("tied", [True, False])
def test_names_and_shapes_are_those_of_transformers(tied):
    theirs = reference_model(tie_word_embeddings=tied, head_dim=12)
    config = LlamaConfig.from_dict(theirs.config.to_dict())
    expected = {name: tuple(tensor.shape) for name, tensor in theirs.named_parameters()}
    assert dict(table.hub_tensors(config)) == expected
    assert table.count_params(config) == sum(p.numel() for p in theirs.parameters())


def test_known_models_have_their_published_size():
    assert table.count_params(NAMED_CONFIGS["1B"]) == 1_235_814_400  # huggingface.co/meta-llama/Llama-3.2-1B
    assert table.count_params(NAMED_CONFIGS["8B"]) == 8_030_261_248  # huggingface.co/meta-llama/Llama-3.1-8B
    assert table.params_bytes(NAMED_CONFIGS["8B"], jnp.bfloat16) == 2 * 8_030_261_248


def test_counting_allocates_nothing():
    before = len(jax.live_arrays())
    table.params_bytes(NAMED_CONFIGS["8B"])
    assert len(jax.live_arrays()) == before


def test_norms_start_at_one():
    """The seed document started them random."""
    params = table.init_model_params(jax.random.key(0), CONFIG)
    norms = [params.norm, *(norm for block in params.blocks for norm in (block.attention_norm, block.ffn_norm))]
    assert all(bool(jnp.all(norm == 1)) for norm in norms)


def test_key_and_value_have_the_heads_of_the_cache():
    """The seed document gave the value projection as many heads as the query."""
    config = dataclasses.replace(CONFIG, num_key_value_heads=2)
    tensors = dict(table.named_tensors(config, table.init_model_params(jax.random.key(0), config)))
    key, value = (tensors[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "kv")
    assert key.shape == value.shape == (2 * config.head_dim, config.hidden_size)


def test_matrices_start_small_and_different():
    params = table.init_model_params(jax.random.key(0), CONFIG)
    matrices = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert len({float(jnp.sum(matrix)) for matrix in matrices}) == len(matrices)
    for matrix in matrices:
        assert abs(float(jnp.mean(matrix))) < 0.002 and 0.01 < float(jnp.std(matrix)) < 0.1
    np.testing.assert_allclose(float(jnp.std(params.token_embedding)), CONFIG.initializer_range, rtol=0.05)
    again = table.init_model_params(jax.random.key(0), CONFIG)
    assert all(bool(jnp.all(a == b)) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True))


BIASED = LlamaConfig.from_dict({**CONFIG.to_dict(), "attention_bias": True, "mlp_bias": True})


def placement(field):
    return next(one for one in table.placements(BIASED) if one.row.field == field and one.layer in (None, 0))


@pytest.mark.parametrize("row", [*table.MODEL_PARAMETERS, *table.BLOCK_PARAMETERS], ids=lambda row: row.field)
def test_what_was_stacked_comes_apart_again(row):
    if not row.exists(BIASED):
        pytest.skip("not in this model")
    one, rng = placement(row.field), np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in one.tensors.items()}
    stacked = np.asarray(one.stack(list(tensors.values())))
    assert stacked.shape == one.shape
    for name, tensor in one.split(stacked):
        np.testing.assert_array_equal(tensor, tensors[name])


def test_what_is_cut_along_the_key_value_heads_has_whole_heads():
    """One device's share of w_qkv: the queries of its heads, their keys and their values."""
    one, G, E = placement("w_qkv"), BIASED.queries_per_kv_head, BIASED.head_dim
    q, k, v = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in one.tensors.values())
    second = one.stack([q, k, v])[1]
    expected = np.concatenate([q[G * E : 2 * G * E], k[E : 2 * E], v[E : 2 * E]])
    np.testing.assert_array_equal(second, expected)


def test_norms_and_biases_are_no_matrices():
    """Else they would decay in training; grouped biases have two axes."""
    params = table.init_model_params(jax.random.key(0), BIASED)
    kinds = table.matrices(params)
    for one in table.placements(BIASED):
        holder = kinds if one.layer is None else kinds.blocks[one.layer]
        assert getattr(holder, one.row.field) == (len(next(iter(one.tensors.values()))) == 2)


def test_every_tensor_has_a_name_of_its_own_in_gguf():
    names = [tensor.gguf for row in (*table.MODEL_PARAMETERS, *table.BLOCK_PARAMETERS) for tensor in row.tensors]
    assert len(set(names)) == len(names)
    assert {"token_embd.weight", "output.weight", "output_norm.weight", "blk.{layer}.attn_q.weight"} <= set(names)
    assert {"blk.{layer}.attn_output.bias", "blk.{layer}.ffn_gate.weight", "blk.{layer}.attn_k_norm.weight"} <= set(
        names
    )

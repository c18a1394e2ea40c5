"""Every kind of checkpoint cut over eight devices, against transformers and against one device. Run by hand where
weights or their sharding are changed, as it takes two minutes: pytest --devices 8 tests/mesh/kinds_on_eight_devices.py
"""

import functools

import jax
import numpy as np
import pytest
from checkpoints import reference_logits, write_checkpoint

from llama_core import load_checkpoint, model_forward
from llama_core.model.mesh import sharding
from llama_core.model.mesh.sharding import MeshError, mesh_of

EIGHT = dict(num_key_value_heads=8, intermediate_size=256, hidden_size=256, num_hidden_layers=2)
TOKENS = np.random.default_rng(0).integers(3, 300, (2, 8))  # so few that kernels round nothing


def write(folder, **changes):
    return folder, write_checkpoint(folder, **{**EIGHT, **changes})


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A checkpoint whose every axis divides, in groups of small numbers too."""
    return write(tmp_path_factory.mktemp("cut"))


def forward(model):
    """The logits of TOKENS, computed on all devices that have a part of the model."""
    mesh = mesh_of(model.params)
    params = sharding.with_collectives(model.params, model.config, mesh)
    function = functools.partial(model_forward, config=sharding.part_of(model.config, mesh), training=True)
    return np.asarray(sharding.jit_over(mesh, function, (params, TOKENS), donates=False)(params, TOKENS)[0])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(tie_word_embeddings=True),
        dict(family="Qwen2", num_attention_heads=16),  # biases, and groups of two query heads
        dict(family="Qwen3", head_dim=16),  # norms of queries and keys
        dict(attention_bias=True, mlp_bias=True),
        dict(num_key_value_heads=2),  # attention is whole on every device
        dict(intermediate_size=100, vocab_size=301),  # feed-forward and vocabulary are
    ],
    ids=["untied", "tied", "qwen2", "qwen3", "biases", "few heads", "odd widths"],
)
def test_logits_are_those_of_transformers_and_of_one_device(tmp_path, changes):
    folder, reference = write(tmp_path, **changes)
    ours, one = (forward(load_checkpoint(folder, mesh=devices)) for devices in (8, 1))
    np.testing.assert_allclose(ours, reference_logits(reference, TOKENS), atol=1e-4)
    np.testing.assert_allclose(ours, one, atol=1e-5)


@pytest.mark.parametrize("quantize", ["bf16", "int8", "q8", "q4"])
@pytest.mark.parametrize("kernels", ["off", "on"])
def test_small_weights_are_cut_in_whole_groups(cut, quantize, kernels):
    ours, one = (
        forward(load_checkpoint(cut[0], quantize=quantize, kernels=kernels, mesh=devices)) for devices in (8, 1)
    )
    np.testing.assert_allclose(ours, one, atol=1e-5)


def test_groups_that_would_be_parted_are_refused(tmp_path):
    folder, _ = write(tmp_path, intermediate_size=128)
    with pytest.raises(MeshError, match="--mesh 8: the rows of w_down have 128 small numbers in groups of 32"):
        load_checkpoint(folder, quantize="q8", mesh=8)


def test_a_mesh_that_divides_nothing_is_refused(tmp_path):
    folder, _ = write(tmp_path, num_key_value_heads=4, intermediate_size=100)
    with pytest.raises(MeshError, match="neither the 4 key/value heads nor the 100 hidden units"):
        load_checkpoint(folder, mesh=8)


def test_nothing_is_put_on_a_device_but_what_belongs_there(cut, monkeypatch):
    """While a model is loaded too."""
    monkeypatch.setattr(jax, "device_put", None)
    model = load_checkpoint(cut[0], mesh=8)
    assert model.devices == 8 and len({part.device for part in model.params.norm.addressable_shards}) == 8

"""Inside the model: the last layer's guess is the answer, and attention is what transformers computes."""

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint

from llama_core import load_checkpoint
from llama_core.model.lens import GUESSES, InspectionError, inspect

IDS = [0, 7, 42, 5, 300, 8, 19, 3, 77, 12]


@pytest.fixture(scope="module")
def inside(model):
    return inspect(model.params, model.config, IDS)


@pytest.fixture(scope="module")
def reference(checkpoint):
    """The transformers model's own account of the same sequence."""
    network = checkpoint[1]
    network.set_attn_implementation("eager")
    with torch.no_grad():
        found = network(torch.tensor([IDS]), output_attentions=True, output_hidden_states=True)
    network.set_attn_implementation("sdpa")
    return network, found


def test_the_last_row_is_the_models_answer(inside, reference):
    shares = reference[1].logits[0, -1].softmax(-1)
    best = shares.topk(GUESSES)
    assert inside.ids[-1].tolist() == best.indices.tolist()
    np.testing.assert_allclose(inside.shares[-1], best.values, atol=1e-5)


def test_each_layer_is_read_as_if_it_were_the_last(inside, reference):
    network, found = reference
    with torch.no_grad():
        for layer in range(network.config.num_hidden_layers - 1):  # transformers' last entry is normed already
            shares = network.lm_head(network.model.norm(found.hidden_states[layer + 1]))[0, -1].softmax(-1)
            assert inside.ids[layer].tolist() == shares.topk(GUESSES).indices.tolist()


def test_attention_is_that_of_transformers(inside, reference):
    for layer, weights in enumerate(reference[1].attentions):
        np.testing.assert_allclose(inside.attention[layer], weights[0, :, -1], atol=1e-5)


def test_a_sequence_must_be_there_and_fit(model):
    with pytest.raises(InspectionError, match="0 tokens"):
        inspect(model.params, model.config, [])


@pytest.mark.parametrize("changes", [{"attention_bias": True}, {"head_dim": 16}], ids=["biases", "wide heads"])
def test_attention_of_other_kinds(changes, tmp_path):
    network = write_checkpoint(tmp_path, **changes)
    network.set_attn_implementation("eager")
    ours = load_checkpoint(tmp_path)
    with torch.no_grad():
        found = network(torch.tensor([IDS]), output_attentions=True).attentions
    inside = inspect(ours.params, ours.config, IDS)
    for layer, weights in enumerate(found):
        np.testing.assert_allclose(inside.attention[layer], weights[0, :, -1], atol=1e-5)

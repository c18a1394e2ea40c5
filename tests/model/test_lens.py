"""Inside the model: the last layer's guess is the answer, and attention is what transformers computes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint

from llama_core import load_checkpoint
from llama_core.model.lens import CHUNK, GUESSES, InspectionError, inspect

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("family, length", [("Llama", CHUNK), ("Mistral", 2 * CHUNK + 5)])
def test_a_sequence_of_several_chunks_is_what_transformers_computes_at_once(family, length, tmp_path):
    changes = {
        "max_position_embeddings": 1024,
        "vocab_size": 320,
        **({"sliding_window": 100} if family == "Mistral" else {}),
    }
    network = write_checkpoint(tmp_path, family=family, **changes)
    network.set_attn_implementation("eager")
    ours, sequence = load_checkpoint(tmp_path), np.random.default_rng(length).integers(3, 300, length).tolist()
    with torch.no_grad():
        found = network(torch.tensor([sequence]), output_attentions=True)
    inside = inspect(ours.params, ours.config, sequence)
    best = found.logits[0, -1].softmax(-1).topk(GUESSES)
    assert inside.ids[-1].tolist() == best.indices.tolist()
    np.testing.assert_allclose(inside.shares[-1], best.values, atol=1e-5)
    for layer, weights in enumerate(found.attentions):
        np.testing.assert_allclose(inside.attention[layer], weights[0, :, -1], atol=1e-5)


def test_ids_that_cannot_be_drawn_have_no_share(model, inside):
    likeliest = inside.ids[-1]
    drawable = np.arange(model.config.vocab_size) != likeliest[0]
    without = inspect(model.params, model.config, IDS, drawable)
    assert without.ids[-1][:-1].tolist() == likeliest[1:].tolist()
    np.testing.assert_allclose(without.shares[-1][:-1], inside.shares[-1][1:] / (1 - inside.shares[-1][0]), rtol=1e-4)


MEASURE = """
import sys
from llama_core.model.config import LlamaConfig  # sets XLA's flags before jax is imported
import jax
from llama_core.model.lens import inspect, inspection_bytes
from llama_core.model.params import init_model_params
from llama_core.runtime.host_memory import keep_freed_memory, return_freed_memory

def memory(row):
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(row))

keep_freed_memory()
config = LlamaConfig(vocab_size=16384, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
                     num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=4096)
params = jax.block_until_ready(init_model_params(jax.random.key(0), config))
ids = [5] * 4000
inspect(params, config, ids[:1025])  # compiled for lengths up to 4096
return_freed_memory()
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here on
before = memory("VmRSS")
inspect(params, config, ids)
print(memory("VmHWM") - before, inspection_bytes(config, len(ids)))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not tell the peak")
def test_it_takes_no_more_memory_than_the_plan_says():
    run = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, timeout=300)
    peak, planned = map(int, run.stdout.split())
    assert peak < planned + 16e6, run.stderr
    assert planned < 8 * 4096**2  # a byte for each score of one layer: with all scores at once it were many times that

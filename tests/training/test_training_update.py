"""The mathematics of an update against PyTorch."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from checkpoints import TINY

from llama_core import load_checkpoint
from llama_core.model.params import named_tensors
from llama_core.training import update as update_room
from llama_core.training.data import Rows
from llama_core.training.options import TrainingError
from llama_core.training.run import find_start

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def random_rows(seed=0, batch=4, length=16):
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, 300, (batch, length + 1)).astype(np.int32)
    return Rows(tokens, (generator.random((batch, length)) < 0.7).astype(np.float32))


def torch_losses(options, params, rows):
    """Ten steps of the same in PyTorch: its own AdamW, clipping, and a cross-entropy over the weighted tokens."""
    config = find_start(options).config
    shape = {**TINY, "num_hidden_layers": config.num_hidden_layers, "initializer_range": 0.02}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    model.load_state_dict({name: torch.tensor(np.array(leaf)) for name, leaf in named_tensors(config, params)})
    matrices = [leaf for leaf in model.parameters() if leaf.ndim > 1]
    vectors = [leaf for leaf in model.parameters() if leaf.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    rate, losses = update_room.learning_rate(options), []
    for step, batch in enumerate(rows):
        for group in adamw.param_groups:
            group["lr"] = float(rate(step))
        tokens, weights = torch.tensor(batch.tokens).long(), torch.tensor(batch.weights)
        logits = model(tokens[:, :-1]).logits
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        loss = (each * weights).sum() / weights.sum()
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        adamw.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ten_steps_are_those_of_pytorch(options, accumulate):
    options = dataclasses.replace(options, steps=10, learning_rate=3e-3, accumulate=accumulate, clip=0.5)
    start = find_start(options)
    params, rows = start.make_params(), [random_rows(seed) for seed in range(10)]
    expected = torch_losses(options, params, rows)
    update, state = update_room.compile_update(start.config, options), update_room.init_state(params, options)
    losses = []
    for batch in rows:
        state, loss = update(state, batch)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-3, rtol=0)
    assert losses[-1] != pytest.approx(losses[0], abs=0.01)


def test_the_learning_rate_climbs_and_falls(options):
    rate = update_room.learning_rate(
        dataclasses.replace(options, steps=100, warmup=10, learning_rate=0.5, final_rate=0.1)
    )
    values = [float(rate(step)) for step in range(101)]
    assert values[0] == pytest.approx(0.05) and values[10] == pytest.approx(0.5) and max(values) == values[10]
    assert values[55] == pytest.approx(0.05 + 0.45 / 2) and values[100] == pytest.approx(0.05)


def test_rounded_weights_are_not_trained(options):
    model = load_checkpoint("random:tiny", quantize="q8", kernels="off")
    with pytest.raises(TrainingError, match='cannot be trained; load the model with quantize="none"'):
        update_room.init_state(model.params, options)

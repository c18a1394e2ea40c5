"""What holds of a model that is cut over eight devices; virtual ones, which `pytest --devices 8` makes of a CPU."""

import functools
import re
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from llama_core import Engine, LlamaConfig, SamplingParams, model_forward
from llama_core.model.mesh import sharding
from llama_core.model.params import build_params
from llama_core.runtime.forms import Form

CONFIG = LlamaConfig(
    vocab_size=320,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=16,
    num_key_value_heads=8,
    max_position_embeddings=128,
    tie_word_embeddings=True,
)
FORM = Form(chunk_sizes=(8, 16), layers_per_group=2, max_block_steps=8)
COLLECTIVE = re.compile(r"= \S+ (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


def params_on(devices):
    noise = np.random.default_rng(0)

    def make(placement):
        weight = noise.normal(scale=placement.shape[-1] ** -0.5, size=placement.shape).astype(np.float32)
        return sharding.place(placement, weight if placement.row.is_matrix else 1 + weight, devices)

    return build_params(CONFIG, make)


@pytest.fixture(scope="module")
def one():
    return params_on(1)


@pytest.fixture(scope="module")
def cut():
    return params_on(8)


@pytest.fixture(scope="module")
def engine(cut):
    with Engine(SimpleNamespace(params=cut, config=CONFIG), slots=1, max_seq_len=128, form=FORM) as engine:
        yield engine


@pytest.fixture(scope="module")
def logits_after(one):
    """The logits after these ids, from the whole sequence on one device."""
    forward = jax.jit(functools.partial(model_forward, config=CONFIG, training=True))
    return lambda ids: np.asarray(forward(one, np.array([(ids + [0] * 64)[:64]]))[0][0, len(ids) - 1])


def test_an_engine_finds_the_logits_of_one_device(engine, logits_after):
    """The prompt takes three chunks."""
    ids = np.random.default_rng(0).integers(3, 300, 40).tolist()
    np.testing.assert_allclose(engine.next_token_logits(ids), logits_after(ids), atol=1e-5)
    assert engine.device.startswith("8 devices (CPU")


def test_an_engine_writes_what_one_device_writes(engine, logits_after):
    ids = [7, 8, 9]
    for token in engine.submit(ids, SamplingParams(temperature=0.0, max_new_tokens=20, ignore_eos=True)):
        assert token.id == logits_after(ids).argmax()
        ids = [*ids, token.id]
    assert len(ids) == 23


def test_devices_wait_for_each_other_twice_a_layer_and_no_more(engine):
    """Beside that once for the embedding and once for the scores of the head, because the vocabulary is cut."""
    L = CONFIG.num_hidden_layers
    expected = {
        "embed": {"all-reduce": 1},
        "prefill": {"all-reduce": 2 * L},
        "sample_first": {"all-gather": 1},
        "decode": {"all-reduce": 2 * L + 1, "all-gather": 1},
    }
    for name, program in engine._scheduler.programs.compiled.items():
        assert Counter(COLLECTIVE.findall(program.as_text())) == expected.get(name[0], {}), name


def test_each_device_has_its_eighth_of_weights_and_cache(engine, cut):
    """But for the norms, which are whole everywhere."""
    norms = 4 * (2 * CONFIG.num_hidden_layers + 1) * CONFIG.hidden_size
    for arrays, whole in ((cut, norms), (engine._scheduler.programs.state.cache, 0)):
        shares = Counter()
        for leaf in jax.tree.leaves(arrays):
            shares.update({part.device: part.data.nbytes for part in leaf.addressable_shards})
        everything = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
        assert set(shares.values()) == {(everything - whole) // 8 + whole} and len(shares) == 8
    assert sharding.share_of_weights(CONFIG, 8) == pytest.approx(shares_of(cut))


def shares_of(params):
    mine = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
    return mine / params.nbytes


def test_one_device_compiles_what_it_did_before(one):
    """Without a mesh nothing is wrapped or placed: the program is that of the function alone."""
    assert sharding.with_collectives(one, CONFIG, sharding.mesh_of(one)) is one
    assert sharding.part_of(CONFIG, None) is CONFIG
    function, tokens = functools.partial(model_forward, config=CONFIG, training=True), np.array([[5, 6, 7]])
    ours = sharding.jit_over(None, function, (one, tokens), donates=False)
    assert ours.lower(one, tokens).as_text() == jax.jit(function).lower(one, tokens).as_text()

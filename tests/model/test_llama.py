"""The transformer against transformers, NumPy in float64, and itself cut into pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import STORIES, TINY, forward, reference_logits, reference_model

from llama_core import load_checkpoint, model_forward
from llama_core.model import llama as rooms
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.linear import MANY_ROWS
from llama_core.model.params import stack_params


def converted(theirs):
    """The configuration and parameters of a transformers model, through our table."""
    config = LlamaConfig.from_dict(theirs.config.to_dict())
    tensors = theirs.state_dict()
    return config, stack_params(config, lambda name, shape: tensors[name].numpy())


@pytest.fixture(scope="module")
def grouped():
    return converted(reference_model())


def random_tokens(length, batch=1, seed=0):
    return np.random.default_rng(seed).integers(2, TINY["vocab_size"], (batch, length)).astype(np.int32)


def test_logits_are_those_of_transformers():
    """test_families.py has every kind of model; here one row and so many that products are computed in another way."""
    theirs = reference_model()
    config, params = converted(theirs)
    for length in (1, MANY_ROWS // 2 + 2):
        tokens = random_tokens(length, batch=2)
        logits, _ = forward(params, tokens, config)
        assert logits.dtype == jnp.float32
        np.testing.assert_allclose(logits, reference_logits(theirs, tokens), atol=2e-4)


@pytest.mark.parametrize("cuts", [[20, 40], [1, 21], [20, 21]])
def test_a_prompt_in_pieces_gives_the_same_logits(grouped, cuts):
    """Also the test that the mask knows the cache's position, which the seed document's did not."""
    config, params = grouped
    tokens = random_tokens(41)
    whole, _ = forward(params, tokens, config)
    cache, pieces = rooms.init_cache(config, 1, 64), []
    edges = [0, *cuts, 41]
    for start, end in zip(edges, edges[1:], strict=False):
        logits, cache = forward(params, tokens[:, start:end], config, cache, start)
        pieces.append(logits)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=2e-5)


def test_token_by_token_with_rows_at_different_places(grouped):
    config, params = grouped
    tokens = random_tokens(20, batch=2)
    whole, _ = forward(params, tokens, config)
    cache = rooms.init_cache(config, 2, 64)
    _, cache = forward(params, tokens[:, :12], config, cache, 0)
    # Row 0 goes on at 12; row 1 steps back to 5 and writes over what it had.
    step = np.stack([tokens[0, 12:13], tokens[1, 5:6]])
    logits, _ = forward(params, step, config, cache, jnp.array([12, 5]))
    np.testing.assert_allclose(logits[:, 0], np.stack([whole[0, 12], whole[1, 5]]), atol=2e-5)


def test_nothing_after_a_token_changes_its_logits(grouped):
    config, params = grouped
    tokens = random_tokens(41)
    changed = tokens.copy()
    changed[0, 8:] = 5
    before, after = (forward(params, ids, config)[0][0, :8] for ids in (tokens, changed))
    np.testing.assert_array_equal(before, after)


def test_a_real_trained_llama_gives_its_published_logits():
    if not STORIES.is_dir():
        pytest.skip("stories260K is not here")
    model, expected = load_checkpoint(STORIES), np.load(STORIES / "expected_logits.npz")
    logits, _ = forward(model.params, expected["input_ids"][None].astype(np.int32), model.config)
    np.testing.assert_allclose(logits[0, :64], expected["logits_first64"], atol=2e-4)
    np.testing.assert_array_equal(jnp.argmax(logits[0], axis=-1), expected["argmax"])


def test_rotary_angles_are_computed_once():
    """The seed document computed them on every call."""
    config = NAMED_CONFIGS["tiny"]
    assert rooms.precompute_freqs_cis(config, 64) is rooms.precompute_freqs_cis(config, 64)


def test_scores_depend_on_distance_alone():
    config = NAMED_CONFIGS["tiny"]
    table = jnp.asarray(rooms.precompute_freqs_cis(config, 1100))
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, config.head_dim))

    def score(at_q, at_k):
        return jnp.sum(rooms.apply_rotary_emb(q, table[None, [at_q]]) * rooms.apply_rotary_emb(k, table[None, [at_k]]))

    np.testing.assert_allclose(score(7, 3), score(1007, 1003), rtol=1e-3)
    assert abs(score(7, 3) - score(7, 5)) > 1e-2


def test_rms_norm_is_the_formula_in_float32_whatever_comes_in():
    x = np.random.default_rng(0).normal(0, 3, (4, 64)).astype(np.float32)
    weight = np.random.default_rng(1).uniform(0.5, 2, 64).astype(np.float32)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(rooms.rms_norm(jnp.asarray(x), jnp.asarray(weight), 1e-5), expected, rtol=1e-5)
    big = jnp.full((1, 64), 300, jnp.float16)  # its square is infinite in float16
    np.testing.assert_allclose(rooms.rms_norm(big, jnp.ones(64, jnp.float16), 1e-5), np.ones((1, 64)), rtol=1e-3)


def test_bfloat16_stays_near_float32(grouped):
    config, params = grouped
    tokens = random_tokens(41)
    exact, _ = forward(params, tokens, config)
    rounded, _ = forward(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), tokens, config)
    assert rounded.dtype == jnp.float32
    assert float(jnp.mean(jnp.abs(rounded - exact))) < 0.03 * float(jnp.std(exact))


def test_the_cache_keeps_its_shape_and_is_written_in_place(grouped):
    """The seed document's cache grew by concatenation: a new shape and a new compilation for every token."""
    config, params = grouped
    step = jax.jit(
        lambda cache, token, position: model_forward(params, token, config, cache, position)[1], donate_argnums=0
    )
    cache = rooms.init_cache(config, 1, 32)
    for position in range(10):
        old, cache = cache, step(cache, random_tokens(1), jnp.int32(position))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
        assert jax.tree.map(jnp.shape, cache.keys) == ((1, 4, 32, 8),) * 2
    assert step._cache_size() == 1


def loss(params, tokens, config):
    logits, _ = model_forward(params, tokens[:, :-1], config, training=True)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)
    return -jnp.mean(picked)


def test_gradients_are_the_finite_differences(grouped):
    config, params = grouped
    tokens = random_tokens(16, batch=2)
    slope = jax.jit(jax.grad(loss), static_argnums=2)(params, tokens, config)
    value = jax.jit(loss, static_argnums=2)
    leaves, tree = jax.tree.flatten(params)
    for i, gradient in enumerate(jax.tree.leaves(slope)):
        direction = gradient / jnp.linalg.norm(gradient)

        def moved(step, i=i, direction=direction):
            return value(tree.unflatten([*leaves[:i], leaves[i] + step * direction, *leaves[i + 1 :]]), tokens, config)

        difference = (moved(1e-2) - moved(-1e-2)) / 2e-2
        np.testing.assert_allclose(difference, jnp.linalg.norm(gradient), rtol=2e-2, atol=2e-4)


def test_dropout_is_active_only_when_training(grouped):
    config, params = grouped
    tokens, key = random_tokens(41), jax.random.key(3)
    run = jax.jit(model_forward, static_argnames=("config", "training", "dropout_rate"))
    plain, _ = forward(params, tokens, config)
    serving, _ = run(params, tokens, config, dropout_rate=0.5, key=key)
    np.testing.assert_array_equal(serving, plain)
    trained, cache = run(params, tokens, config, training=True, dropout_rate=0.5, key=key)
    assert cache is None and float(jnp.max(jnp.abs(trained - plain))) > 0.1
    without, _ = run(params, tokens, config, training=True)
    np.testing.assert_allclose(without, plain, atol=1e-5)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    dropped = np.asarray(rooms.dropout(jnp.ones((1, 200, 500)), 0.3, jax.random.key(0)))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((dropped == 0).mean() - 0.3) < 0.01


def test_what_does_not_fit_is_said(grouped):
    config, params = grouped
    with pytest.raises(ValueError, match="positions 30 to 34 do not fit a cache of 32"):
        model_forward(params, random_tokens(5), config, rooms.init_cache(config, 1, 32), 30)
    with pytest.raises(ValueError, match="dropout needs a key"):
        model_forward(params, random_tokens(5), config, training=True, dropout_rate=0.1)


def test_what_lies_past_the_cache_is_dropped_not_written_elsewhere(grouped):
    config, params = grouped
    cache = rooms.init_cache(config, 1, 8)
    freqs_cis = jnp.asarray(rooms.precompute_freqs_cis(config, 8))

    @jax.jit
    def write(tokens, cache):
        context = rooms.make_attention_context(jnp.array([6]), 4, freqs_cis)
        return rooms.hidden_states(params, tokens, config, context, cache)[1]

    cache = write(random_tokens(4), cache)
    assert not np.any(cache.keys[0][:, :, :6]) and np.all(np.any(cache.keys[0][:, :, 6:], axis=-1))


def test_this_machine_adds_up():
    """jaxlib 0.10.2 is wrong here by 0.8 % without the guard in runtime/xla_flags.py (jax-ml/jax#39103)."""
    rows, vector = np.random.default_rng(0).normal(size=(2, 32_769, 64)).astype(np.float32), np.ones(64, np.float32)
    sums = jax.jit(jax.vmap(lambda row: jnp.sum(jnp.square(row[:, None].T @ vector))))(rows[0])
    np.testing.assert_allclose(sums, (rows[0].astype(np.float64).sum(1)) ** 2, rtol=2e-3, atol=1e-3)
    total = jax.jit(lambda a: jnp.sum(jax.vmap(lambda row: jnp.square(row @ vector))(a)))(rows[1])
    np.testing.assert_allclose(total, np.sum(rows[1].astype(np.float64).sum(1) ** 2), rtol=1e-4)

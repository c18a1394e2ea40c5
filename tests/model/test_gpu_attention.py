"""The forms of attention for GPUs against the plain formula, with XLA in the place of cuDNN."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gpu_products import FUSED
from plain_attention import reference

from llama_core.model.attention import AttentionContext
from llama_core.model.gpu_attention import MODEL_FORMS, join
from llama_core.model.kv_cache import HEADS_FIRST, POSITIONS_FIRST, read_layer, write_layer, write_token

pytestmark = pytest.mark.usefixtures("quickly_compiled")
S, K, H, E = 4, 2, 6, 8
FORMS = {"masked": MODEL_FORMS["masked"], "cuDNN's, by XLA": FUSED}


@functools.partial(jax.jit, static_argnames=("form", "sliding", "window"))
def attend(q, new, layer, positions, rows, *, form, sliding, window=None):
    """Over keys and values that are given as [S, C, K, E]."""
    angles = jnp.zeros((*positions.shape, E // 2), jnp.complex64)
    context = AttentionContext(positions, angles, rows, None, sliding, window, form=form)
    if form.layout == HEADS_FIRST:
        layer = tuple(half.transpose(0, 2, 1, 3) for half in layer)
    return form.attend_to_cache(q, new, layer, context)


def filled_layer(C, seed=0):
    """Keys and values of a layer, [S, C, K, E]."""
    return np.random.default_rng(seed).normal(size=(2, S, C, K, E)).astype(np.float32)


def one_token(rows):
    """Its keys and values, which are in the cache already."""
    return (np.zeros((rows, 1, K, E), np.float32),) * 2


def heads_first(layer):
    return layer.transpose(0, 2, 1, 3)


@pytest.mark.parametrize("sliding", [None, 1, 3, 30])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_one_token_of_each_slot_sees_what_the_formula_says(form, sliding):
    keys, values = filled_layer(41)
    q = np.random.default_rng(1).normal(size=(S, 1, H, E)).astype(np.float32)
    positions = np.array([[0], [40], [7], [41]], np.int32)  # the last slot takes no part
    found = attend(q, one_token(len(q)), (keys, values), positions, None, form=form, sliding=sliding)
    expected = reference(q[:3], heads_first(keys), heads_first(values), positions[:3], sliding)
    np.testing.assert_allclose(found[:3], expected, atol=1e-5)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("slot", [0, 2, 3])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_one_slot_alone_sees_its_own_cache(form, slot):
    keys, values = filled_layer(33)
    q = np.random.default_rng(2).normal(size=(1, 1, H, E)).astype(np.float32)
    positions = np.array([[17]], np.int32)
    rows = np.array([slot], np.int32)
    found = attend(q, one_token(len(q)), (keys, values), positions, rows, form=form, sliding=None)
    expected = reference(q, heads_first(keys)[rows], heads_first(values)[rows], positions, None)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "start, length, C, sliding",
    [
        *itertools.product((0, 1, 52), (12,), (64,), (None, 1, 5, 12, 40)),
        *itertools.product((29,), (9,), (64,), (None, 1, 5, 12, 40)),
        *itertools.product((40,), (12,), (61,), (None, 5)),  # an odd length
    ],
)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_chunk_sees_itself_and_what_is_before_it(form, start, length, C, sliding):
    """The chunk has 12 places, of which `length` hold tokens."""
    keys, values = filled_layer(C)
    q = np.random.default_rng(3).normal(size=(1, 12, H, E)).astype(np.float32)
    end = start + length
    new = [np.zeros((1, 12, K, E), np.float32) for _ in range(2)]
    for part, half in zip(new, (keys, values), strict=True):
        part[0, :length] = half[2, start:end]
    positions = np.where(np.arange(12) < length, start + np.arange(12), C)[None].astype(np.int32)
    # What lies behind the chunk, and in other slots, is somebody else's.
    keys[2, end:], values[2, end:] = 1e4, 1e4
    rows = np.array([2], np.int32)
    found = attend(q, tuple(new), (keys, values), positions, rows, form=form, sliding=sliding)
    real = positions[:, :length]
    expected = reference(q[:, :length], heads_first(keys)[rows], heads_first(values)[rows], real, sliding)
    np.testing.assert_allclose(found[:, :length], expected, atol=1e-5)


def test_a_window_that_the_host_knows_is_all_that_is_read():
    keys, values = filled_layer(64)
    q = np.random.default_rng(4).normal(size=(S, 1, H, E)).astype(np.float32)
    positions = np.array([[3], [15], [7], [0]], np.int32)
    expected = reference(q, heads_first(keys), heads_first(values), positions, None)
    keys[:, 16:], values[:, 16:] = np.nan, np.nan
    found = attend(q, one_token(len(q)), (keys, values), positions, None, form=FORMS["masked"], sliding=None, window=16)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_two_parts_join_to_attention_over_both(scale):
    """Also where one of the two has nearly all of the weight."""
    rng = np.random.default_rng(5)
    scores = (scale * rng.normal(size=(2, 3, 4, 30))).astype(np.float32)
    values = rng.normal(size=(2, 4, 30, E)).astype(np.float32)

    def part(seen):
        weights = np.exp(scores[..., seen].astype(np.float64))
        total = weights.sum(-1)
        mixed = np.einsum("bths,bhse->bthe", weights / total[..., None], values[:, :, seen])
        return jnp.asarray(mixed, jnp.float32), jnp.asarray(np.log(total), jnp.float32)

    whole, _ = part(slice(None))
    np.testing.assert_allclose(join(part(slice(0, 11)), part(slice(11, 30))), whole, atol=1e-5)
    nothing = jnp.full((2, 3, 4, E), 7.0), jnp.full((2, 3, 4), -1e30)
    np.testing.assert_allclose(join(part(slice(None)), nothing), whole, atol=1e-6)


@pytest.mark.parametrize("layout", [HEADS_FIRST, POSITIONS_FIRST])
def test_what_is_written_is_read_back_whatever_the_order_of_axes(layout):
    layer = jnp.zeros(layout.shape(S, K, 10, E))
    new = jax.random.normal(jax.random.key(6), (2, 3, K, E))
    rows, positions = jnp.array([3, 1]), jnp.array([[2, 3, 4], [7, 8, 10]])  # the last one is past the end
    written = write_layer(layer, new, rows, positions, layout)
    read = read_layer(written, rows, 2, 3, layout)
    np.testing.assert_array_equal(read[0] if layout == POSITIONS_FIRST else heads_first(read)[0], new[0])
    assert int(jnp.sum(written != 0)) == 5 * K * E
    one = write_token(layer, new[:1, :1], rows[:1], positions[:1, :1], layout)
    np.testing.assert_array_equal(one, write_layer(layer, new[:1, :1], rows[:1], positions[:1, :1], layout))

"""The two formats of small numbers against NumPy in float64 and against the blocks of GGUF files."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gpu_products import GPU_PRODUCTS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llama_core.model.linear import FEW_ROWS, FEW_ROWS_IN_GROUPS, embed, linear, normed_product_of_one_row, scales_last
from llama_core.model.quantization import (
    GROUP,
    ROUNDINGS,
    Int4Matrix,
    Int8Matrix,
    as_int8,
    dequantize,
    pack_nibbles,
    round_to_int4,
    round_to_int8,
    stack_rows,
    unpack_nibbles,
)

# The error of evenly spaced numbers, as a share of the deviation of normal noise, for 32 numbers in a group (int8: a
# row of 1536).
LARGEST_ERROR = {"bf16": 0.002, "int8": 0.012, "q8": 0.008, "q4": 0.09}
WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 70)),
    elements=st.floats(-1e4, 1e4, width=32) | st.floats(-(2.0**-100), 2.0**-100, width=32) | st.just(0.0),
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_hand(matrix):
    """What a matrix stands for, one number after the other, in float64."""
    rows, scales = (
        matrix.quants.reshape(-1, matrix.quants.shape[-1]),
        matrix.scales.reshape(-1, matrix.scales.shape[-1]),
    )
    out = np.zeros((len(rows), matrix.columns))
    for row, column in np.ndindex(out.shape):
        if isinstance(matrix, Int4Matrix):
            group, place = divmod(column, 32)
            byte = int(rows[row, 16 * group + place % 16])
            quant = byte >> 4 if place >= 16 else byte & 15
        else:
            group, quant = column // matrix.group, int(rows[row, column])
        out[row, column] = quant * float(scales[row, group])
        if matrix.minimums is not None:
            out[row, column] += float(matrix.minimums.reshape(scales.shape)[row, group])
    return out.reshape(matrix.shape)


@pytest.mark.parametrize("name", ROUNDINGS)
@pytest.mark.parametrize("columns", [32, 172, 1536])
def test_rounding_keeps_noise_within_the_error_of_the_format(name, columns):
    weight = noise(64, columns)
    matrix = ROUNDINGS[name].round(weight)
    error = np.asarray(dequantize(matrix)) - weight
    assert matrix.shape == weight.shape and matrix.nbytes <= ROUNDINGS[name].bytes_of(weight.shape)
    assert np.sqrt(np.mean(error**2)) < LARGEST_ERROR[name]


@settings(deadline=None, max_examples=60)
@given(weight=WEIGHTS, whole_rows=st.booleans())
def test_rounding_to_8_bits_is_never_off_by_more_than_half_a_step(weight, whole_rows):
    matrix = round_to_int8(weight, whole_rows)
    padded = np.pad(weight, [(0, 0), (0, -weight.shape[1] % GROUP)])
    group = padded.shape[1] if whole_rows else GROUP
    steps = np.repeat(matrix.scales.astype(np.float64), group, axis=-1)[:, : weight.shape[1]]
    assert np.all(np.abs(by_hand(matrix) - weight) <= 0.501 * steps + 1e-40)
    largest = np.abs(padded.reshape(len(weight), -1, group)).max(-1)
    assert np.all(matrix.scales <= largest / 127 * 1.001 + 2.0**-24)


@settings(deadline=None, max_examples=60)
@given(weight=WEIGHTS)
def test_rounding_to_4_bits_is_never_off_by_more_than_a_step(weight):
    matrix = round_to_int4(weight)
    padded = np.pad(weight, [(0, 0), (0, -weight.shape[1] % GROUP)]).reshape(len(weight), -1, GROUP)
    span = np.ptp(padded.astype(np.float64), axis=-1)
    size = np.abs(padded).max(-1)
    allowed = np.repeat(span / 15 * 1.8 + size * 2e-3 + 1e-6, GROUP, axis=-1)[:, : weight.shape[1]]
    assert np.all(np.abs(by_hand(matrix) - weight) <= allowed)


def test_fitting_makes_the_error_of_4_bits_smaller_than_the_span_of_the_group_does():
    weight = noise(200, 64)
    grouped = weight.reshape(200, 2, 32)
    low, high = grouped.min(-1, keepdims=True), grouped.max(-1, keepdims=True)
    plain = np.rint((grouped - low) / (high - low) * 15) * (high - low) / 15 + low
    ours = np.asarray(dequantize(round_to_int4(weight))) - weight
    assert np.mean(ours**2) < 0.9 * np.mean((plain.reshape(weight.shape) - weight) ** 2)


@pytest.mark.parametrize("name", ["int8", "q8", "q4"])
def test_numbers_too_large_for_half_precision_keep_scales_in_float32(name):
    weight = noise(3, 40) * np.float32(1e30)
    matrix = ROUNDINGS[name].round(weight)
    assert matrix.scales.dtype == np.float32
    np.testing.assert_allclose(by_hand(matrix), weight, atol=3e29)


def test_nibbles_are_packed_as_gguf_packs_them():
    quants = np.random.default_rng(0).integers(0, 16, (4, 96)).astype(np.uint8)
    packed = pack_nibbles(quants)
    np.testing.assert_array_equal(unpack_nibbles(packed), quants)
    np.testing.assert_array_equal(unpack_nibbles(jnp.asarray(packed)), quants)
    blocks = np.zeros((4, 3, 18), np.uint8)
    blocks[..., :2] = np.ones(1, np.float16).view(np.uint8)
    blocks[..., 2:] = packed.reshape(4, 3, 16)
    theirs = gguf.quants.dequantize(blocks.reshape(4, -1), gguf.GGMLQuantizationType.Q4_0)
    np.testing.assert_array_equal(theirs + 8, quants)


def test_blocks_of_a_file_stand_for_the_same_numbers():
    """Q8_0 as a whole, against the reader of ggml-org."""
    blocks = gguf.quants.quantize(noise(6, 64), gguf.GGMLQuantizationType.Q8_0)
    by_block = blocks.reshape(6, 2, 34)
    scales = by_block[..., :2].copy().view(np.float16)[..., 0]
    matrix = Int8Matrix(by_block[..., 2:].view(np.int8).reshape(6, -1), scales, columns=64)
    np.testing.assert_array_equal(dequantize(matrix), gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0))


def a_matrix(kind, rows=6, columns=50, seed=0):
    if kind == "q4":
        return round_to_int4(noise(rows, columns, seed=seed))
    padded, generator = columns + -columns % 32, np.random.default_rng(seed)
    group = padded if kind == "int8" else 16 if "16" in kind else 32
    scales = generator.uniform(0.1, 1, (rows, padded // group)).astype("float16" if "half" in kind else "float32")
    quants = generator.integers(-128, 128, (rows, padded)).astype(np.int8)
    return Int8Matrix(quants, scales, -scales if "minimum" in kind else None, columns=columns)


KINDS = ("q4", "int8", "q8 half", "q8 16", "q8 minimum", "q8 16 minimum half")


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_stands_for_these_numbers(kind):
    matrix = a_matrix(kind)
    np.testing.assert_allclose(dequantize(matrix), by_hand(matrix), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(dequantize(as_int8(matrix, 16)), dequantize(matrix))


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_matrices_of_different_formats_are_stacked_without_rounding(first, second):
    one, two = a_matrix(first, rows=6), a_matrix(second, rows=4, seed=1)
    stacked = stack_rows([one, two], 2, (2, 5, 50))
    expected = np.concatenate([by_hand(one).reshape(2, 3, 50), by_hand(two).reshape(2, 2, 50)], axis=1)
    assert stacked.shape == expected.shape and isinstance(stacked.quants, np.ndarray)
    np.testing.assert_allclose(by_hand(stacked), expected, rtol=1e-6)
    if first == second:
        assert type(stacked) is type(one) and stacked.nbytes == one.nbytes + two.nbytes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_a_product_is_that_of_the_numbers(kind, rows):
    matrix, x = jax.tree.map(jnp.asarray, a_matrix(kind)), noise(rows, 50)
    product = jax.jit(linear)(jnp.asarray(x), matrix.reshape(2, 3, 50))
    np.testing.assert_allclose(product.reshape(rows, 6), x @ by_hand(a_matrix(kind)).T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS_IN_GROUPS, FEW_ROWS_IN_GROUPS + 1])
def test_the_products_for_gpus_are_those_of_the_numbers(kind, rows, monkeypatch):
    monkeypatch.setattr("llama_core.model.linear.PRODUCTS", GPU_PRODUCTS)
    matrix, x = jax.tree.map(jnp.asarray, a_matrix(kind)), noise(rows, 50)
    product = jax.jit(linear)(jnp.asarray(x), matrix.reshape(2, 3, 50))
    expected = np.float64(x) @ by_hand(a_matrix(kind)).T
    np.testing.assert_allclose(product.reshape(rows, 6), expected, atol=2e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_product_for_gpus_that_norms_one_row_is_that_of_the_numbers(kind):
    matrix, x, norm = jax.tree.map(jnp.asarray, a_matrix(kind)), noise(1, 1, 50), noise(50, seed=3)
    product = jax.jit(normed_product_of_one_row, static_argnums=3)(x, norm, matrix.reshape(2, 3, 50), 1e-5)
    wide = np.float64(x[0, 0])
    expected = (wide / np.sqrt(np.mean(wide**2) + 1e-5) * norm) @ by_hand(a_matrix(kind)).T
    np.testing.assert_allclose(product.reshape(6), expected, atol=2e-5 * np.abs(expected).max(), rtol=0)


def test_a_product_in_float16_does_not_overflow_before_the_scale():
    """Sums of whole numbers up to 127 are soon larger than float16 can be."""
    weight = np.full((4, 2048), 0.01, np.float32)
    matrix, x = jax.tree.map(jnp.asarray, round_to_int8(weight, whole_rows=True)), jnp.ones((40, 2048), jnp.float16)
    np.testing.assert_allclose(scales_last(x, matrix, jnp.float16), np.full((40, 4), 20.48), rtol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lookup_gives_the_rows_of_the_numbers(kind):
    matrix, tokens = jax.tree.map(jnp.asarray, a_matrix(kind)), np.array([[3, 3], [0, 5]])
    np.testing.assert_allclose(jax.jit(embed)(matrix, tokens), by_hand(a_matrix(kind))[tokens], rtol=1e-6, atol=1e-6)


def test_rows_cannot_be_cut():
    with pytest.raises(ValueError, match="rows of 50 numbers"):
        a_matrix("q4").reshape(3, 100)

"""The linear layer and the embedding lookup against NumPy, whichever row of the table computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llama_core.model.linear import MANY_ROWS, PRODUCTS, embed, linear
from llama_core.model.quantization import dequantize, round_to_bfloat16


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("rows", [1, 2, MANY_ROWS])
@pytest.mark.parametrize("outputs", [63, 64, 2048])
def test_every_number_of_rows_gives_the_product(rows, outputs):
    """One row times an even small weight, an odd one and a large one; a few rows; many."""
    x, weight = numbers(1, rows, 256), numbers(outputs, 256)
    product = jax.jit(linear)(x, weight)
    np.testing.assert_allclose(product, np.float64(x) @ np.float64(weight).T, atol=1e-3)


@pytest.mark.parametrize("way", PRODUCTS, ids=lambda way: way.multiply.__name__)
@pytest.mark.parametrize("rows", [1, 3])
def test_every_way_that_fits_gives_the_product(way, rows):
    x, weight = numbers(rows, 32), numbers(48, 32)
    if not isinstance(weight, way.weight_types) or not way.fits(rows, weight):
        pytest.skip("not for this shape")
    product = way.multiply(x, weight, dtype=jnp.float32)
    np.testing.assert_allclose(product, x @ weight.T, atol=1e-4)


def test_the_axes_of_a_weight_are_the_axes_of_the_product():
    x, weight = numbers(2, 3, 8), numbers(4, 5, 8)
    product = linear(x, weight)
    np.testing.assert_allclose(product, np.einsum("bti,koi->btko", x, weight), atol=1e-4)


def test_the_number_format_of_the_product_can_be_chosen():
    x, weight = jnp.ones((1, 1, 8), jnp.bfloat16), jnp.ones((4, 8), jnp.bfloat16)
    assert linear(x, weight).dtype == jnp.bfloat16 and linear(x, weight, jnp.float32).dtype == jnp.float32


def test_each_token_has_its_row_of_the_embedding():
    weight = numbers(10, 4)
    tokens = np.array([[3, 3], [0, 9]])
    np.testing.assert_array_equal(embed(weight, tokens), np.asarray(weight)[tokens])


def test_picking_rows_of_a_bfloat16_matrix_writes_out_no_others():
    weight, tokens = round_to_bfloat16(np.asarray(numbers(1000, 64))), np.array([[3, 999]])
    np.testing.assert_array_equal(embed(weight, tokens), np.asarray(dequantize(weight))[tokens])
    compiled = jax.jit(embed).lower(weight, tokens).compile().as_text()
    assert "bf16[1000,64]" in compiled and "f32[1000,64]" not in compiled

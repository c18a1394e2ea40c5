"""Native products against NumPy in float64: every instruction set, few rows and many, 1 to 4 threads, odd shapes."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.kernels import NATIVE, KernelError, prepare_kernels
from llama_core.kernels.library import INSTRUCTION_SETS
from llama_core.kernels.products import multiply
from llama_core.model.linear import NATIVE_ROWS, embed, linear
from llama_core.model.quantization import (
    Int8Matrix,
    as_int8,
    dequantize,
    round_to_bfloat16,
    round_to_int4,
    round_to_int8,
)
from llama_core.runtime.cores import usable_cores

WAYS = range(len(INSTRUCTION_SETS))
FORMATS = (
    "bfloat16",
    "bf16",
    "q8",
    "q8 float32",
    "q8 of 16",
    "q8 with minimum",
    "q8 of 16 with minimum",
    "q4",
    "q4 float32",
)


@pytest.fixture(autouse=True, scope="module")
def kernels():
    reason = prepare_kernels("auto")
    if reason is not None:
        pytest.skip(reason)
    yield
    NATIVE.set_threads(usable_cores())


def weight_of(kind, outputs, columns, generator):
    """A weight of this format, on the device."""
    numbers = generator.normal(size=(outputs, columns)).astype(np.float32)
    if kind == "bfloat16":
        return jnp.asarray(numbers, jnp.bfloat16)
    if kind == "bf16":
        return jax.tree.map(jnp.asarray, round_to_bfloat16(numbers))
    matrix = round_to_int4(numbers) if kind.startswith("q4") else round_to_int8(numbers)
    if "minimum" in kind:
        matrix = as_int8(round_to_int4(numbers))
    if "16" in kind:
        matrix = as_int8(matrix, 16)
        wobble = generator.uniform(0.5, 2, matrix.scales.shape).astype(np.float32)  # halves of a group differ
        matrix = dataclasses.replace(matrix, scales=(matrix.scales * wobble).astype(matrix.scales.dtype))
    if "float32" in kind:
        matrix = jax.tree.map(lambda part: part.astype(np.float32) if part.dtype == np.float16 else part, matrix)
    return jax.tree.map(jnp.asarray, matrix)


# A program a shape, not one for each of their operations.
written_out, multiplied = jax.jit(dequantize), jax.jit(multiply, static_argnames="instructions")


def numbers_of(weight):
    array = weight if isinstance(weight, jax.Array) else written_out(weight)
    return np.asarray(array, np.float64)


def call(x, weight, instructions):
    parts = (weight,) if isinstance(weight, jax.Array) else (weight.quants, weight.scales, weight.minimums)
    try:
        return np.asarray(multiplied(x, *parts, instructions=instructions))
    except jax.errors.JaxRuntimeError as problem:
        assert "no such instructions" in str(problem)
        pytest.skip("this processor has no such instructions")


def assert_product(found, x, weight):
    """Within what summing in float32 may lose: 2⁻²⁴ of the sum of absolute values for each of a few roundings. With
    tiles two numbers of 16 bits lose 2⁻¹⁵ at most."""
    numbers = numbers_of(weight)
    loss = 2.0**-15 if len(x) > NATIVE_ROWS and NATIVE.takes_many_rows else 64 * 2.0**-24
    allowed = loss * (np.abs(np.float64(x)) @ np.abs(numbers).T) + 1e-37
    assert found.shape == allowed.shape and np.all(np.abs(found - np.float64(x) @ numbers.T) <= allowed)


@pytest.mark.parametrize("instructions", WAYS, ids=INSTRUCTION_SETS)
@settings(deadline=None, max_examples=40)  # each shape is a program to compile
@given(
    kind=st.sampled_from(FORMATS),
    rows=st.integers(1, NATIVE_ROWS) | st.integers(NATIVE_ROWS + 1, 70),
    outputs=st.integers(1, 70),
    columns=st.integers(1, 200),
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_product_is_that_of_float64(instructions, kind, rows, outputs, columns, threads, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)).astype(np.float32)
    weight = weight_of(kind, outputs, columns, generator)
    NATIVE.set_threads(threads)
    assert_product(call(x, weight, instructions), x, weight)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["bfloat16", "q8", "q4"])
@pytest.mark.parametrize("rows", [2, 48])
def test_many_pieces_are_shared_by_any_number_of_threads(kind, threads, rows):
    """3000 outputs are over 20 pieces."""
    generator = np.random.default_rng(threads)
    x, weight = generator.normal(size=(rows, 576)).astype(np.float32), weight_of(kind, 3000, 576, generator)
    NATIVE.set_threads(threads)
    for _ in range(50):
        found = call(x, weight, -1)
    assert_product(found, x, weight)


def test_callers_at_the_same_time_get_their_own_products():
    generator = np.random.default_rng(0)
    weight = weight_of("q8", 2000, 320, generator)
    NATIVE.set_threads(2)
    xs = [generator.normal(size=(1, 320)).astype(np.float32) for _ in range(4)]
    found = [[] for _ in xs]

    def work(place):
        found[place] += [call(xs[place], weight, -1) for _ in range(30)]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, products in zip(xs, found, strict=True):
        assert len(products) == 30
        for product in products:
            assert_product(product, x, weight)


@pytest.mark.parametrize("instructions", WAYS, ids=INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rows", [5, 40])
def test_infinity_and_nan_stay_in_their_rows(instructions, kind, rows):
    generator = np.random.default_rng(1)
    x, weight = generator.normal(size=(rows, 70)).astype(np.float32), weight_of(kind, 33, 70, generator)
    x[1, 69], x[3, 0] = np.inf, np.nan
    found = call(x, weight, instructions)
    assert_product(np.delete(found, [1, 3], 0), np.delete(x, [1, 3], 0), weight)
    with np.errstate(invalid="ignore"):
        expected = np.float64(x) @ numbers_of(weight).T
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isposinf(found), np.isposinf(expected))


@pytest.mark.parametrize("instructions", WAYS, ids=INSTRUCTION_SETS)
def test_half_precision_scales_of_every_kind_are_decoded(instructions):
    """Zero, the subnormal, the smallest, the largest and negative ones, and infinity."""
    scales = np.array([[0, 2.0**-24, -(2.0**-20), 2.0**-14, 65504, -1.5, 1 / 3, np.inf]], np.float16).T
    matrix = Int8Matrix(np.ones((8, 32), np.int8), scales, columns=32)
    x = np.full((1, 32), 0.5, np.float32)
    found = call(x, jax.tree.map(jnp.asarray, matrix), instructions)
    np.testing.assert_array_equal(found[0], 16 * scales[:, 0].astype(np.float64))


@pytest.mark.parametrize("instructions", WAYS, ids=INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rows", [3, 20])
def test_zeros_and_denormals(instructions, kind, rows):
    weight = weight_of(kind, 9, 64, np.random.default_rng(2))
    assert not call(np.zeros((rows, 64), np.float32), weight, instructions).any()
    tiny = np.full((rows, 64), 1e-40, np.float32)
    assert np.all(np.abs(call(tiny, weight, instructions)) < 1e-37)


@pytest.mark.parametrize("kind", ["bfloat16", "q8 of 16 with minimum", "q4"])
@pytest.mark.parametrize("rows", [1, NATIVE_ROWS, NATIVE_ROWS + 1])
def test_linear_uses_the_kernels_for_few_rows_and_gives_the_same_for_many(kind, rows):
    generator = np.random.default_rng(rows)
    x, weight = generator.normal(size=(rows, 96)).astype(np.float32), weight_of(kind, 24, 96, generator)
    dtype = jnp.bfloat16 if kind == "bfloat16" else jnp.float32
    program = jax.jit(lambda x, weight: linear(x, weight, jnp.float32)).lower(jnp.asarray(x, dtype), weight)
    assert ("glass_multiply" in program.as_text()) == (rows <= NATIVE_ROWS or NATIVE.takes_many_rows)
    x = np.asarray(jnp.asarray(x, dtype), np.float32)
    assert_product(np.asarray(program.compile()(jnp.asarray(x, dtype), weight)), x, weight)


def test_a_loop_and_a_lookup_share_one_stored_array():
    """As decoding does with a tied head: nothing of its size is made inside the program."""
    weight = weight_of("q8", 4096, 64, np.random.default_rng(3))

    def block(weight, token):
        def step(_, token):
            return jax.numpy.argmax(linear(embed(weight, token[None]), weight)[0]).astype(jnp.int32)

        return jax.lax.fori_loop(0, 3, step, token)

    compiled = jax.jit(block).lower(weight, jnp.int32(1)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < weight.nbytes / 4
    token, numbers = 1, numbers_of(weight)
    for _ in range(3):
        token = int(np.argmax(numbers @ numbers[token]))
    assert int(compiled(weight, jnp.int32(1))) == token


def test_shapes_that_do_not_fit_are_refused():
    quants, scales = jnp.zeros((4, 64), jnp.int8), jnp.ones((4, 3), jnp.float32)
    with pytest.raises(jax.errors.JaxRuntimeError, match="do not fit each other"):
        multiply(jnp.ones((1, 64)), quants, scales).block_until_ready()


def test_an_unknown_choice_is_refused():
    with pytest.raises(KernelError, match="kernels is 'maybe'; expected auto or on or off"):
        prepare_kernels("maybe")

"""No silent promotion of number formats in the code under test."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    """Mixing number formats is an error: every conversion stands in the code."""
    with jax.numpy_dtype_promotion("strict"):
        yield

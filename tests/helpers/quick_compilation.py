"""Machine code that is quick to make and slow to run."""

import contextlib

import jax

# The environment of processes that compile so.
QUICKLY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@contextlib.contextmanager
def compiled_quickly(wanted=True):
    """What is compiled meanwhile is so, if wanted: for programs that run a few times, where the claim is about the
    numbers that JAX was asked for."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", wanted or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)

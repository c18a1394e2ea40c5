"""Fixtures that several rooms' tests use."""

import os

import jaxtyping
import pytest

# Read when jax is imported: what a test compiles does not depend on what was compiled before.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def pytest_addoption(parser):
    parser.addoption("--schemas", type=int, default=40, help="JSON schemas that constrained replies are tried with")
    parser.addoption("--screenshots", action="store_true", help="put the browser tests' pictures into docs/")


@pytest.fixture
def unchecked_types():
    """Without the runtime type checker of the tests: as in production, where bad values reach our own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a small checkpoint with a chat template, and the transformers model in it."""
    from checkpoints import write_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint")
    return folder, write_checkpoint(folder)


@pytest.fixture(scope="session")
def model(checkpoint):
    """The same checkpoint as our `Model`."""
    from llama_core import load_checkpoint

    return load_checkpoint(checkpoint[0])

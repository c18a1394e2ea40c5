"""Fixtures that several rooms' tests use."""

import os

import jaxtyping
import pytest

# Read when jax is imported: what a test compiles does not depend on what was compiled before.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def pytest_addoption(parser):
    parser.addoption("--schemas", type=int, default=40, help="JSON schemas that constrained replies are tried with")
    parser.addoption("--screenshots", action="store_true", help="put the browser tests' pictures into docs/")
    parser.addoption("--devices", type=int, default=1, help="virtual CPU devices, over which `model` is cut")


def pytest_configure(config):
    # XLA reads it when the first device is asked for.
    count = config.getoption("--devices")
    if count > 1:
        flag = f"--xla_force_host_platform_device_count={count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


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
def model(checkpoint, pytestconfig):
    """The same checkpoint as our `Model`."""
    from llama_core import load_checkpoint

    return load_checkpoint(checkpoint[0], mesh=pytestconfig.getoption("--devices"))

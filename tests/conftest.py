"""Fixtures that several rooms' tests use."""

import atexit
import os
import shutil
import tempfile

import jaxtyping
import pytest

# Half of a run's time would go into compiling the same programs again, in each engine and in each process: they are
# kept for this run, and none are found of a run before. Read when jax is imported.
if "PYTEST_XDIST_WORKER" not in os.environ:
    programs = tempfile.mkdtemp(prefix="glass-llama-programs-")
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_addoption(parser):
    parser.addoption("--schemas", type=int, default=40, help="JSON schemas that constrained replies are tried with")
    parser.addoption("--interleavings", type=int, default=0, help="more orders in which two tabs do things")
    parser.addoption("--requests", type=int, default=60, help="requests made at random that the API is asked")
    parser.addoption("--screenshots", action="store_true", help="take the pictures of README and docs/tour.md")
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


@pytest.fixture(scope="module")
def quickly_compiled():
    """For files whose claims are about the numbers that JAX is asked for, not about the machine code for them."""
    from quick_compilation import compiled_quickly

    with compiled_quickly():
        yield


@pytest.fixture(autouse=True, scope="module")
def no_programs_of_other_tests():
    """What a file of tests has compiled is let go at its end: a process that runs many would grow to gigabytes."""
    import jax

    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def no_kernels_of_other_tests():
    """Each file of tests begins without the native kernels, whatever the one before it has loaded."""
    from llama_core.kernels import NATIVE

    NATIVE.library = None
    yield
    NATIVE.library = None


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

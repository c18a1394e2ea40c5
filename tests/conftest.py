"""Fixtures that several rooms' tests use."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked_types():
    """Without the runtime type checker of the tests: as in production, where bad values reach our own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

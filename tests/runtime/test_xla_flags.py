"""XLA's flags are set for the versions of jaxlib that know them, however these are written; others abort on them."""

import os

import pytest

from llama_core.runtime import xla_flags


@pytest.mark.parametrize(
    ("version", "knows_it"),
    [
        ("0.10.1", True),
        ("0.10.2", True),
        ("0.10.3.dev20261101+abc", True),
        ("0.11.0rc1", True),
        ("0.11", True),
        ("0.12.0.dev0+selfbuilt", True),
        ("0.12.1.post1", True),
        ("0.10", False),
        ("0.10.0", False),
        ("0.10.1.dev20260401", False),
        ("0.9.2", False),
        ("0.13.0.dev20270101", False),
        ("0.13.0rc0", False),
        ("0.13.0", False),
        ("1.0", False),
        ("unknown", False),
    ],
)
def test_every_way_to_write_a_version_is_read(version, knows_it, monkeypatch):
    monkeypatch.setattr(xla_flags.importlib.metadata, "version", {"jaxlib": version}.__getitem__)
    monkeypatch.setenv("XLA_FLAGS", "--xla_other=1")
    xla_flags.choose_cpu_kernels()
    flags = os.environ["XLA_FLAGS"].split()
    assert flags[0] == "--xla_other=1"
    assert flags[1:] == (["--xla_cpu_experimental_ynn_fusion_type=individual_dot"] if knows_it else [])

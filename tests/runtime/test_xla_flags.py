"""XLA's flags are set for the versions of jaxlib that know them, however these are written; others abort on them."""

import os
import subprocess
import sys
from pathlib import Path

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


COUNT = """
import llama_core, jax, os
jax.devices()
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(sum("Eigen" in name for name in names))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux names them")
def test_xla_computes_with_as_many_threads_as_a_space_has_cores():
    space = {"SPACE_ID": "ada/chat", "CPU_CORES": "1", "JAX_PLATFORMS": "cpu"}
    environment = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")} | space
    root = Path(__file__).parents[2]
    counted = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert counted.stdout == "1\n"

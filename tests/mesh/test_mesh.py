"""A model over several devices. What needs several is in on_eight_devices.py, and runs in a process that has them."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from llama_core.checkpoint.memory_plan import Plan, require_memory
from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.lens import InspectionError, inspect
from llama_core.model.mesh.sharding import AUTOMATIC, MeshError, choose_devices, describe_whole, devices_of
from llama_core.model.params import Params

UNOPTIMIZED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling is most of the work
LARGE = NAMED_CONFIGS["8B"]


def test_on_eight_virtual_devices():
    arguments = ["-q", "-p", "no:cacheprovider", "--devices", "8", str(Path(__file__).with_name("on_eight_devices.py"))]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | UNOPTIMIZED,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ended.returncode == 0 and " passed" in ended.stdout and "skipped" not in ended.stdout, ended.stdout[-8000:]


def test_a_cpu_is_one_device_unless_told():
    assert choose_devices(AUTOMATIC, LARGE) == devices_of([jnp.zeros(3)]) == 1


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(MeshError, match=r"--mesh 64: there are \d+ devices; choose at most so many"):
        choose_devices(64, LARGE)


def test_what_does_not_divide_is_said():
    assert describe_whole(LARGE, 8) == describe_whole(LARGE, 1) == []
    [heads] = describe_whole(LARGE, 16)
    assert heads.startswith("8 key/value heads do not divide by 16 devices")


def test_nobody_looks_inside_a_model_that_lies_on_several_hosts():
    """The other hosts would not take part, and this one would wait for them for ever."""
    elsewhere = SimpleNamespace(is_fully_addressable=False)
    with pytest.raises(InspectionError, match="lies on several hosts"):
        inspect(Params(elsewhere, (), jnp.ones(4)), LARGE, [1, 2, 3])


def test_the_plan_counts_the_memory_of_each_device():
    whole, eighth = (Plan(LARGE, "bfloat16", 4, 4096, devices=devices) for devices in (1, 8))
    norms = 2 * (2 * 32 + 1) * 4096  # each device has them all
    assert eighth.params == pytest.approx((whole.params - norms) / 8 + norms, abs=1)
    assert eighth.cache == whole.cache // 8
    require_memory(eighth, free=eighth.total)

"""What loading a checkpoint takes at its peak, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import sys
from llama_core import load_checkpoint
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
load_checkpoint("random:tiny")
import llama_core.checkpoint.gguf.tensors
before = peak()
model = load_checkpoint(sys.argv[1])
print((peak() - before) * 2**20 / (4 * model.parameter_count))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def loading_memory(path):
    """The peak of loading `path`, over the size of its weights in float32."""
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", MEASURE, str(path)], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return float(found.stdout)

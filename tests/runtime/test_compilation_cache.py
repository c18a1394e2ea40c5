"""Where compiled programs are kept, and where not."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from llama_core.runtime import compilation_cache
from llama_core.runtime.compilation_cache import use_compilation_cache

ROOT = Path(__file__).parents[2]
NAMES = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def settings_come_back(monkeypatch, tmp_path):
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setattr(compilation_cache, "FOLDER", tmp_path)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_gpu_and_its_compiler_have_a_folder_of_their_own(unchecked_types, tmp_path):
    use_compilation_cache(SimpleNamespace(platform="gpu", device_kind="NVIDIA L4/24"))
    folder = jax.config.jax_compilation_cache_dir
    assert folder.startswith(f"{tmp_path}/NVIDIA-L4-24-jaxlib-")


PROCESSOR = "processor : {core}\nmodel name : Some CPU\nflags : sse avx2{more}\ncpu MHz : {speed}\n\n"


def folder_on(monkeypatch, path, **said):
    """The folder on a machine with two such cores."""
    path.write_text("".join(PROCESSOR.format(core=core, speed=1000 + core, **said) for core in range(2)))
    monkeypatch.setattr(compilation_cache, "PROCESSOR_INFO", path)
    jax.config.update("jax_compilation_cache_dir", None)
    use_compilation_cache(jax.devices("cpu")[0])
    return jax.config.jax_compilation_cache_dir


def test_processors_that_differ_in_instructions_have_folders_of_their_own(monkeypatch, tmp_path):
    one = folder_on(monkeypatch, tmp_path / "cpuinfo", more="")
    assert one == folder_on(monkeypatch, tmp_path / "other", more="")
    assert one.startswith(f"{tmp_path}/cpu-") and one != folder_on(monkeypatch, tmp_path / "third", more=" avx512f")


@pytest.mark.parametrize("content", [None, "", "cpu MHz : 1000"])
def test_a_cpu_that_does_not_say_what_it_is_keeps_nothing(monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(compilation_cache, "PROCESSOR_INFO", tmp_path / "cpuinfo")
    use_compilation_cache(jax.devices("cpu")[0])
    assert jax.config.jax_compilation_cache_dir is None


START = """
import pathlib, sys
from llama_core import Engine, SamplingParams, load_checkpoint
import jax
from llama_core.runtime import compilation_cache
from llama_core.runtime.forms import Form
compilation_cache.FOLDER = pathlib.Path(sys.argv[1])
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else 0)
model, greedy = load_checkpoint(sys.argv[2], quantize="q8"), SamplingParams(0.0, max_new_tokens=8, ignore_eos=True)
with Engine(model, slots=1, max_seq_len=32, form=Form((8, 16), 2, 4)) as engine:
    tokens = [token.id for token in engine.submit([1, 2, 3], greedy)]
print(len(hits), *tokens)
"""


def test_a_second_start_finds_its_programs_and_says_the_same(checkpoint, tmp_path):
    """Also those with native kernels, whose calls are parts of the programs."""
    command = [sys.executable, "-c", START, str(tmp_path), str(checkpoint[0])]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("JAX_")}
    starts = [
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    if not next(tmp_path.glob("*"), None):
        pytest.skip("this processor does not say of what kind it is")
    hits = [int(start[0]) for start in starts]
    assert starts[0][1:] == starts[1][1:] and len(starts[0]) == 9 and hits[1] >= hits[0] + 8


def test_a_folder_that_was_named_stays(unchecked_types):
    jax.config.update("jax_compilation_cache_dir", "/named/by/somebody")
    use_compilation_cache(SimpleNamespace(platform="gpu", device_kind="NVIDIA L4"))
    assert jax.config.jax_compilation_cache_dir == "/named/by/somebody"

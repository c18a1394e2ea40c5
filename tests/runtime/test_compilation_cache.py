"""Where compiled programs are kept, and where not."""

from types import SimpleNamespace

import jax
import pytest

from llama_core.runtime import compilation_cache
from llama_core.runtime.compilation_cache import use_compilation_cache

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


def test_a_cpu_keeps_nothing_and_a_folder_that_was_named_stays(unchecked_types):
    use_compilation_cache(jax.devices("cpu")[0])
    assert jax.config.jax_compilation_cache_dir is None
    jax.config.update("jax_compilation_cache_dir", "/named/by/somebody")
    use_compilation_cache(SimpleNamespace(platform="gpu", device_kind="NVIDIA L4"))
    assert jax.config.jax_compilation_cache_dir == "/named/by/somebody"

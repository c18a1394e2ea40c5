"""Compiled programs kept from one start to the next, where that is safe and worth it: on GPUs.

Not on CPUs: there some machines reject every entry when it comes back (jax-ml/jax#38445), an entry from another machine
can end the process, and compiling takes seconds.
"""

import importlib.metadata
import re
from pathlib import Path

import jax

FOLDER = Path("~/.cache/glass-llama/programs")


def use_compilation_cache(device: jax.Device) -> None:
    """Keep programs for this kind of device and this compiler in a folder of their own. A folder that JAX was told
    (JAX_COMPILATION_CACHE_DIR) stays."""
    if device.platform == "cpu" or jax.config.jax_compilation_cache_dir:
        return
    compiler = f"{device.device_kind}-jaxlib-{importlib.metadata.version('jaxlib')}"
    folder = FOLDER.expanduser() / re.sub(r"[^\w.-]+", "-", compiler)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

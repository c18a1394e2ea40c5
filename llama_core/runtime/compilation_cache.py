"""JAX's persistent cache of compiled programs, used where it is safe and saves time: on GPUs.

Not on CPUs: some machines reject their own entries (jax-ml/jax#38445), an entry from another machine can end the
process, and compiling takes only seconds.
"""

import importlib.metadata
import re
from pathlib import Path

import jax

FOLDER = Path("~/.cache/glass-llama/programs")


def use_compilation_cache(device: jax.Device) -> None:
    """Cache programs in a folder for this kind of device and this version of jaxlib, unless JAX has been given a folder
    (JAX_COMPILATION_CACHE_DIR)."""
    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # made at run time
    if device.platform == "cpu" or given:
        return
    compiler = f"{device.device_kind}-jaxlib-{importlib.metadata.version('jaxlib')}"
    folder = FOLDER.expanduser() / re.sub(r"[^\w.-]+", "-", compiler)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

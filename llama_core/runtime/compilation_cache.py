"""JAX's persistent cache of compiled programs, in a folder for one kind of device or processor and one version of
jaxlib: a program from another processor can end this process.

Some processors reject their own entries (jax-ml/jax#38445); programs are compiled there as without a cache.
"""

import hashlib
import importlib.metadata
import re
from pathlib import Path

import jax

FOLDER = Path("~/.cache/glass-llama/programs")
PROCESSOR_INFO = Path("/proc/cpuinfo")
# By these lines of it processors differ in what their programs may do; words of Linux on x86 and on ARM.
PROCESSOR_KEYS = {"vendor_id", "model name", "flags", "CPU implementer", "CPU part", "CPU variant", "Features"}


def use_compilation_cache(device: jax.Device) -> None:
    """Keep programs in a folder for devices like this one, unless JAX has been given a folder
    (JAX_COMPILATION_CACHE_DIR), or this is a CPU that does not say of what kind it is."""
    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # made at run time
    kind = f"cpu-{_processor()}" if device.platform == "cpu" and _processor() else device.device_kind
    if given or kind == "cpu":
        return
    folder = FOLDER.expanduser() / re.sub(r"[^\w.-]+", "-", f"{kind}-jaxlib-{importlib.metadata.version('jaxlib')}")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _processor() -> str:
    """A short hash of what the system says about the processor; empty where it says nothing."""
    try:
        lines = PROCESSOR_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    known = sorted({line for line in lines if line.partition(":")[0].strip() in PROCESSOR_KEYS})
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12] if known else ""

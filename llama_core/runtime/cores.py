"""How many cores there are for this process, which in a container or under `taskset` are fewer than the machine has."""

import os
from collections.abc import Mapping
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), environment: Mapping[str, str] = os.environ) -> int:
    """How many cores this process may use at a time: those it may run on, or fewer where a container has a quota or a
    Hugging Face Space says so (CPU_CORES; huggingface.co/docs/hub/spaces-overview)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = environment.get("CPU_CORES", "") if "SPACE_ID" in environment else ""
    if told.isdecimal() and int(told) > 0:
        cores = min(cores, int(told))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # not there, or "max": no quota
        return cores

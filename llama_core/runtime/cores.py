"""How many cores there are for this process, which in a container or under `taskset` are fewer than the machine has."""

import os
from collections.abc import Mapping
from pathlib import Path

# Microseconds of computing in each period, and the period, in version 2 and version 1 of cgroups.
QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), environment: Mapping[str, str] = os.environ) -> int:
    """How many cores this process may use at a time: those it may run on, or fewer where a container has a quota or a
    Hugging Face Space says so (CPU_CORES; huggingface.co/docs/hub/spaces-overview)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = environment.get("CPU_CORES", "") if "SPACE_ID" in environment else ""
    if told.isdecimal() and int(told) > 0:
        cores = min(cores, int(told))
    return min(cores, _cores_of_quota(cgroup) or cores)


def _cores_of_quota(cgroup: Path) -> int | None:
    """How many cores a container may keep busy; None without a quota."""
    for files in QUOTA_FILES:
        try:
            quota, period = map(int, " ".join((cgroup / file).read_text() for file in files).split())
        except (OSError, ValueError):  # not there, or "max": no quota
            continue
        if quota > 0:
            return max(1, round(quota / period))
    return None

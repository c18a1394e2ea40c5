"""How the C library keeps memory for the CPU backend, whose programs take their temporary arrays from `malloc`."""

import ctypes
import sys

# <malloc.h>: options of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let memory that a program gives back be used again by the next, instead of going to the system and coming back a
    zeroed page at a time: attention over long contexts is three times as fast (benchmarks/NOTES.md).

    Up to `KEPT_BYTES` stay with the process. Does nothing where the C library is not glibc.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)

"""What the C library does with freed memory (programs of the CPU backend take their temporary arrays from `malloc`),
and when Python's collector runs."""

import ctypes
import gc
import sys

# <malloc.h>: options of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
KEPT_BYTES = 1 << 30
# New objects before the young ones are looked at, and how often that happens before older ones are. Python's own are
# 700, 10 and 10, and a chat of 400 turns has 300 000 objects.
COLLECT_AFTER = 10_000, 10, 50


def keep_freed_memory() -> None:
    """Keep memory that one program frees for the next. By default it goes back to the system and returns zeroed, page
    by page; attention over long contexts is three times as fast without that.

    Up to `KEPT_BYTES` stay with the process. Does nothing where the C library is not glibc.
    """
    if (library := _glibc()) is not None:
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def return_freed_memory() -> None:
    """Give everything that is freed back to the system, after a model was let go: what `keep_freed_memory` keeps would
    count as taken when the next model is compared with what is free."""
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if was_frozen:
        gc.freeze()
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def spare_old_objects() -> None:
    """Have Python's collector pass over what exists now, and run less often: for a server that has loaded everything.

    A full collection stops all threads, 300 ms with the libraries and programs of the app (two cores, 2026-11), and a
    posted chat of 400 turns causes several. `return_freed_memory` still collects everything.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, "gnu_get_libc_version") else None

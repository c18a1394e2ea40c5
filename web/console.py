"""What the person who starts the app reads in the terminal."""

import sys
import time

from web.models.manager import ModelLoading

STEPS = {"download": "Downloading (MB)   ", "weights": "Loading weights    ", "compile": "Compiling programs "}
POLL_SECONDS = 0.1


def show_progress(step: str, done: int, total: int) -> None:
    """For `ModelManager.start`: one progress bar per step on stderr, or nothing if stderr is no terminal."""
    if sys.stderr.isatty():
        bar = ("#" * (24 * done // max(1, total))).ljust(24, ".")
        end = "\n" if done == total else ""
        print(f"\r{STEPS[step]} [{bar}] {done}/{total}", end=end, file=sys.stderr, flush=True)


def follow(loading: ModelLoading) -> bool:
    """Show the steps of a `ModelLoading` until it ends, and print "ready" if it went well. Returns whether it did."""
    shown = loading.step
    while not loading.ended:
        if loading.step != shown:
            shown = loading.step
            show_progress(*shown)
        time.sleep(POLL_SECONDS)
    is_ready = loading.problem is None
    if is_ready:
        print("ready", flush=True)
    elif sys.stderr.isatty():
        print(file=sys.stderr)  # a half-filled bar is left in the last line
    return is_ready

"""What the person who starts the app reads in the terminal."""

import sys
import time

from llama_core.runtime.host_memory import spare_old_objects
from web.models.manager import ModelLoading, ModelManager
from web.settings import Settings

STEPS = {"download": "Downloading (MB)   ", "weights": "Loading weights    ", "compile": "Compiling programs "}
POLL_SECONDS = 0.1
WATCH_SECONDS = 0.5  # how often it is looked whether the engine works

# Exit codes. A supervisor restarts what failed; what cannot be used stays so until somebody changes it.
UNUSABLE, FAILED = 2, 1


def say_error(problem: str) -> None:
    """One line on stderr."""
    print(f"error: {problem}", file=sys.stderr, flush=True)


def describe_switching(settings: Settings) -> str:
    """Whether visitors may load other models, and why, in one line."""
    who = "visitors may load other models" if settings.may_switch else "visitors cannot load other models"
    if settings.hosts != 1:
        return f"{who} (--hosts: several share this one)"
    if settings.switching != "auto":
        return f"{who} (--switching {settings.switching})"
    if settings.is_local:
        return f"{who} (--switching auto: only this machine can open the page)"
    return f"{who} (--switching auto: other machines can open the page; --switching on lets their people do it)"


def show_progress(step: str, done: int, total: int) -> None:
    """For `ModelManager.start`: one progress bar per step on stderr, or nothing if stderr is no terminal. (Whoever
    compiles the native kernels says so.)"""
    if sys.stderr.isatty() and step in STEPS:
        bar = ("#" * (24 * done // max(1, total))).ljust(24, ".")
        end = "\n" if done == total else ""
        print(f"\r{STEPS[step]} [{bar}] {done}/{total}", end=end, file=sys.stderr, flush=True)


def follow(manager: ModelManager, loading: ModelLoading) -> bool:
    """Show the steps of a `ModelLoading` until it ends or its engine fails, and print "ready" if it went well. Returns
    whether it did."""
    shown = loading.step
    while not loading.ended and manager.failure is None:
        if loading.step != shown:
            shown = loading.step
            show_progress(*shown)
        time.sleep(POLL_SECONDS)
    is_ready = loading.problem is None and manager.failure is None
    if is_ready:
        print("ready", flush=True)
    elif sys.stderr.isatty():
        print(file=sys.stderr)  # a half-filled bar is left in the last line
    return is_ready


def watch(manager: ModelManager, loading: ModelLoading) -> int:
    """Follow the first model's `loading`, then the engine that is served, until the page cannot be used any more; say
    why. The exit code."""
    if not follow(manager, loading):
        say_error(loading.problem or manager.failure or "")
        return UNUSABLE
    spare_old_objects()
    while manager.failure is None:
        time.sleep(WATCH_SECONDS)
    say_error(manager.failure)
    return FAILED

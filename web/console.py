"""What the person who starts the app reads in the terminal."""

import sys
from collections.abc import Callable

STEPS = {"download": "Downloading (MB)   ", "weights": "Loading weights    ", "compile": "Compiling programs "}


def show_progress() -> Callable[[str, int, int], None]:
    """A function for `Host.put`: one line a step on stderr that fills up, or nothing where stderr is no terminal."""

    def show(step: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            bar = ("#" * (24 * done // max(1, total))).ljust(24, ".")
            end = "\n" if done == total else ""
            print(f"\r{STEPS[step]} [{bar}] {done}/{total}", end=end, file=sys.stderr, flush=True)

    return show

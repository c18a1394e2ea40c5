"""What the person who starts the app reads in the terminal."""

import sys
from collections.abc import Callable


def progress_bar(label: str) -> Callable[[int, int], None]:
    """A function for `progress=`: one line on stderr that fills up, or nothing where stderr is no terminal."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            bar = ("#" * (24 * done // total)).ljust(24, ".")
            end = "\n" if done == total else ""
            print(f"\r{label} [{bar}] {done}/{total}", end=end, file=sys.stderr, flush=True)

    return show

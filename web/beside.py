"""Work that takes a while for a long chat (reading what was posted, making a prompt) goes beside the event loop, on
which the words of all others are streamed.

One thread, and it lets go of the interpreter soon: the event loop waits for its turn behind it after every packet that
it sends. Six threads with Python's usual 5 ms a turn held the loop for more than a second (benchmarks/NOTES.md).
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

SECONDS_A_TURN = 0.0005

Given = ParamSpec("Given")
Made = TypeVar("Made")

_thread = ThreadPoolExecutor(1, "beside the event loop")


async def beside(work: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
    """What `work` returns or raises, in the thread, in the order of asking."""
    return await asyncio.get_running_loop().run_in_executor(_thread, lambda: work(*given, **named))


def take_short_turns() -> None:
    """For the whole process: a thread that computes in Python gives way to others sooner."""
    sys.setswitchinterval(SECONDS_A_TURN)

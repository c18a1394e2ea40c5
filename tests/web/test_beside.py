"""Work beside the event loop."""

import asyncio
import threading

import pytest

from web.beside import beside


def test_one_piece_of_work_at_a_time_never_on_the_event_loop_and_in_order():
    seen, busy = [], threading.Lock()

    def work(number, *, fails=False):
        with_nobody_else = busy.acquire(blocking=False)
        seen.append((number, with_nobody_else, threading.get_ident()))
        if fails:
            busy.release()
            raise ValueError(number)
        busy.release()
        return number

    async def ask():
        asked = [beside(work, number) for number in range(20)] + [beside(work, 20, fails=True)]
        return threading.get_ident(), await asyncio.gather(*asked, return_exceptions=True)

    loop_thread, answers = asyncio.run(ask())
    assert answers[:20] == list(range(20))
    with pytest.raises(ValueError, match="20"):
        raise answers[20]
    assert [number for number, _, _ in seen] == list(range(21))
    assert all(alone and thread != loop_thread for _, alone, thread in seen)

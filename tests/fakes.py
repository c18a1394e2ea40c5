"""Stand-ins: programs in NumPy whose next token is a sum, so that tests of the engine and the page need no model."""

import threading
import time
from types import SimpleNamespace

import numpy as np

VOCAB = 97
FAKE_MODEL = SimpleNamespace(
    params=None, config=SimpleNamespace(max_position_embeddings=256, vocab_size=VOCAB, eos_token_id=(VOCAB - 1,))
)


class FakePrograms:
    """The token after a sequence is its sum modulo 96. `gate` holds everything back, `pace` is seconds a step."""

    def __init__(self, slots, fails_at=None):
        self.rows, self.calls, self.fails_at = [[] for _ in range(slots)], [], fails_at
        self.gate, self.pace = threading.Event(), 0.0
        self.gate.set()

    def _next(self, slot):
        token = sum(self.rows[slot]) % (VOCAB - 1)
        self.rows[slot].append(token)
        return token

    def prefill(self, slot, ids, start, params):
        self.gate.wait(10)
        self.calls.append(("prefill", slot, len(ids)))
        self.rows[slot] = self.rows[slot][:start] + list(ids)
        token = np.array([self._next(slot)])
        return token

    def decode(self, running):
        self.gate.wait(10)
        time.sleep(self.pace)
        self.calls.append(("decode", tuple(running)))
        if self.fails_at is not None and len(self.calls) >= self.fails_at:
            raise RuntimeError("the device is gone")
        for slot, (_, position) in running.items():
            assert position == len(self.rows[slot]) - 1
        return {slot: (np.array([self._next(slot)]), 0) for slot in running}


def expected_tokens(prompt, count):
    """What FakePrograms generate, by the formula."""
    row = list(prompt)
    for _ in range(count):
        row.append(sum(row) % (VOCAB - 1))
    return row[len(prompt):]


class FakeReply:
    """A reply of the given pieces; `error` breaks it off, cancelling ends it."""

    def __init__(self, pieces, error=None):
        self._pieces, self._error, self.cancelled = pieces, error, False
        self.generation = SimpleNamespace(tokens=list(pieces), tokens_per_second=12.5, time_to_first_token=0.25)

    @property
    def finish_reason(self):
        return "cancelled" if self.cancelled else "stop"

    def cancel(self):
        self.cancelled = True

    async def pieces(self):
        for piece in self._pieces:
            if self.cancelled:
                return
            yield piece
        if self._error:
            raise self._error

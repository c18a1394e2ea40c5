"""Stand-ins: programs in NumPy whose next token is a sum, so that tests of the engine and the page need no model."""

import threading
import time
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from llama_core.engine.device_work import DeviceResult, PrefillChunk
from llama_core.engine.records import WIDTH, Status
from llama_core.runtime.forms import PLAIN

VOCAB = 97
FAKE_MODEL = SimpleNamespace(
    params=np.zeros(0, np.float32),  # of parameters the engine asks the number format and the size
    config=SimpleNamespace(
        max_position_embeddings=256, longest_context=256, vocab_size=VOCAB, eos_token_id=(VOCAB - 1,), head_dim=8
    ),
)


def next_token(row, temperature):
    """What the fake model says after `row`: every token, its place and the temperature count."""
    value = round(10 * temperature)
    for token in row:
        value = (31 * value + token + 7) % (VOCAB - 1)
    return value


def expected_tokens(prompt, count, temperature=0.0, changes=()):
    """What FakePrograms generate; `changes` are (number of tokens before, SamplingParams), as a `Request` has them."""
    row = list(prompt)
    for step in range(count):
        for before, params in changes:
            temperature = params.temperature if before <= step else temperature
        row.append(next_token(row, temperature))
    return row[len(prompt) :]


class FakePrograms:
    """Programs in NumPy on `next_token`, where the layers are three groups. `rows` are what lies in each
    slot's cache, of which the first `ends` count, `newest` the token drawn last, which is not in it yet. `gate` holds
    everything back, and closes by itself after `pause_after` steps, so that a test can act in the middle of a reply
    however slow the machine is. `pace` is seconds a step, `fails_at` the call at which the device fails."""

    num_layer_groups = 3

    def __init__(self, slots, fails_at=None):
        self.rows, self.ends, self.newest = [[] for _ in range(slots)], [0] * slots, [None] * slots
        self.reading = [None] * slots
        self.table, self.running = [None] * slots, [False] * slots
        self.calls, self.fails_at, self.pace, self.gate = [], fails_at, 0.0, threading.Event()
        self.gate.set()
        self.steps, self.pause_after = 0, None

    def prepare(self, slot, row, is_new):
        self.table[slot] = row

    def allow(self, slot, allowed):
        raise AssertionError("a reply with a grammar: these programs draw whatever the sum is")

    def copy_prefix(self, source, target, length):
        self.calls.append(("copy", source, target, length))
        self.rows[target] = self.rows[source][:length]

    def clear_slot(self, slot):
        self.rows[slot] = []

    def start_prefill(self, slot, ids, start):
        self.calls.append(("prefill", slot, len(ids)))
        size = min(size for size in PLAIN.chunk_sizes if size >= len(ids))
        # While a chunk is between layers, what lay in its place is not to be relied on.
        if self.rows[slot][start : start + len(ids)] != list(ids):
            del self.rows[slot][start:]
        self.reading[slot] = ids
        return PrefillChunk(slot, start, len(ids), jnp.zeros((1, size, 1)))

    def prefill_layers(self, chunk, groups):
        self.gate.wait(60)
        self.calls.append(("layers", chunk.slot, groups))
        chunk.groups_done += groups
        assert chunk.groups_done <= self.num_layer_groups
        if chunk.groups_done == self.num_layer_groups:
            self._write(chunk.slot, chunk.start, self.reading[chunk.slot])
        return DeviceResult(np.zeros(0), {})

    def sample_first(self, chunk):
        packed = np.zeros((1, 1, WIDTH), np.int32)
        packed[0, 0, :2] = self._draw(chunk.slot)
        return DeviceResult(packed, {chunk.slot: 0}), np.arange(VOCAB, dtype=np.float32)

    def decode(self, slots, steps):
        self.gate.wait(60)
        self.calls.append(("decode", tuple(slots), steps))
        if self.fails_at is not None and len(self.calls) >= self.fails_at:
            raise RuntimeError("the device is gone")
        packed = np.zeros((steps, len(self.rows), WIDTH), np.int32)
        for step in range(steps):
            time.sleep(self.pace)
            self._pause()
            for slot in filter(self.running.__getitem__, slots):
                self._write(slot, self.ends[slot], [self.newest[slot]])
                packed[step, slot, :2] = self._draw(slot)
        return DeviceResult(packed, {slot: slot for slot in slots})

    def _pause(self):
        self.steps += 1
        if self.steps == self.pause_after:
            self.gate.clear()
            self.gate.wait(60)

    @property
    def is_paused(self):
        return not self.gate.is_set()

    def _write(self, slot, start, ids):
        assert start <= len(self.rows[slot]), "a gap in the cache"
        self.rows[slot][start : start + len(ids)] = ids
        self.ends[slot] = start + len(ids)

    def _draw(self, slot):
        row, table = self.rows[slot][: self.ends[slot]], self.table[slot]
        token = self.newest[slot] = next_token(row, table.sampling.temperature[0])
        is_stop, is_full = token in table.stops, len(row) + 1 >= table.limits[0]
        self.running[slot] = not (is_stop or is_full)
        return Status.STOP if is_stop else Status.LENGTH if is_full else Status.GOING, token


class PacedPrograms(FakePrograms):
    """Each token takes `pace` seconds and nearly no work, and a reply ends at its limit only."""

    def __init__(self, slots, pace):
        super().__init__(slots)
        self.pace = pace

    def _draw(self, slot):
        length = self.ends[slot] + 1
        self.running[slot], self.newest[slot] = length < self.table[slot].limits[0], 5 + length % 90
        return Status.GOING if self.running[slot] else Status.LENGTH, self.newest[slot]

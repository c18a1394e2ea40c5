"""What the engine counts, and what it tells of it."""

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from llama_core.engine.prefix_cache import Slot

STATS_SECONDS = 5.0
RECENT_REPLIES = 50


@dataclass(frozen=True)
class EngineStats:
    """What the engine is doing now. Speeds are of all chats together over the last seconds, in tokens a second: written
    (`tokens_per_second`) and read (`tokens_in_per_second`). `tokens_cached` of all prompts were not computed again;
    `context_used` of `context_size` positions hold something. `time_to_first_token` is a median, in seconds."""

    slots: int
    busy: int
    queued: int
    requests: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_per_second: float
    tokens_in_per_second: float
    time_to_first_token: float | None
    context_used: int
    context_size: int


@dataclass
class Meter:
    """Running totals. `tokens_in` are prompt tokens computed, those found in the cache not among them."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    _read: deque[tuple[float, int]] = field(default_factory=deque)
    _wrote: deque[tuple[float, int]] = field(default_factory=deque)
    _waits: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_REPLIES))

    def read_tokens(self, count: int) -> None:
        """Prompt tokens were computed."""
        self.tokens_in += count
        self._read.append((time.perf_counter(), count))

    def wrote_tokens(self, count: int, first_after: float | None) -> None:
        """Tokens of a reply were written; `first_after` seconds after its request if they are its first."""
        self.tokens_out += count
        self._wrote.append((time.perf_counter(), count))
        if first_after is not None:
            self._waits.append(first_after)

    def stats(self, slots: Sequence[Slot], queued: int, max_seq_len: int) -> EngineStats:
        """All of it at this moment."""
        return EngineStats(
            slots=len(slots),
            busy=sum(slot.tenant is not None for slot in slots),
            queued=queued,
            requests=self.requests,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            tokens_cached=self.tokens_cached,
            tokens_per_second=_rate(self._wrote),
            tokens_in_per_second=_rate(self._read),
            time_to_first_token=statistics.median(self._waits) if self._waits else None,
            context_used=sum(len(slot.ids) for slot in slots),
            context_size=len(slots) * max_seq_len,
        )


def _rate(events: deque[tuple[float, int]]) -> float:
    since = time.perf_counter() - STATS_SECONDS
    while events and events[0][0] < since:
        events.popleft()
    return sum(count for _, count in events) / STATS_SECONDS

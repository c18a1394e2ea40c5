"""What the engine counts: totals, and speeds over the last seconds."""

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from llama_core.engine.prefix_cache import Slot

RATE_SECONDS = 5.0
RECENT_REPLIES = 50


@dataclass(frozen=True)
class EngineStats:
    """What the engine is doing now. Speeds are of all chats together over the last seconds, in tokens per second:
    decoded (`tokens_per_second`) and prefilled (`tokens_in_per_second`). `tokens_cached` prompt tokens in all were
    found in the prefix cache; `context_used` of `context_size` positions hold something. `time_to_first_token` is a
    median, in seconds. `attention` is how the cache is attended to: "blocks", "masked" or "cudnn"."""

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
    attention: str


class Rate:
    """Tokens per second over the last `RATE_SECONDS`. Its memory is bounded: what is older is dropped as new counts
    come."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        """So many tokens, now."""
        self._events.append((time.perf_counter(), count))
        self._drop_old()

    def per_second(self) -> float:
        """The mean over the window."""
        self._drop_old()
        return sum(count for _, count in self._events) / RATE_SECONDS

    def _drop_old(self) -> None:
        since = time.perf_counter() - RATE_SECONDS
        while self._events and self._events[0][0] < since:
            self._events.popleft()


@dataclass
class EngineMetrics:
    """Running totals. `tokens_in` are prompt tokens that were prefilled, those found in the prefix cache not among
    them."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    _prefilled: Rate = field(default_factory=Rate)
    _decoded: Rate = field(default_factory=Rate)
    _waits: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_REPLIES))

    def add_prefilled(self, count: int) -> None:
        """Prompt tokens were prefilled."""
        self.tokens_in += count
        self._prefilled.add(count)

    def add_decoded(self, count: int, first_after: float | None) -> None:
        """Tokens of a reply were generated; `first_after` seconds after its request if they are its first."""
        self.tokens_out += count
        self._decoded.add(count)
        if first_after is not None:
            self._waits.append(first_after)

    def stats(self, slots: Sequence[Slot], queued: int, max_seq_len: int, attention: str) -> EngineStats:
        """All of it at this moment."""
        return EngineStats(
            slots=len(slots),
            busy=sum(slot.in_use for slot in slots),
            queued=queued,
            requests=self.requests,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            tokens_cached=self.tokens_cached,
            tokens_per_second=self._decoded.per_second(),
            tokens_in_per_second=self._prefilled.per_second(),
            time_to_first_token=statistics.median(self._waits) if self._waits else None,
            context_used=sum(len(slot.ids) for slot in slots),
            context_size=len(slots) * max_seq_len,
            attention=attention,
        )

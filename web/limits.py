"""What one client may have, at the page or as a program: requests and tokens a minute, and answers at the same time.
All of it is asked and told on the event loop, so that nothing is locked."""

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llama_core.errors import UserError
from web.settings import Settings

SECONDS = 60.0
LOGINS_PER_MINUTE = 10  # of one address: a person's typing errors, and no guessing of passwords
TURN_RETRY_SECONDS = 1  # an answer under way may end at any moment


class LimitReached(UserError):
    """A client has had what it may have; it may come back in `retry_after` seconds. `code` names the limit for
    programs."""

    def __init__(self, words: str, code: str, retry_after: int):
        super().__init__(words)
        self.code, self.retry_after = code, retry_after


class MovingWindow:
    """How much each client used in the last `SECONDS`. What was used is counted when it is known, so a client can come
    over the `limit` once, and then waits until it is below. Clients that use nothing are forgotten."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic):
        self.limit, self._clock = limit, clock
        self._used: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()  # the latest user last

    def wait(self, client: str) -> float:
        """Seconds until the client may use more; 0: now."""
        now = self._clock()
        used = [(when, amount) for when, amount in self._used.get(client, ()) if when > now - SECONDS]
        total = sum(amount for _, amount in used)
        for when, amount in used:
            if total < self.limit:
                break
            total -= amount
            if total < self.limit:
                return when + SECONDS - now
        return 0.0

    def use(self, client: str, amount: int) -> None:
        """The client used so much now."""
        now = self._clock()
        self._used.setdefault(client, deque()).append((now, amount))
        self._used.move_to_end(client)
        used = self._used[client]
        while used[0][0] <= now - SECONDS:
            used.popleft()
        while next(iter(self._used.values()))[-1][0] <= now - SECONDS:
            self._used.popitem(last=False)


class ClientLimits:
    """The limits of the settings, for each client. Raises `LimitReached` for what is too much."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic):
        self._requests = MovingWindow(settings.requests_per_minute, clock) if settings.requests_per_minute else None
        self._tokens = MovingWindow(settings.tokens_per_minute, clock) if settings.tokens_per_minute else None
        self._max_streams = settings.max_streams
        self._turns: Counter[str] = Counter()

    @contextmanager
    def turn(self, client: str) -> Iterator[None]:
        """Count a request, which is answered until this is left, or refuse it. One that is refused does not count: who
        asks again and again while an answer of theirs is written would have used up their requests by then."""
        self._require_room(client)
        if self._requests:
            self._requests.use(client, 1)
        self._turns[client] += 1
        try:
            yield
        finally:
            self._turns[client] -= 1
            if not self._turns[client]:
                del self._turns[client]

    def _require_room(self, client: str) -> None:
        if self._max_streams and self._turns[client] >= self._max_streams:
            words = f"{self._max_streams} requests are answered already, the most for one client"
            raise LimitReached(f"{words}; try again when one ended", "too_many_streams", TURN_RETRY_SECONDS)
        for window, name in ((self._requests, "requests"), (self._tokens, "tokens")):
            wait = window.wait(client) if window else 0
            if window and wait:
                seconds = math.ceil(wait)
                words = f"more than {window.limit} {name} a minute; try again in {seconds} seconds"
                raise LimitReached(words, "rate_limit_exceeded", seconds)

    def spend(self, client: str, tokens: int) -> None:
        """Count tokens that were read and written for a client."""
        if self._tokens and tokens:
            self._tokens.use(client, tokens)

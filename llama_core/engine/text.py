"""Tokens → text: detokenize a reply while it is generated, and end it at a stop sequence. The page and programs both
read replies through `Reply`."""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from llama_core.engine.request import Token
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.tokenizer import Tokenizer


class TextToken(NamedTuple):
    """A token, and the text that became readable with it: a character of several tokens belongs to its last one."""

    token: Token
    text: str


@runtime_checkable
class TokenSource(Protocol):
    """What `Reply` needs of a request: `llama_core.engine.request`, or a stand-in in tests."""

    params: SamplingParams
    finish_reason: str | None

    def cancel(self) -> None:
        """Ask for an early end."""

    def batches(self, interval: float = 0.0) -> AsyncIterator[list[Token]]:
        """The tokens as they come, at least `interval` seconds apart."""


class Reply:
    """The text of a request while it is generated, up to a stop sequence (`SamplingParams.stop`).

    `begun_ids` are the tokens of a reply that goes on: a character that they leave incomplete is completed by the next
    tokens. `is_start`: it is a text of its own, and does not go on with the prompt's. A reply is read once, by
    `batches` or by `pieces`.
    """

    def __init__(
        self, request: TokenSource, tokenizer: Tokenizer, begun_ids: Iterable[int] = (), is_start: bool = True
    ):
        self.request = request
        self._decoder = tokenizer.stream(is_start)
        self._stop_filter = StopFilter(request.params.stop)
        self._held: deque[TextToken] = deque()
        self._sure = 0  # characters at the start of `_held` that no stop sequence can begin in any more
        for token_id in begun_ids:
            self._decoder.push(token_id)

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence ended the reply."""
        return self._stop_filter.found

    @property
    def finish_reason(self) -> str | None:
        """That of the request, but "stop" after a stop sequence; None while the reply is generated."""
        return "stop" if self.stopped else self.request.finish_reason

    def cancel(self) -> None:
        """Ask for an early end."""
        self.request.cancel()

    async def batches(self, interval: float = 0.0) -> AsyncIterator[list[TextToken]]:
        """The tokens that may be shown: the first as soon as there is one, then what came meanwhile, at least
        `interval` seconds apart.

        Tokens in which a stop sequence may have begun are held back. A stop sequence cancels the request; the token
        that it begins in comes with the text before it. Raises what the request raises, after what was held back.
        """
        try:
            async for batch in self.request.batches(interval):
                ready = [shown for token in batch for shown in self._push(token)]
                if ready:
                    yield ready
                if self.stopped:
                    self.cancel()
                    return
        except Exception:
            if self._held:
                yield list(self._held)
            raise
        if self._held:
            yield list(self._held)

    async def pieces(self, interval: float = 0.045) -> AsyncIterator[str]:
        """The same as text, without empty pieces. At the end, bytes that never became a character are U+FFFD."""
        async for batch in self.batches(interval):
            piece = "".join(text for _, text in batch)
            if piece:
                yield piece
        rest = "" if self.stopped else self._decoder.flush()
        if rest:
            yield rest

    def _push(self, token: Token) -> list[TextToken]:
        if self.stopped:
            return []
        self._held.append(TextToken(token, self._decoder.push(token.id)))
        self._sure += len(self._stop_filter.push(self._held[-1].text))
        ready = []
        while self._held and len(self._held[0].text) <= self._sure:
            ready.append(self._held.popleft())
            self._sure -= len(ready[-1].text)
        if self.stopped and self._sure:
            first = self._held[0]
            ready.append(first._replace(text=first.text[: self._sure]))
        return ready


class StopFilter:
    """Passes text on until one of `stops` is in it; holds back an end that may be the beginning of one."""

    def __init__(self, stops: Sequence[str]):
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """More text. What of it, and of what was held back, comes before any stop sequence."""
        if self.found:
            return ""
        self._held += text
        starts = [start for stop in self._stops if (start := self._held.find(stop)) >= 0]
        self.found = bool(starts)
        sure = min(starts) if starts else len(self._held) - self._unsure()
        piece, self._held = self._held[:sure], "" if self.found else self._held[sure:]
        return piece

    def flush(self) -> str:
        """At the end of the text: what was held back."""
        held, self._held = self._held, ""
        return held

    def _unsure(self) -> int:
        """How many characters at the end are the beginning of a stop sequence."""
        lengths = (size for stop in self._stops for size in range(1, len(stop)) if self._held.endswith(stop[:size]))
        return max(lengths, default=0)

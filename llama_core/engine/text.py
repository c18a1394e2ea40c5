"""Generated tokens → text: decoding as it grows, and stop strings."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from llama_core.engine.engine import Engine
from llama_core.engine.request import Generation
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.tokenizer import Tokenizer


def start_reply(engine: Engine, model: Any, messages: Sequence[Mapping[str, str]], params: SamplingParams) -> "Reply":
    """Ask `model` (a `Model`, of checkpoint.py) for its next message. Raises `ChatError`, `EngineError`."""
    return Reply(engine.submit(model.chat.prompt_ids(messages), params), model.tokenizer)


class Reply:
    """A reply as text. `generation` has the tokens and the timing."""

    def __init__(self, generation: Generation, tokenizer: Tokenizer):
        self.generation = generation
        self._tokenizer = tokenizer
        self._stopped = False

    @property
    def finish_reason(self) -> str | None:
        """ "stop", "length", "cancelled" or "error"; None while the reply is written."""
        return "stop" if self._stopped else self.generation.finish_reason

    def cancel(self) -> None:
        """Ask for an early end."""
        self.generation.cancel()

    async def pieces(self, interval: float = 0.045) -> AsyncIterator[str]:
        """The text in pieces: the first as soon as there is one, the next ones `interval` seconds apart.

        A stop string ends the reply and is not part of it. Raises what the generation raises.
        """
        stream, cutter = self._tokenizer.stream(), StopStrings(self.generation.params.stop)
        async for batch in self.generation.batches(interval):
            piece = cutter.push("".join([stream.push(token.id) for token in batch]))
            if piece:
                yield piece
            if cutter.found:
                self._stopped = True
                self.cancel()
                return
        rest = cutter.push(stream.flush()) + cutter.flush()
        self._stopped = self._stopped or cutter.found
        if rest:
            yield rest


class StopStrings:
    """Passes text on until one of `stops` is in it; holds back an end that may be the beginning of one."""

    def __init__(self, stops: Sequence[str]):
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What may be shown of the text so far and was not before."""
        if self.found:
            return ""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        self.found = bool(places)
        shown = min(places) if places else len(self._held) - self._unsure()
        piece, self._held = self._held[:shown], "" if self.found else self._held[shown:]
        return piece

    def flush(self) -> str:
        """At the end: what was held back."""
        held, self._held = self._held, ""
        return held

    def _unsure(self) -> int:
        """How many characters at the end are the beginning of a stop string."""
        lengths = (size for stop in self._stops for size in range(1, len(stop)) if self._held.endswith(stop[:size]))
        return max(lengths, default=0)

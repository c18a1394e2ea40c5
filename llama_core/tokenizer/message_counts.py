"""How many tokens texts have, counted once for each text, and how many a template adds."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from llama_core.tokenizer.tokenizer import Tokenizer

# The remembered texts have this many characters together: about ten long chats.
MAX_CHARACTERS = 4 * 1024**2


@dataclass(frozen=True)
class Overhead:
    """What a template adds: tokens per message and per prompt. `drops_thoughts`: it leaves the thoughts of earlier
    replies out."""

    per_message: int
    per_prompt: int
    drops_thoughts: bool


class MessageCounts:
    """The number of tokens of each text, remembered for the texts used last. Several threads may call it."""

    def __init__(self, tokenizer: Tokenizer, max_characters: int = MAX_CHARACTERS):
        self._tokenizer, self._room = tokenizer, max_characters
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, text: str) -> int:
        """The number of tokens of a text in which no marker is a special token."""
        with self._lock:
            count = self._counts.get(text)
            if count is not None:
                self._counts.move_to_end(text)
                return count
        count = len(self._tokenizer.encode(text))
        with self._lock:
            self._remember(text, count)
        return count

    def _remember(self, text: str, count: int) -> None:
        if text not in self._counts:
            self._room -= len(text)
        self._counts[text] = count
        while self._room < 0:
            oldest, _ = self._counts.popitem(last=False)
            self._room += len(oldest)

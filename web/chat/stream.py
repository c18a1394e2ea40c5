"""A reply as it is streamed to the browser: lines of JSON to which more are added; the page reads the new ones.

The first line names the conversation and the message, then come tokens and marks, the last line says how it ended.
"""

import math
import time
from collections.abc import Sequence

from llama_core.engine.request import Token
from llama_core.tokenizer.tokenizer import Tokenizer
from web.chat.codec import dump, record_to_json
from web.chat.conversation import Alternative, Conversation, Record


class Stream:
    """The growing text, and the number of tokens in it. `node` is the number of the message that grows."""

    def __init__(self, conversation: Conversation, node: int):
        head = {
            "chat": conversation.id,
            "node": node,
            "request": conversation.request,
            "run": time.time_ns() // 1_000_000,
        }
        self.text = dump(head) + "\n"
        self.count = 0

    def add(self, record: Record) -> None:
        """One more token."""
        self.text += dump(record_to_json(record)) + "\n"
        self.count += 1

    def mark(self, words: str) -> None:
        """A control was moved here."""
        self.text += dump({"mark": words}) + "\n"

    def end(self, finish: str, problem: str = "", facts: str = "", seed: str = "", drop: bool = False) -> None:
        """The last line. `seed` is the one the reply was drawn with; `drop`: the page forgets the reply, no word has
        come."""
        end = {"finish": finish, "problem": problem, "facts": facts, "seed": seed, "drop": drop}
        self.text += dump({"end": {name: value for name, value in end.items() if value}}) + "\n"


class Labels:
    """What the tokens of one vocabulary are called on the page."""

    def __init__(self, tokenizer: Tokenizer):
        self._bytes = tokenizer.token_bytes
        self._special = {token_id: marker for marker, token_id in tokenizer.special_tokens.items()}
        self._known: dict[int, str] = {}

    def of(self, token_id: int) -> str:
        """The token's text; the marker of a special one; bytes that are no character by their numbers."""
        label = self._known.get(token_id)
        if label is None:
            label = self._known[token_id] = self._spell(token_id)
        return label

    def _spell(self, token_id: int) -> str:
        if token_id in self._special:
            return self._special[token_id]
        raw = self._bytes[token_id] if token_id < len(self._bytes) else b""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = ""
        if text and (text.isprintable() or text.strip() == ""):
            return text
        return "".join(f"\\x{byte:02x}" for byte in raw) or f"#{token_id}"


def record_of(token: Token, text: str, labels: Labels) -> Record:
    """What the page keeps of an engine's `Token`; `text` is what has become readable with it."""
    others = tuple(
        Alternative(other.id, labels.of(other.id), share(other.logprob), share(other.final_logprob))
        for other in token.top
    )
    own = None if token.logprob is None else share(token.logprob)
    final = None if token.final_logprob is None else share(token.final_logprob)
    return Record(token.id, text, own, final, others)


def share(logprob: float) -> float:
    """A natural logarithm as a share of 1, to four places."""
    return round(min(1.0, math.exp(logprob)), 4)


def force(records: Sequence[Record], index: int, token_id: int) -> tuple[Record, ...] | None:
    """`records` up to `index`, where the alternative `token_id` stands instead; None if it is not one of those."""
    old = records[index]
    for other in old.alternatives:
        if other.id == token_id:
            new = Record(other.id, "", other.share, other.final_share, old.alternatives, forced=True)
            return (*records[:index], new)
    return None


def with_texts(records: Sequence[Record], tokenizer: Tokenizer, is_start: bool = True) -> tuple[Record, ...]:
    """The records with the texts that their ids decode to one after the other; `is_start` as `Tokenizer.stream`."""
    decoder = tokenizer.stream(is_start)
    return tuple(record._replace(text=decoder.push(record.id)) for record in records)

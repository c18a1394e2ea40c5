"""Text ⇄ token ids: `Tokenizer` encodes and decodes, `TextStream` decodes a reply while it is written.

What a person types is encoded by `encode`, where a marker such as `<|eot_id|>` is plain text. Only `encode_template`
knows special tokens; text from outside gets into a template through `shield`.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llama_core.runtime.files import ModelFileError

# Private-use characters that stand for the first characters of special tokens in shielded text.
STAND_INS = range(0x10F800, 0x10FFFE)


class TokenizerError(ModelFileError):
    """A tokenizer that cannot be used; one line that names the file, what was found and the remedy."""


@dataclass(frozen=True)
class Manners:
    """How a special token behaves in a template: takes the white space around it along, or counts as a whole word
    only."""

    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary with its two directions.

    `encode_plain(text, is_start)` gives the ids of text without special tokens; `is_start` is whether the text begins
    the sequence, where some tokenizers put a space. `token_bytes[id]` is what a token stands for, empty for special
    ones. `special_tokens` are spellings and ids of the tokens that steer the model, `manners` are those of them that
    have some. `adds_leading_space` says that the first space of a text is the tokenizer's own, `begins_with_bos` that
    a text without a template begins with `bos_id`.
    """

    encode_plain: Callable[[str, bool], list[int]]
    token_bytes: Sequence[bytes]
    special_tokens: dict[str, int]
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    adds_leading_space: bool = False
    begins_with_bos: bool = True
    manners: dict[str, Manners] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self.token_bytes)

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """The ids of `text`, in which no marker is a special token; with `bos` the begin-of-text token before it.

        Raises `TokenizerError` if there is no such token.
        """
        if bos and self.bos_id is None:
            raise TokenizerError("this tokenizer has no begin-of-text token; use bos=False")
        ids = self.encode_plain(without_surrogates(text), True)
        return [self.bos_id, *ids] if bos else ids

    def shield(self, text: str) -> str:
        """`text` so that no special token can begin in it, for use in a template; `encode_template` undoes it."""
        return without_surrogates(text).translate(self._shielding)

    def unshield(self, text: str) -> str:
        """The text as it was before `shield`."""
        return text.translate(self._unshielding)

    def encode_template(self, text: str) -> list[int]:
        """The ids of a rendered template, in which markers are special tokens unless shielded."""
        ids, place = [], 0
        for marker in self._markers.finditer(text):
            (start, end), manners = marker.span(), self.manners.get(marker.group(), Manners())
            if start < place or (manners.single_word and _is_inside_word(text, start, end)):
                continue
            if manners.lstrip:
                start = place + len(text[place:start].rstrip())
            if manners.rstrip:
                end = _SPACE.match(text, end).end()
            ids += self._encode_between(text, place, start)
            ids.append(self.special_tokens[marker.group()])
            place = end
        return ids + self._encode_between(text, place, len(text))

    def _encode_between(self, text: str, start: int, end: int) -> list[int]:
        return self.encode_plain(self.unshield(text[start:end]), start == 0) if start < end else []

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids, special tokens left out; invalid UTF-8 becomes U+FFFD.

        Raises `TokenizerError` for an id that is not in the vocabulary.
        """
        stream = self.stream()
        return "".join([stream.push(token_id) for token_id in ids]) + stream.flush()

    def stream(self) -> "TextStream":
        """A decoder for ids that come one by one."""
        return TextStream(self)

    @cached_property
    def _markers(self) -> re.Pattern:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def _shielding(self) -> dict[int, str]:
        firsts = sorted({marker[0] for marker in self.special_tokens})
        return {number: "\ufffd" for number in STAND_INS} | {
            ord(first): chr(number) for first, number in zip(firsts, STAND_INS, strict=False)
        }

    @cached_property
    def _unshielding(self) -> dict[int, str]:
        return {ord(stand_in): chr(first) for first, stand_in in self._shielding.items() if stand_in != "\ufffd"}


_SPACE = re.compile(r"\s*")


def _is_inside_word(text: str, start: int, end: int) -> bool:
    return bool(re.match(r"\w", text[start - 1 : start]) or re.match(r"\w", text[end : end + 1]))


class TextStream:
    """Decodes a reply piece by piece: bytes of a character that is not complete wait for the rest."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = tokenizer.adds_leading_space

    def push(self, token_id: int) -> str:
        """The text that is complete with this token; often all of it, sometimes none."""
        if not 0 <= token_id < self._tokenizer.vocab_size:
            raise TokenizerError(f"token id {token_id} is not in the vocabulary of {self._tokenizer.vocab_size}")
        new = self._tokenizer.token_bytes[token_id]
        if self._strip and new:
            new, self._strip = new.removeprefix(b" "), False
        return self._decoder.decode(new)

    def flush(self) -> str:
        """At the end: U+FFFD for what never became a character."""
        return self._decoder.decode(b"", final=True)


def without_surrogates(text: str) -> str:
    """Half characters, which JSON can carry and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

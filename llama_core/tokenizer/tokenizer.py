"""Text ⇄ token ids: `Tokenizer` encodes and decodes, `TextStream` decodes a reply token by token.

Text that a person typed goes through `encode`, where a marker such as `<|eot_id|>` is plain text. Only
`encode_template` turns markers into special tokens; typed text enters a template through `shield`, which hides markers.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llama_core.runtime.files import ModelFileError

# Private-use characters. In shielded text each replaces one character with which special tokens begin.
STAND_INS = range(0x10F800, 0x10FFFE)
TYPED_STAND_INS = {number: "\ufffd" for number in STAND_INS}

# Markers that a reasoning model writes around its thoughts. Chat templates search earlier replies for them, to leave
# the thoughts out, so in replies they are not shielded.
THOUGHT_MARKERS = re.compile(r"(</?think>)")

_WHITE_SPACE = re.compile(r"\s*")


class TokenizerError(ModelFileError):
    """A tokenizer that cannot be used; one line that names the file, what was found and the remedy."""


@dataclass(frozen=True)
class AddedTokenFlags:
    """How a special token is matched in a template: whether it swallows the white space to its left or right, and
    whether it counts only as a whole word. The names are those of `added_tokens` in a `tokenizer.json`."""

    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, with the functions that encode and decode.

    - `encode_plain(text, is_start)` returns the ids of text without special tokens. `is_start` says whether the text
      begins the sequence; some tokenizers put a space there.
    - `token_bytes[id]` is what a token decodes to; empty for special tokens.
    - `special_tokens` maps the spelling of each special token to its id.
    - `adds_leading_space`: the first space of a decoded text was added by the tokenizer and is removed again.
    - `begins_with_bos`: a text without a chat template begins with `bos_id`.
    - `added_token_flags` has an entry for each special token whose flags are not all false.
    - `role_tokens` maps the roles that the tokenizer's files name (`unk_token`, `pad_token`, ...) to spellings, for
      chat templates.
    - `model_vocab_size` is the vocabulary size of the model, which can be larger: its embedding may be padded. Ids of
      the padding decode to nothing.
    """

    encode_plain: Callable[[str, bool], list[int]]
    token_bytes: Sequence[bytes]
    special_tokens: dict[str, int]
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    adds_leading_space: bool = False
    begins_with_bos: bool = True
    added_token_flags: dict[str, AddedTokenFlags] = field(default_factory=dict)
    role_tokens: dict[str, str] = field(default_factory=dict)
    model_vocab_size: int = 0

    @property
    def vocab_size(self) -> int:
        """The largest id plus one."""
        return len(self.token_bytes)

    @cached_property
    def longest_token(self) -> int:
        """How many bytes of text a token stands for at most."""
        return max(map(len, self.token_bytes), default=1)

    @property
    def writable(self) -> list[bool]:
        """For each id whether there is a token with it, text or special: the ids of some tokenizers have holes."""
        special = set(self.special_tokens.values())
        return [bool(text) or token_id in special for token_id, text in enumerate(self.token_bytes)]

    def bytes_of(self, token_id: int) -> bytes:
        """What a token decodes to; nothing for special tokens and for the padding of the model's vocabulary.

        Raises `TokenizerError` for an id that neither the tokenizer nor the model has.
        """
        if 0 <= token_id < self.vocab_size:
            return self.token_bytes[token_id]
        if 0 <= token_id < self.model_vocab_size:
            return b""
        raise TokenizerError(
            f"token id {token_id} is not in the vocabulary of {max(self.vocab_size, self.model_vocab_size)}"
        )

    def special_id(self, text: str) -> int | None:
        """The id of the special token with this spelling, white space around it aside; None if there is none.

        Special tokens decode to nothing, so as a stop sequence their text would never be found: stop at this id.
        """
        return self.special_tokens.get(text, self.special_tokens.get(text.strip()))

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """The ids of `text`, in which no marker becomes a special token. `bos` puts the begin-of-text token first.

        Raises `TokenizerError` if `bos` is asked for and the tokenizer has no such token.
        """
        if not bos:
            return self.encode_plain(without_surrogates(text), True)
        if self.bos_id is None:
            raise TokenizerError("this tokenizer has no begin-of-text token; use bos=False")
        return [self.bos_id, *self.encode(text)]

    def shield(self, text: str) -> str:
        """`text` for use in a template, changed so that no special token can begin in it. `encode_template` undoes
        the change."""
        return without_surrogates(text).translate(self._shield_table)

    def shield_reply(self, text: str) -> str:
        """An earlier reply of the model for use in a template: shielded, except for the markers of thoughts."""
        parts = THOUGHT_MARKERS.split(text)  # text, marker, text, marker, ..., text
        return "".join(part if i % 2 else self.shield(part) for i, part in enumerate(parts))

    def shield_markers(self, text: str, is_reply: bool = False) -> str:
        """As `shield` or `shield_reply`, but changed only where a whole marker is written. Templates see all else as it
        was typed, and could put a marker together from parts: the caller has to check."""
        text = without_surrogates(text).translate(TYPED_STAND_INS)

        def hide(marker: re.Match[str]) -> str:
            found = marker.group()
            is_thought = is_reply and THOUGHT_MARKERS.fullmatch(found)
            return found if is_thought else found[0].translate(self._shield_table) + found[1:]

        return self._markers.sub(hide, text)

    def markers_in(self, text: str) -> list[str]:
        """The special tokens in a rendered template, in their order."""
        return self._markers.findall(text)

    def unshield(self, text: str) -> str:
        """The text as it was before `shield`."""
        return text.translate(self._unshield_table)

    def encode_template(self, text: str) -> list[int]:
        """The ids of a rendered template, in which markers are special tokens unless they are shielded."""
        ids: list[int] = []
        position = 0
        for marker in self._markers.finditer(text):
            (start, end), flags = marker.span(), self.added_token_flags.get(marker.group(), AddedTokenFlags())
            if start < position or (flags.single_word and _is_inside_word(text, start, end)):
                continue
            if flags.lstrip:
                start = position + len(text[position:start].rstrip())
            if flags.rstrip:
                end = _skip_white_space(text, end)
            ids += self._encode_between(text, position, start)
            ids.append(self.special_tokens[marker.group()])
            position = end
        return ids + self._encode_between(text, position, len(text))

    def _encode_between(self, text: str, start: int, end: int) -> list[int]:
        return self.encode_plain(self.unshield(text[start:end]), start == 0) if start < end else []

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids without special tokens. Invalid UTF-8 becomes U+FFFD.

        Raises `TokenizerError` for an id that is not in the vocabulary.
        """
        stream = self.stream()
        return "".join([stream.push(token_id) for token_id in ids]) + stream.flush()

    def stream(self, is_start: bool = True) -> "TextStream":
        """A decoder for ids that arrive one by one. At the start of a text, the space that encoding may have put before
        it is taken away again; ids that go on with a text keep theirs."""
        return TextStream(self, is_start)

    @cached_property
    def _markers(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def _shield_table(self) -> dict[int, str]:
        firsts = sorted({marker[0] for marker in self.special_tokens})
        return TYPED_STAND_INS | {ord(first): chr(number) for first, number in zip(firsts, STAND_INS, strict=False)}

    @cached_property
    def _unshield_table(self) -> dict[int, str]:
        return {ord(stand_in): chr(first) for first, stand_in in self._shield_table.items() if stand_in != "\ufffd"}


def _skip_white_space(text: str, position: int) -> int:
    found = _WHITE_SPACE.match(text, position)
    return found.end() if found else position


def _is_inside_word(text: str, start: int, end: int) -> bool:
    return bool(re.match(r"\w", text[start - 1 : start]) or re.match(r"\w", text[end : end + 1]))


class TextStream:
    """Decodes a reply token by token. The bytes of an incomplete character wait for the rest of it."""

    def __init__(self, tokenizer: Tokenizer, is_start: bool):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip_space = is_start and tokenizer.adds_leading_space

    def push(self, token_id: int) -> str:
        """The text that this token completes: often its own, sometimes none.

        Raises `TokenizerError` for an id that is not in the vocabulary.
        """
        new = self._tokenizer.bytes_of(token_id)
        if self._strip_space and new:
            new, self._strip_space = new.removeprefix(b" "), False
        return self._decoder.decode(new)

    def flush(self) -> str:
        """At the end of the reply: U+FFFD for a character that was never completed, else nothing."""
        return self._decoder.decode(b"", final=True)


def without_surrogates(text: str) -> str:
    """`text` with lone surrogates (valid in JSON, not in UTF-8) replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

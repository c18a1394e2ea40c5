"""Grammars: what the text of a reply must be, compiled by `llguidance` against a vocabulary. They say after each token
which ids may follow."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from llama_core.errors import UserError

# What a stranger may send. Larger grammars are refused, and those that would take long to follow: with these limits
# (`(a{1000}){1000}` is refused after 0.2 s, where those of llguidance let it have 2.7 s and then 0.1 s a token).
MAX_CHARACTERS = 65_536
LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)
# Numbers are told to be multiples by an automaton with a state for each remainder, which no limit above bounds.
MAX_MULTIPLE = 1000

# Between two parts of JSON. Without a bound a weak model may go on with white space for ever.
JSON_OPTIONS: Any = {"whitespace_pattern": r"[ \n\t]{0,20}"}
# As `json.dumps` writes it, and as models are shown it.
ONE_LINE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class GrammarError(UserError):
    """A grammar that cannot be compiled or followed; the message names it and the remedy."""


@runtime_checkable
class Vocabulary(Protocol):
    """What grammars need of a tokenizer: `llama_core.tokenizer.Tokenizer` has it."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """What each token decodes to; nothing for special tokens."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The id of each special token by its spelling."""

    @property
    def encode_plain(self) -> Callable[[str, bool], list[int]]:
        """A function that gives the ids of a text, and is told whether it begins a sequence."""


class NextTokens(NamedTuple):
    """Which ids of the vocabulary may come next, ends aside, and whether the reply may end here. Where only one text
    can follow, it has to be written in the tokens that the tokenizer makes of it."""

    allowed: Bool[np.ndarray, "V"]
    may_end: bool


class GrammarState:
    """How far one reply is in a grammar, and what may come `next`."""

    def __init__(self, matcher: LLMatcher, name: str, vocab_size: int):
        self._matcher, self._name, self._vocab_size = matcher, name, vocab_size
        self.next = self._find_next()

    def accept(self, token_id: int) -> NextTokens:
        """What may come after this token. Raises `GrammarError` if it was not allowed, or if the grammar is too
        complex to go on; then the state is of no use any more."""
        self._matcher.consume_token(token_id)
        self.next = self._find_next()
        return self.next

    def _find_next(self) -> NextTokens:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little").astype(bool)
        may_end, problem = self._matcher.is_accepting(), self._matcher.get_error()
        if problem and "NoExtension" not in problem:
            raise GrammarError(f"{self._name} cannot be followed ({_one_line(problem)}); simplify it")
        if problem or not (allowed.any() or may_end):
            raise GrammarError(f"{self._name} allows no text that the model's vocabulary can write; change it")
        return NextTokens(allowed, may_end)


class Grammar:
    """A compiled grammar, from `GrammarCompiler`. It may be used for many replies, from any thread."""

    def __init__(self, matcher: LLMatcher, name: str, vocab_size: int):
        self._matcher, self._name, self.vocab_size = matcher, name, vocab_size
        GrammarState(matcher, name, vocab_size)  # finds the first mask, so that whatever is wrong is told here

    def begin(self, reply_ids: Iterable[int] = ()) -> GrammarState:
        """The state of a new reply, or of one that was begun with these tokens.

        Raises `GrammarError` if the grammar does not allow them, or allows nothing after them.
        """
        matcher = self._matcher.deep_copy()
        if not matcher.consume_tokens(list(reply_ids)):
            raise GrammarError(f"{self._name} does not allow the beginning of the reply; leave out one of the two")
        state = GrammarState(matcher, self._name, self.vocab_size)
        if not state.next.allowed.any():
            raise GrammarError(f"{self._name} allows nothing after the beginning of the reply; it is complete")
        return state


class GrammarCompiler:
    """Compiles grammars for one vocabulary of `vocab_size` ids (the model's, which may be larger than the tokenizer's).
    To make one takes up to a second, to compile a grammar milliseconds, at worst some tenths of a second.

    Every grammar is about the whole reply. A special token is never part of it, unless a Lark grammar names it.
    All methods raise `GrammarError` for what cannot be compiled.
    """

    def __init__(self, vocabulary: Vocabulary, vocab_size: int):
        self._vocab_size = vocab_size
        wrapper = TokenizerWrapper(_WithEnd(vocabulary, vocab_size))
        self._tokenizer = LLTokenizer(wrapper, n_vocab=vocab_size + 1, eos_token=vocab_size)

    def json_object(self) -> Grammar:
        """Any JSON object."""
        return self.json_schema({"type": "object"})

    def json_schema(self, schema: Mapping[str, Any], on_one_line: bool = False) -> Grammar:
        """JSON that is valid under this schema; `on_one_line`: with a space after commas and colons and nowhere else.
        Keywords that llguidance does not know, such as `not` and `uniqueItems`, are refused, because what cannot be
        enforced is not promised."""
        name = "the JSON schema"
        try:
            text = json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as problem:
            raise GrammarError(f"{name} is not JSON ({_one_line(str(problem))}); send a JSON object") from None
        if not isinstance(schema, Mapping):
            raise GrammarError(f"{name} is {_one_line(text)}; expected a JSON object")
        _check_size(name, text)
        _check_multiples(schema)
        try:
            source = LLMatcher.grammar_from_json_schema(text, ONE_LINE if on_one_line else JSON_OPTIONS)
        except ValueError as problem:  # it is nested too deeply
            raise GrammarError(f"{name} cannot be used ({_one_line(str(problem))}); change that part of it") from None
        return self._compile(name, source)

    def regex(self, pattern: str) -> Grammar:
        """Text that this regular expression matches from its beginning to its end, in the syntax of Rust's `regex`:
        without look-around and back references."""
        name = "the regular expression"
        _check_size(name, pattern)
        return self._compile(name, LLMatcher.grammar_from_regex(pattern))

    def choice(self, texts: Sequence[str]) -> Grammar:
        """One of these texts."""
        name = "the choice"
        if not texts or isinstance(texts, str) or not all(isinstance(text, str) and text for text in texts):
            raise GrammarError(f"{name} is {_one_line(repr(texts))}; expected at least one text, and none empty")
        _check_size(name, "".join(texts))
        # One word of the grammar, which an automaton follows: of rules there may be 2000 at a place.
        words = " | ".join(map(json.dumps, texts))
        return self._compile(name, LLMatcher.grammar_from_lark(f"start: TEXT\nTEXT: {words}"))

    def lark(self, text: str) -> Grammar:
        """Text in a context-free grammar in llguidance's form of Lark, where `<|name|>` and `<[7]>` are special tokens.
        For programs' own grammars: how long a stranger's would take is not bounded."""
        name = "the Lark grammar"
        _check_size(name, text)
        return self._compile(name, LLMatcher.grammar_from_lark(text))

    def _compile(self, name: str, source: str) -> Grammar:
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise GrammarError(f"{name} cannot be used ({_one_line(matcher.get_error())}); change that part of it")
        return Grammar(matcher, name, self._vocab_size)


class _WithEnd:
    """The vocabulary as llguidance wants it, with one more token as the end: which ids end a reply is the engine's to
    say, and a request's."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, vocab_size: int):
        known = list(vocabulary.token_bytes[:vocab_size])
        self.tokens = [*known, *[b""] * (vocab_size - len(known)), b"<end of the reply>"]
        self.eos_token_id = vocab_size
        self.special_token_ids = [vocab_size]
        for spelling, token_id in vocabulary.special_tokens.items():
            if token_id < vocab_size:
                self.tokens[token_id] = spelling.encode()
                self.special_token_ids.append(token_id)
        self._encode_plain = vocabulary.encode_plain
        self._ids = {text: token_id for token_id, text in enumerate(known) if text}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: str) -> list[int]:
        """The ids of a piece of text that has to come. They spell it byte by byte: normalised it would be another."""
        data, ids = text.encode(), self._encode_plain(text, False)
        return ids if b"".join(self.tokens[token_id] for token_id in ids) == data else self._longest_first(data)

    def _longest_first(self, data: bytes) -> list[int]:
        ids: list[int] = []
        while data:
            lengths = range(min(len(data), self._longest), 0, -1)
            found = next((data[:length] for length in lengths if data[:length] in self._ids), b"")
            if not found:
                break  # no token begins like this, so the matcher allows none
            ids.append(self._ids[found])
            data = data[len(found) :]
        return ids


def _check_size(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise GrammarError(f"{name} is {_one_line(repr(text))}; expected a text")
    if len(text) > MAX_CHARACTERS:
        raise GrammarError(f"{name} has {len(text)} characters; at most {MAX_CHARACTERS} may be")


def _check_multiples(schema: Mapping[str, Any]) -> None:
    """All of them together, because `allOf` can demand several of one number."""
    remaining: list[Any] = [schema]
    numerator = denominator = 1
    while remaining:
        part = remaining.pop()
        if isinstance(part, Mapping):
            multiple = part.get("multipleOf")
            if isinstance(multiple, (int, float)) and multiple > 0:
                exact = Fraction(str(multiple))
                numerator = math.lcm(numerator, exact.numerator)
                denominator = math.lcm(denominator, exact.denominator)
            remaining += part.values()
        elif isinstance(part, (list, tuple)):
            remaining += part
    if max(numerator, denominator, numerator * denominator) > MAX_MULTIPLE:
        raise GrammarError(
            f"the JSON schema's multipleOf need {numerator * denominator} remainders; at most {MAX_MULTIPLE} may be: "
            "use smaller or fewer of them"
        )


def _one_line(text: str) -> str:
    return " ".join(text.replace("<non-verbose/>", "").split())[:200]

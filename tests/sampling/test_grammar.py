"""Grammars: what they allow after each token, and what is refused before any reply begins."""

import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.sampling.grammar import MAX_CHARACTERS, GrammarCompiler, GrammarError

# The bytes, a few words, and two special tokens.
WORDS = [b"yes", b"no", b'{"', b'": ', b"12", "é".encode()]
SPECIAL = {"<|end|>": 262, "<tool>": 263}
SIZE = 270  # padded, as the embeddings of many models are
VOCABULARY = SimpleNamespace(
    token_bytes=[*(bytes([i]) for i in range(256)), *WORDS, b"", b""],
    special_tokens=SPECIAL,
    encode_plain=lambda text, is_start: list(text.encode()),
)


@pytest.fixture(scope="module")
def compiler():
    return GrammarCompiler(VOCABULARY, SIZE)


def texts_of(next_tokens):
    return {VOCABULARY.token_bytes[token_id].decode() for token_id in next_tokens.allowed.nonzero()[0]}


def accepts(grammar, text):
    """Whether the grammar lets this text be written byte by byte and then end."""
    state = grammar.begin()
    for byte in text.encode():
        if not state.next.allowed[byte]:
            return False
        state.accept(byte)
    return state.next.may_end


def test_only_what_continues_the_grammar_is_allowed(compiler):
    state = compiler.choice(["yes", "yellow", "no"]).begin()
    assert texts_of(state.next) == {"yes", "y", "no", "n"} and not state.next.may_end
    state.accept(ord("y"))
    assert texts_of(state.next) == {"e"}
    state.accept(ord("e"))
    assert texts_of(state.next) == {"s", "l"}
    assert texts_of(state.accept(ord("s"))) == set() and state.next.may_end


def test_json_on_one_line_is_that_of_json_dumps(compiler):
    grammar = compiler.json_schema({"type": "object"}, on_one_line=True)
    value = {"a": [1, {}], "b": {"c": "x, y: z"}}
    assert accepts(grammar, json.dumps(value))
    assert not accepts(grammar, json.dumps(value, indent=1))
    assert not accepts(grammar, json.dumps(value, separators=(",", ":")))


def test_one_grammar_serves_many_replies(compiler):
    grammar = compiler.regex("a+")
    states = [grammar.begin() for _ in range(3)]
    states[0].accept(ord("a"))
    assert [state.next.may_end for state in states] == [True, False, False]


def test_special_tokens_and_padding_are_no_text(compiler):
    allowed = compiler.regex(r"(?s:.)*").begin().next.allowed
    assert allowed.shape == (SIZE,) and not allowed[list(SPECIAL.values())].any() and not allowed[264:].any()


def test_a_lark_grammar_can_name_special_tokens(compiler):
    state = compiler.lark('start: <tool> "yes"').begin()
    assert state.next.allowed.nonzero()[0].tolist() == [SPECIAL["<tool>"]]
    assert texts_of(state.accept(SPECIAL["<tool>"])) == {"y"}  # as the tokenizer above would begin it


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4), st.text(max_size=6))
def test_a_choice_is_one_of_its_texts_and_no_other(options, other):
    options = [text.encode("utf-8", "ignore").decode() for text in options]
    options = [text for text in options if text] or ["a"]
    grammar = GrammarCompiler(VOCABULARY, SIZE).choice(options)
    assert all(accepts(grammar, text) for text in options)
    other = other.encode("utf-8", "ignore").decode()
    assert accepts(grammar, other) == (other in options)


def test_a_choice_may_be_of_thousands(compiler):
    grammar = compiler.choice([f"option {i}" for i in range(5000)])
    assert accepts(grammar, "option 4999") and not accepts(grammar, "option 5000") and not accepts(grammar, "option ")


@pytest.mark.parametrize("pattern", ["a(b|c)*d?", r"\d{2,3}-[^x]", "é|ü+"])
@pytest.mark.parametrize("text", ["a", "abcbd", "ad", "12-y", "1-y", "123-x", "é", "üü", "üé", ""])
def test_a_regular_expression_matches_from_beginning_to_end(compiler, pattern, text):
    assert accepts(compiler.regex(pattern), text) == bool(re.fullmatch(pattern, text))


def test_a_begun_reply_counts(compiler):
    grammar = compiler.json_schema({"type": "object", "properties": {"a": {"const": 12}}, "required": ["a"]})
    assert "1" in texts_of(grammar.begin(b'{"a":').next) and "{" not in texts_of(grammar.begin(b'{"a":').next)
    with pytest.raises(GrammarError, match="does not allow the beginning of the reply"):
        grammar.begin(b'{"b":x')
    with pytest.raises(GrammarError, match="allows nothing after the beginning of the reply"):
        compiler.choice(["yes"]).begin([256])


def nested(depth):
    schema = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema, words",
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "strange"}, "strange"),
        ({"type": "string", "pattern": "a("}, "the JSON schema cannot be used"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$ref": "#"}, "the JSON schema"),
        ({"enum": ["x" * MAX_CHARACTERS]}, f"at most {MAX_CHARACTERS}"),
        ({"const": {1}}, "is not JSON"),
        (nested(400), "the JSON schema cannot be used"),
        (nested(10_000), "is not JSON"),
        ({"type": "integer", "multipleOf": 9_999_991}, "remainders"),
        ({"allOf": [{"type": "integer", "multipleOf": 97}, {"multipleOf": 89}]}, "8633 remainders"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("unchecked_types")
def test_a_schema_that_cannot_be_used_is_named_in_one_line(compiler, schema, words):
    with pytest.raises(GrammarError, match=re.escape(words)) as caught:
        compiler.json_schema(schema)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 320


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda compiler: compiler.regex("a("), "unclosed group"),
        (lambda compiler: compiler.regex("(?=a)b"), "look-around"),
        (lambda compiler: compiler.regex("(a{1000}){1000}").begin(b"aaa"), "the regular expression"),
        (lambda compiler: compiler.regex("(" * 60_000), "the regular expression cannot be used"),
        (lambda compiler: compiler.regex("a" * (MAX_CHARACTERS + 1)), f"at most {MAX_CHARACTERS}"),
        (lambda compiler: compiler.choice([]), "expected at least one text"),
        (lambda compiler: compiler.choice(["a", ""]), "none empty"),
        (lambda compiler: compiler.lark("start: missing"), "missing"),
        (lambda compiler: compiler.lark("start: " + "(" * 5000 + '"a"' + ")" * 5000), "the Lark grammar"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_named(compiler, make, words):
    with pytest.raises(GrammarError, match=words):
        make(compiler)


def test_text_that_a_tokenizer_would_normalise_is_written_all_the_same():
    """Here é becomes e."""
    normalising = SimpleNamespace(
        token_bytes=VOCABULARY.token_bytes,
        special_tokens=SPECIAL,
        encode_plain=lambda text, is_start: list(text.replace("é", "e").encode()),
    )
    state = GrammarCompiler(normalising, SIZE).choice(["néé"]).begin()
    for token_id in (ord("n"), 261, 261):
        assert state.next.allowed.nonzero()[0].tolist() == [token_id]
        state.accept(token_id)
    assert state.next.may_end


def test_text_that_the_vocabulary_cannot_write_is_refused():
    letters = SimpleNamespace(token_bytes=[b"a", b"b"], special_tokens={}, encode_plain=lambda text, is_start: [])
    with pytest.raises(GrammarError, match="vocabulary"):
        GrammarCompiler(letters, 2).regex("c+")
    with pytest.raises(GrammarError, match="vocabulary"):
        GrammarCompiler(letters, 2).regex("ac").begin().accept(0)
